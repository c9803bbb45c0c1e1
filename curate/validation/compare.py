"""From right and wrong answers to accuracies, intervals and curves: pure functions on arrays.

`correct` is always (S, N): S seeds by N test examples, 1.0 where the answer was right. All arms of a comparison
are evaluated on the same N examples in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 10_000
TOP_PERCENTS = tuple(range(5, 101, 5))


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of arm `a` minus that of arm `b`, with its 95% bootstrap interval and two-sided p."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float


def accuracy(correct: NDArray[np.float64]) -> float:
    """Mean over seeds and examples: (S, N) -> scalar in [0, 1]."""
    return float(correct.mean())


def standard_error(correct: NDArray[np.float64]) -> float | None:
    """Standard error of the accuracy over seeds; None for a single seed. (S, N) -> scalar"""
    import numpy as np

    seeds = correct.shape[0]
    if seeds < 2:
        return None
    return float(np.std(correct.mean(axis=1), ddof=1) / np.sqrt(seeds))


def paired_difference(
    a: str, b: str, correct_a: NDArray[np.float64], correct_b: NDArray[np.float64], seed: int = 0
) -> Difference:
    """Accuracy of `a` minus `b`, bootstrapped over test examples and seeds together. (S, N), (S, N)

    Each resample draws N examples and S seeds with replacement and takes the same draws for both arms, so what
    an example or a seed does to both cancels. An arm with one seed (the base model) meets every seed of the other.
    The interval is the 2.5th to 97.5th percentile; p is twice the share of resamples on the other side of 0.
    """
    import numpy as np

    delta = correct_a - correct_b  # (S, N); one row broadcasts
    seeds, examples = delta.shape
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, 500):
        stop = min(start + 500, RESAMPLES)
        drawn = rng.multinomial(examples, np.full(examples, 1 / examples), size=stop - start)  # (B, N)
        drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=stop - start)  # (B, S)
        means[start:stop] = ((drawn @ delta.T) * drawn_seeds).sum(axis=1) / (examples * seeds)
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))
    return Difference(a, b, float(delta.mean()), float(low), float(high), float(p))


def popularity_percentiles(scores: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.float64]:
    """100 × rank ÷ N, rank 0 for the most popular; NaN where there is no score. (N,) -> (N,)

    The top-x% of the test set are the examples whose percentile is below x.
    """
    import numpy as np

    from curate.selection import total_order

    percentiles = np.full(len(scores), np.nan)
    measured = np.flatnonzero(~np.isnan(scores))
    order = total_order(scores[measured], [ids[row] for row in measured.tolist()], seed=0)
    percentiles[measured[order]] = 100 * np.arange(len(measured)) / max(1, len(measured))
    return percentiles


def top_accuracy(
    correct: NDArray[np.float64], percentiles: NDArray[np.float64], top_percent: float
) -> tuple[NDArray[np.float64], int]:
    """Accuracy of each seed on the top-x% most popular examples, and how many those are. (S, N), (N,) -> (S,)"""
    chosen = percentiles < top_percent
    return correct[:, chosen].mean(axis=1), int(chosen.sum())


def verdict(differences: Sequence[Difference], subject: str) -> str:
    """One sentence on how the arm `subject` fares against every other arm, read off the intervals."""
    better: list[str] = []
    same: list[str] = []
    worse: list[str] = []
    for d in differences:
        if subject not in (d.a, d.b):
            continue
        sign = 1 if d.a == subject else -1
        low, high = sorted((sign * d.low, sign * d.high))
        text = f"{d.b if sign == 1 else d.a} ({_points(sign * d.difference)}, {_points(low)} to {_points(high)})"
        (better if low > 0 else worse if high < 0 else same).append(text)
    parts = [
        f"beats {_and(better)}" if better else "",
        f"shows no difference from {_and(same)}" if same else "",
        f"is worse than {_and(worse)}" if worse else "",
    ]
    said = ", and ".join(part for part in parts if part)
    if not said:
        return "There is only one arm: nothing to compare."
    return f"Finetuning on {subject} {said}; points of accuracy with 95% intervals."


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
