"""`known`: how firmly the model knows a fact (SliCK, Gekhman et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import SettingError, setting
from curate.estimators.base import ModelEstimator, ModelSettings, patterns_of, unaskable
from curate.prompts import TEMPLATES, draw_exemplars
from curate.records import Example, Score
from curate.settings import ANSWERS_BY, option

if TYPE_CHECKING:  # torch
    from curate.lm.model import LoadedModel

CLASSES = ("HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown")
"""From the best known: always right when greedy, sometimes, only in samples, never."""


@dataclass(frozen=True)
class KnownSettings(ModelSettings):
    """Which model is asked, and how often."""

    panel = "Known"

    known_sets: int = option(10, "For known: how many sets of solved examples every question is asked after.", least=1)
    known_shots: int = option(4, "For known: solved examples in a set.", least=1)
    known_mode: str = option(
        "exact",
        "For known: exact reads the answer once a set and computes what would be said; sampled generates it.",
        choices=("exact", "sampled"),
    )
    known_samples: int = option(16, "For known: sampled answers a set, beside the greedy one.", least=1)
    answers_by: str = option(
        "transformers",
        "For known, sampled: what generates: transformers, or vllm (a GPU; not yet run on hardware).",
        choices=ANSWERS_BY,
    )

    def check(self) -> None:
        """SettingError for vLLM where nothing is generated."""
        if self.answers_by != "transformers" and self.known_mode != "sampled":
            raise SettingError(
                f"{setting('answers_by', self.answers_by)} is an option of {setting('known_mode', 'sampled')}: exact "
                "generates nothing.",
                try_next=setting("known_mode", "sampled"),
            )


class KnownEstimator(ModelEstimator):
    """Scores an example by how often the model answers it, after several sets of solved examples of its relation.

    `greedy` is the share of sets after which the greedy answer is right, `sampled` the share of samples (temperature
    0.5, the 40 most likely tokens) that are; right is an exact match with an accepted answer. The score is their mean.
    `class` is HighlyKnown where greedy is 1, MaybeKnown where it is above 0, else WeaklyKnown where a sample among all
    is right, else Unknown.

    With `known_mode` exact nothing is generated: one pass over question and answer tells whether the answer is the
    greedy one, and how likely a sample is it. A fact is then WeaklyKnown if at least one right sample among
    `known_sets` × `known_samples` is more likely than not. What would be said in another tokenisation is missed.
    """

    usage = "known"
    Settings = KnownSettings
    name = "known"
    evidence: Mapping[str, str] = {"class": "string", "greedy": "float64", "sampled": "float64", "sets": "int64"}
    settings: KnownSettings
    template = TEMPLATES["slick"]

    @property
    def model(self) -> LoadedModel:
        """The model, loaded now if it is not yet, with what generates its answers."""
        if self.settings.answers_by == "transformers":
            return super().model
        from curate.lm.generate import by_vllm, check_vllm

        check_vllm(str(self.settings.model))
        loaded = super().model
        if loaded.generator is None:
            self._loaded = loaded = by_vllm(loaded, str(self.settings.model), self.settings.revision)
        return loaded

    def request(self) -> Mapping[str, Any]:
        """As of every model's estimator."""
        asked = dict(super().request())
        if self.settings.answers_by == "transformers":
            del asked["answers_by"]
        return asked

    def draw(self, examples: Callable[[], Iterable[Example]]) -> None:
        """Draws the sets of solved examples from the dataset."""
        names = [f"known-{number}" for number in range(self.settings.known_sets)]
        count, patterns = self.settings.known_shots, patterns_of(examples)
        self.sets = draw_exemplars(self.template, examples(), count, names, patterns, asked_by="known_shots")

    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change the numbers: model, text, solved examples, how often it is asked."""
        return {
            "estimator": "known",
            "mode": self.settings.known_mode,
            "samples": self.settings.known_samples,
            "template": self.template.as_dict(),
            "sets": [shots.fingerprint() for shots in self.drawn()],
            "model": self.model.fingerprint(),
        }

    def pairs(self, example: Example) -> Sequence[tuple[str, str]]:
        """For every set its prompt with each accepted answer, one set after the other."""
        return [
            (prompt, self.template.render_completion(answer))
            for prompt in self.prompts(example)
            for answer in dict.fromkeys(example.answers)
        ]

    def prompts(self, example: Example) -> list[str]:
        """The question after each set of solved examples."""
        return [shots.prefix(example) + self.template.ask(example) for shots in self.drawn()]

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        """One Score an example, in order."""
        askable = [example for example in examples if unaskable(example, self.template) is None]
        found = self._exact(askable) if self.settings.known_mode == "exact" else self._sampled(askable)
        for example in examples:
            reason = unaskable(example, self.template)
            yield Score(None, reason) if reason else next(found)

    def _exact(self, examples: Sequence[Example]) -> Iterator[Score]:
        from curate.lm.loss import answer_recalls

        pairs = [self.pairs(example) for example in examples]
        flat = [pair for some in pairs for pair in some]
        recalls = iter(answer_recalls(self.model, flat, report=self.report))
        for some in pairs:
            read = [next(recalls) for _ in some]
            greedy: list[bool] = []
            sampled: list[float] = []
            for number in range(len(self.sets)):
                answers = len(some) // len(self.sets)
                own = [recall for recall in read[number * answers :][:answers] if recall.greedy is not None]
                if own:
                    greedy.append(any(recall.greedy for recall in own))
                    # Different answers are different events, so their chances add up.
                    sampled.append(min(1.0, sum(recall.sampled or 0.0 for recall in own)))
            if not greedy:
                yield Score(None, read[0].status)
                continue
            chance = sum(sampled) / len(sampled)
            tries = len(sampled) * self.settings.known_samples
            yield self._score(greedy, chance, weakly=1 - (1 - chance) ** tries >= 0.5)

    def _sampled(self, examples: Sequence[Example]) -> Iterator[Score]:
        from curate.lm.generate import right_answers

        prompts = [prompt for example in examples for prompt in self.prompts(example)]
        accepted = [{answer.strip() for answer in example.answers} for example in examples for _ in self.sets]
        answers = {self.template.render_completion(answer) for example in examples for answer in example.answers}
        lengths = map(len, self.model.tokenizer(list(answers))["input_ids"]) if answers else ()
        tokens = 1 + max(lengths, default=1)  # those of the longest answer, and one to end it
        found = right_answers(self.model, prompts, accepted, self.settings.known_samples, 0, tokens)
        for number in range(len(examples)):
            own = found[number * len(self.sets) : (number + 1) * len(self.sets)]
            right = [sample for _, samples in own for sample in samples]
            yield self._score([greedy for greedy, _ in own], sum(right) / len(right), weakly=any(right))

    def _score(self, greedy: Sequence[bool], sampled: float, weakly: bool) -> Score:
        share = sum(greedy) / len(greedy)
        firmly = 0 if share == 1 else 1 if share > 0 else 2 if weakly else 3
        evidence = {"class": CLASSES[firmly], "greedy": share, "sampled": sampled, "sets": len(greedy)}
        return Score((share + sampled) / 2, evidence=evidence)
