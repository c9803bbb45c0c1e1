"""From right and wrong answers to accuracies, differences and a verdict: pure functions on arrays.

`correct` is always (S, N): S seeds by N test examples, 1.0 where the answer was right. All arms of a comparison
are evaluated on the same N examples in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from curate.validation.bootstrap import RESAMPLES, interval, resampled_means, seed_noise, seed_variance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP_PERCENTS = tuple(range(5, 101, 5))
POWER = (1.959964 + 0.841621) ** 2
"""Squared standard errors a difference must be away from 0 to be seen at 5%, two-sided, in 80% of runs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of arm `a` minus that of arm `b`, with its 95% bootstrap interval and two-sided p.

    `p_adjusted` is p after Holm's correction for all differences of the run. `needed` is how many test examples
    would show a difference of this size with 80% power, None where no number would with these few seeds.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float | None = None
    needed: int | None = None


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


def compare_arms(
    correct: Mapping[str, NDArray[np.float64]],
    pairs: Sequence[tuple[str, str]],
    clusters: NDArray[np.int64] | None = None,
) -> list[Difference]:
    """The difference of each pair of arms, `p_adjusted` over all of them. {arm: (S, N)}, clusters (N,)

    Test examples are resampled by cluster, the same draws for every arm; the seeds' part is Student's t on the
    differences seed by seed (see bootstrap). An arm with one seed (the base model) meets every seed of the other.
    The interval is the 2.5th to 97.5th percentile; p is twice the share of resamples on the other side of 0.
    """
    import numpy as np

    if not pairs:
        return []
    names = list(correct)
    means = np.stack([correct[name].mean(axis=0) for name in names])  # (K, N)
    if clusters is None:
        clusters = np.arange(means.shape[1])
    drawn = resampled_means(means, clusters)[:, 0]  # (R, K)
    found = []
    for a, b in pairs:
        by_examples = drawn[:, names.index(a)] - drawn[:, names.index(b)]  # (R,)
        found.append(_difference(a, b, correct[a] - correct[b], by_examples, clusters))  # one seed broadcasts
    adjusted = holm([d.p for d in found])
    return [replace(d, p_adjusted=p) for d, p in zip(found, adjusted, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """p values after Holm's step-down correction, which holds whatever the tests have to do with each other."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def examples_needed(difference: float, n: int, example_variance: float, seed_variance: float) -> int | None:
    """Test examples with which a difference of this size is seen at 5% with 80% power; None if none would do.

    The variances are those of the difference's mean over the n examples that there were, and over the seeds:
    more examples make the first smaller, not the second.
    """
    room = difference**2 / POWER - seed_variance
    return math.ceil(n * example_variance / room) if room > 0 else None


def _difference(
    a: str, b: str, delta: NDArray[np.float64], by_examples: NDArray[np.float64], clusters: NDArray[np.int64]
) -> Difference:
    seeds, n = delta.shape
    means = by_examples + seed_noise(seed_variance(delta, clusters), seeds)
    low, high = interval(means)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))
    observed = float(delta.mean())
    needed = examples_needed(observed, n, float(by_examples.var()), seed_variance(delta, clusters, taken_off=1))
    return Difference(a, b, observed, low, high, float(p), needed=needed)


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
