"""Made-up people: names built from syllables, and one answer per person and relation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bundled_world.relations import RELATIONS, Relation

ONSETS = [
    "b",
    "br",
    "c",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "r",
    "s",
    "sh",
    "sk",
    "st",
    "t",
    "th",
    "tr",
    "v",
    "w",
    "z",
]
VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ia", "io", "oa"]
CODAS = ["l", "m", "n", "r", "s", "t", "nd", "rk", "sk", "th", "x", "ld", "rn", "ss"]
PARTS = 70  # surnames are one of 70 beginnings and one of 70 endings: unique as a whole, and short in tokens


@dataclass(frozen=True, slots=True)
class World:
    """Who exists and what is true: `answers[i, r]` indexes the answers of relation r; subjects are by popularity."""

    relations: tuple[Relation, ...]
    subjects: tuple[str, ...]
    answers: np.ndarray  # (subjects, relations)
    popularity: np.ndarray  # (subjects,), sums to one, decreasing

    def answer(self, subject: int, relation: int) -> str:
        """The true answer about a subject."""
        return self.relations[relation].answers[self.answers[subject, relation]]


def zipf(count: int, alpha: float) -> np.ndarray:
    """Probabilities proportional to rank ** -alpha."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -alpha
    return weights / weights.sum()


def _syllables(rng: np.random.Generator, count: int, codas: list[str]) -> list[str]:
    """Distinct syllables such as "bra" (no codas) or "vind"."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(codas)] = None
    return list(found)


def make_names(rng: np.random.Generator, count: int, first_names: int) -> tuple[str, ...]:
    """`count` distinct names: a first name that many people share and a surname that only one person has."""
    beginnings, endings = _syllables(rng, PARTS, [""]), _syllables(rng, PARTS, CODAS)
    heads, tails = _syllables(rng, first_names, [""]), _syllables(rng, first_names, CODAS)
    firsts = [(head + tail).capitalize() for head, tail in zip(heads, tails, strict=True)]
    surnames = [(a + b).capitalize() for a in beginnings for b in endings]
    return tuple(f"{rng.choice(firsts)} {surnames[i]}" for i in rng.permutation(len(surnames))[:count])


def make_world(seed: int, subjects: int, first_names: int, subject_alpha: float, answer_alpha: float) -> World:
    """Draw the people and their facts. Popular answers are popular whoever the subject is, as in real data."""
    rng = np.random.default_rng([seed, 1])
    names = make_names(rng, subjects, first_names)
    columns = [rng.choice(len(r.answers), subjects, p=zipf(len(r.answers), answer_alpha)) for r in RELATIONS]
    return World(RELATIONS, names, np.stack(columns, axis=1), zipf(subjects, subject_alpha))
