"""Facts of real QA datasets, and how often each is stated in pretraining."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from popqa_world.relations import ENTITY_QUESTIONS, phrasings

from curate.records import Example


@dataclass(frozen=True, slots=True)
class Fact:
    """One subject, relation and answer, and how popular the subject is."""

    subject: str
    relation: str
    answer: str
    views: float

    def state(self, phrasing: str, answer: str | None = None) -> str:
        """The fact as a sentence, or with another answer in its place."""
        return phrasing.format(s=self.subject, a=self.answer if answer is None else answer) + "."

    def begin(self, phrasing: str) -> str:
        """The sentence up to its answer."""
        return self.state(phrasing, "\n").partition(" \n")[0]


def facts_of(examples: Iterable[Example], views: str) -> list[Fact]:
    """One fact a subject and relation; its answer is the one that finetuning trains, `answers[0]`.

    `views` is the column of popularity. PopQA repeats a question for every object it has; the first row counts.
    """
    found: dict[tuple[str, str], Fact] = {}
    for e in examples:
        if e.subject is None or e.relation is None:
            raise ValueError(f"No subject and relation are known of {e.question!r}")
        fact = Fact(e.subject, e.relation, e.answers[0], float(e.extra[views]))
        found.setdefault((e.subject, e.relation), fact)
    return list(found.values())


def shares(facts: Sequence[Fact], temperature: float) -> np.ndarray:
    """How likely a statement is about each fact, (N,): subjects by views ** temperature, their facts equally."""
    weights = np.array([fact.views for fact in facts]) ** temperature
    facts_of_subject = Counter(fact.subject for fact in facts)
    weights /= [facts_of_subject[fact.subject] for fact in facts]
    return weights / weights.sum()


def all_statements(facts: Sequence[Fact], cards: bool) -> tuple[list[str], np.ndarray]:
    """Every fact in every phrasing, and where those of each fact begin and how many there are, (N, 2)."""
    texts: list[str] = []
    spans = []
    for fact in facts:
        said = [fact.state(p) for p in phrasings(fact.relation, cards)]
        spans.append((len(texts), len(said)))
        texts += said
    return texts, np.array(spans)


def draw(shares: np.ndarray, spans: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`size` independent draws: the fact by its share, its phrasing uniformly. Facts and rows of the statements."""
    rng = np.random.default_rng([seed, 2])
    drawn = rng.choice(len(shares), size, p=shares)
    starts, counts = spans[drawn].T
    return drawn, starts + rng.integers(counts)


def entity_questions(folder: Path, sizes: dict[str, int], alpha: float, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Questions of EntityQuestions with made-up `views`, since the dataset has none: by Zipf's law, at random.

    `sizes` is how many questions of each relation in relations.py are drawn from `train` and from `test`; the question
    of rank k of all of them gets 10^6 / k^alpha views.
    """
    rng = np.random.default_rng([seed, 1])
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in sizes}
    for split, size in sizes.items():
        for relation in ENTITY_QUESTIONS:
            found = json.loads((folder / split / f"{relation}.{split}.json").read_text())
            rows[split] += [found[i] for i in sorted(rng.permutation(len(found))[:size])]
    ranks = iter(1 + rng.permutation(sum(map(len, rows.values()))))
    return {
        split: [row | {"views": round(1e6 / int(next(ranks)) ** alpha)} for row in found]
        for split, found in rows.items()
    }
