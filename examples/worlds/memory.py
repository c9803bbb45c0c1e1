"""What a pretrained model can state of what it read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curate.lm.generate import greedy_answers
from curate.lm.model import LoadedModel
from curate.validation.evaluate import contains_answer


def completes(loaded: LoadedModel, begun: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """For every begun statement: does the model go on, greedily, with its answer? (N,) of bool."""
    said = greedy_answers(loaded, begun)
    return np.array([contains_answer(text, [answer]) for text, answer in zip(said, answers, strict=True)])


def by_decile(right: np.ndarray, popularity: np.ndarray) -> list[float]:
    """The mean of `right` in each tenth of its rows, the most popular first."""
    order = np.argsort(-popularity, kind="stable")
    return [round(float(part.mean()), 4) for part in np.array_split(right[order], 10)]
