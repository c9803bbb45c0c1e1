"""Synthetic facts as in Section 3 of the paper: one token a subject, relation, prompt and answer. Seeded numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Facts:
    """S subjects, R relations, and the one answer of every pair of them.

    Subjects are numbered by popularity, 0 the most popular. As input tokens subjects come first, then relations,
    then the prompt tokens that stand for the relations in questions and never occur in pretraining.
    """

    answers: NDArray[np.int64]  # (S, R), the answer token of every fact: 0 … R·K-1, K of its own for every relation
    popularity: NDArray[np.float64]  # (S,), the chance that a pretraining sequence is about the subject
    n_answers: int

    @property
    def subjects(self) -> int:
        """How many subjects there are."""
        return self.answers.shape[0]

    @property
    def relations(self) -> int:
        """How many relations there are."""
        return self.answers.shape[1]

    @property
    def tokens(self) -> int:
        """How many input tokens there are: subjects, relations, prompts."""
        return self.subjects + 2 * self.relations

    def statements(self, subjects: NDArray[np.int64], relations: NDArray[np.int64]) -> NDArray[np.int64]:
        """The inputs `(s, r)` of pretraining sequences. (N,), (N,) -> (N, 2)"""
        import numpy as np

        return np.stack([subjects, self.subjects + relations], axis=-1)

    def questions(self, subjects: NDArray[np.int64], relations: NDArray[np.int64]) -> NDArray[np.int64]:
        """The inputs `(s, p_r)` of question answering. (N,), (N,) -> (N, 2)"""
        import numpy as np

        return np.stack([subjects, self.subjects + self.relations + relations], axis=-1)

    def every_relation_of(self, subjects: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All facts about the given subjects, subject by subject. (n,) -> (n·R,), (n·R,)"""
        import numpy as np

        return np.repeat(subjects, self.relations), np.tile(np.arange(self.relations), len(subjects))


@dataclass(frozen=True)
class Partition:
    """Subjects to finetune on, to choose the step by, and to test on; each most popular first."""

    finetuning: NDArray[np.int64]
    validation: NDArray[np.int64]
    evaluation: NDArray[np.int64]


def zipf(n: int, alpha: float) -> NDArray[np.float64]:
    """Probabilities proportional to rank to the power -alpha, ranks 1 to n. () -> (n,)"""
    import numpy as np

    weights = np.arange(1, n + 1, dtype=np.float64) ** -alpha
    return weights / weights.sum()


def make_facts(
    subjects: int, relations: int, answers: int, alpha: float, answer_alpha: float, rng: np.random.Generator
) -> Facts:
    """Facts with Zipf(alpha) subjects; the answer of each is Zipf(answer_alpha) among its relation's own `answers`."""
    import numpy as np

    drawn = rng.choice(answers, size=(subjects, relations), p=zipf(answers, answer_alpha))
    return Facts(drawn + answers * np.arange(relations), zipf(subjects, alpha), answers * relations)


def draw_statements(
    facts: Facts, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pretraining sequences, drawn i.i.d.: s ~ Zipf(alpha), r ~ Uniform. -> subjects, relations, answers, (n,) each"""
    import numpy as np

    ends = np.cumsum(facts.popularity)
    subjects = np.searchsorted(ends / ends[-1], rng.random(n), side="right")
    relations = rng.integers(facts.relations, size=n)
    return subjects, relations, facts.answers[subjects, relations]


def partition(subjects: int, finetuning: int, validation: int, rng: np.random.Generator) -> Partition:
    """A random partition of the subjects; what is left over is for evaluation."""
    import numpy as np

    shuffled = rng.permutation(subjects)
    parts = np.split(shuffled, [finetuning, finetuning + validation])
    return Partition(*(np.sort(part) for part in parts))


def make_arms(finetuning: NDArray[np.int64], share: float, rng: np.random.Generator) -> Mapping[str, NDArray[np.int64]]:
    """The finetuning subjects of every arm; top, bottom and random have the same number, whole has all."""
    import numpy as np

    k = max(1, int(share * len(finetuning) + 0.5))
    return {
        "top": finetuning[:k],
        "bottom": finetuning[-k:],
        "random": np.sort(rng.choice(finetuning, size=k, replace=False)),
        "whole": finetuning,
    }
