"""An estimator of one's own: how much likelier the answer is for its subject than for other subjects.

    curate score popQA.tsv --by contrast_estimator:ContrastEstimator --model MODEL --set foils=8 -o scored.parquet

The score is log p(answer | question) - log mean_k p(answer | question about subject k), in nats, over K other subjects
of the same relation that have other answers (after Holtzman et al. 2021, domain-conditional PMI). How usual an answer
is falls out of it: "association football" is as likely for everybody. With --shots 4 the questions are asked after four
solved examples of the relation, as `loss` asks them.

It is the whole of a plug-in: its settings, what it draws from the dataset, its fingerprint, its scores.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import curate
from curate.estimators.base import ModelEstimator, ModelSettings
from curate.prompts import Shots, draw_exemplars
from curate.settings import option

MOST_SUBJECTS = 64
"""Subjects of a relation that foils are taken from."""


@dataclass(frozen=True)
class ContrastSettings(ModelSettings):
    """Which model is asked, about how many other subjects, and after how many solved examples."""

    foils: int = option(8, "Other subjects of the relation that the question is asked about too.", least=1)
    shots: int = option(0, "Solved examples of the relation before each question.", least=0)


class ContrastEstimator(ModelEstimator):
    """Scores an example by how much likelier its answer is for its subject than for others."""

    Settings = ContrastSettings
    name = "contrast"
    evidence: Mapping[str, str] = {"nats": "float64", "foils": "int64"}
    settings: ContrastSettings
    subjects: Mapping[str, Sequence[tuple[str, frozenset[str]]]] = {}

    def draw(self, examples: Callable[[], Iterable[curate.Example]]) -> None:
        """Draw the solved examples, and some subjects of each relation with all their answers, by the least hashes.

        Drawn over the whole dataset by a hash, they are the same for every shard and any order of the rows.
        """
        count = self.settings.shots
        self.sets = draw_exemplars(self.template, examples(), count) if count else [Shots(self.template)]
        answers: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for example in examples():
            if example.subject and example.answers:
                found = answers[example.relation or ""][example.subject]
                found.update(answer.casefold() for answer in example.answers)
        self.subjects = {
            relation: [(subject, frozenset(found[subject])) for subject in sorted(found, key=_hash)[:MOST_SUBJECTS]]
            for relation, found in answers.items()
        }

    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change the numbers."""
        drawn = sorted((relation, subject) for relation, found in self.subjects.items() for subject, _ in found)
        return {
            "estimator": "contrast",
            "foils": self.settings.foils,
            "template": self.template.as_dict(),
            "shots": self.drawn()[0].fingerprint(),
            "subjects": hashlib.sha256(repr(drawn).encode("utf-8", "surrogatepass")).hexdigest()[:16],
            "model": self.model.fingerprint(),
        }

    def pairs(self, example: curate.Example) -> Sequence[tuple[str, str]]:
        """The question with its answer, then the question about each foil with the same answer."""
        answer = self.template.render_completion(example.answers[0])
        texts = [example.question.replace(str(example.subject), foil) for foil in self.foils(example)]
        asked = [example, *(replace(example, question=text) for text in texts)]
        prefix = self.drawn()[0].prefix(example)
        return [(prefix + self.template.ask(one), answer) for one in asked]

    def foils(self, example: curate.Example) -> list[str]:
        """Other subjects of its relation, none of which has an answer of its, nor stands in its solved examples."""
        own = {answer.casefold() for answer in example.answers}
        taken = {example.subject, *(shot.subject for shot in self.drawn()[0].choose(example))}
        others = self.subjects.get(example.relation or "", ())
        return [s for s, answers in others if s not in taken and not own & answers][: self.settings.foils]

    def score(self, examples: Sequence[curate.Example]) -> Iterator[curate.Score]:
        """One score an example, in the same order."""
        from curate.lm.loss import answer_losses  # torch comes in here

        reasons = [self.reason(example) for example in examples]
        asked = [() if reason else self.pairs(example) for example, reason in zip(examples, reasons, strict=True)]
        losses = iter(answer_losses(self.model, [pair for some in asked for pair in some], report=self.report))
        for reason, some in zip(reasons, asked, strict=True):
            own, *others = [next(losses) for _ in some] or [None]
            nats = [loss.nats for loss in others if loss.nats is not None]
            if own is None or own.nats is None or not nats:
                yield curate.Score(None, reason or (own.status if own and own.nats is None else "no_foils"))
                continue
            least = min(nats)  # the greatest of the probabilities, so that exp does not underflow
            mean = -least + math.log(math.fsum(math.exp(least - n) for n in nats) / len(nats))
            yield curate.Score(-own.nats - mean, evidence={"nats": own.nats, "foils": len(nats)})

    def reason(self, example: curate.Example) -> str | None:
        """Why an example cannot be scored; None if it can be."""
        if not example.question or not example.answers:
            return "no_question" if not example.question else "no_answer"
        if not example.subject or example.subject not in example.question:
            return "no_subject_in_question"
        return None if self.foils(example) else "no_foils"


def _hash(subject: str) -> bytes:
    return hashlib.blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=8).digest()
