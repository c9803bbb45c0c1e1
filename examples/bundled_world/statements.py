"""The pretraining corpus: every fact in every phrasing, and how often each is drawn; pages of questions, if any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bundled_world.people import World
from bundled_world.relations import Relation

PHRASINGS = 4  # every relation has this many
FORMS = ("Question: {q}\nAnswer: {a}\n\n", "Q: {q}\nA: {a}\n")
"""How the questions of a page are set."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The corpus as drawn: one entry per statement, in training order."""

    subjects: np.ndarray
    relations: np.ndarray
    phrasings: np.ndarray

    def views(self, subjects: int) -> np.ndarray:
        """How often each subject occurs in the corpus."""
        return np.bincount(self.subjects, minlength=subjects)


def draw_corpus(world: World, size: int, seed: int) -> Draws:
    """Statements drawn independently: the subject by popularity (Zipf), the relation and the phrasing uniformly."""
    rng = np.random.default_rng([seed, 2])
    return Draws(
        rng.choice(len(world.subjects), size, p=world.popularity),
        rng.integers(len(world.relations), size=size),
        rng.integers(PHRASINGS, size=size),
    )


def statement(relation: Relation, phrasing: int, subject: str, answer: str) -> str:
    """One sentence that states one fact."""
    return relation.phrasings[phrasing].format(s=subject, a=answer)


def all_statements(world: World) -> list[str]:
    """Every possible statement, ordered by subject, then relation, then phrasing."""
    return [
        statement(relation, phrasing, subject, world.answer(i, r))
        for i, subject in enumerate(world.subjects)
        for r, relation in enumerate(world.relations)
        for phrasing in range(PHRASINGS)
    ]


def statement_rows(draws: Draws, world: World) -> np.ndarray:
    """Where each drawn statement stands in `all_statements`."""
    facts = draws.subjects * len(world.relations) + draws.relations
    return facts * PHRASINGS + draws.phrasings


def draw_pages(
    world: World, pages: int, questions: int, seed: int, answer: str | None = None
) -> tuple[list[str], np.ndarray]:
    """Pages of so many questions of one relation in one form, about different people by popularity, with their answers.

    With `answer` all have that one. Also who is asked about: (pages, questions).
    """
    rng = np.random.default_rng([seed, 5, questions])
    texts, asked = [], np.zeros((pages, questions), dtype=np.int64)
    for page in asked:
        number, form = int(rng.integers(len(world.relations))), FORMS[rng.integers(len(FORMS))]
        page[:] = rng.choice(len(world.subjects), questions, replace=False, p=world.popularity)
        asking = world.relations[number].question
        solved = [(asking.format(s=world.subjects[s]), answer or world.answer(s, number)) for s in page]
        texts.append("".join(form.format(q=q, a=a) for q, a in solved).rstrip())
    return texts, asked
