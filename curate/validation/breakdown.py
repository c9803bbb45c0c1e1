"""Accuracy within parts of the test set: per relation, per popularity quintile, on the top-x%; with 95% intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.validation.bootstrap import interval, resampled_means, seed_noise, seed_variance
from curate.validation.compare import TOP_PERCENTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Groups = Sequence[tuple[Mapping[str, Any], "NDArray[np.bool_]"]]
"""What names a part of the test set in a row, and which examples are in it."""


def relation_groups(relations: Sequence[str | None]) -> Groups:
    """The examples of each relation, the most frequent first; none for examples without one."""
    import numpy as np

    names = [name for name in relations if name is not None]
    order = sorted(set(names), key=lambda name: (-names.count(name), name))
    return [({"relation": name}, np.array([r == name for r in relations])) for name in order]


def quintile_groups(percentiles: NDArray[np.float64]) -> Groups:
    """Fifths of the test set by popularity, 1 the most popular; none without popularity."""
    groups = [({"quintile": q + 1}, (20 * q <= percentiles) & (percentiles < 20 * (q + 1))) for q in range(5)]
    return [(name, members) for name, members in groups if members.any()]


def curve_groups(percentiles: NDArray[np.float64]) -> Groups:
    """The top-x% most popular, for the x of the paper's Figures 6 and 7; none without popularity."""
    groups = [({"top_percent": percent}, percentiles < percent) for percent in TOP_PERCENTS]
    return [(name, members) for name, members in groups if members.any()]


def accuracy_rows(
    correct: Mapping[str, NDArray[np.float64]], groups: Groups, clusters: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """One row per group and arm: `arm`, `n` examples, `accuracy` over seeds, `low` and `high`. {arm: (S, N)}, (N,)"""
    import numpy as np

    if not groups:
        return []
    means = np.stack([by_seed.mean(axis=0) for by_seed in correct.values()])
    drawn = resampled_means(means, clusters, np.stack([members for _, members in groups]))  # (R, G, K)
    rows = []
    for g, (name, members) in enumerate(groups):
        for k, (arm, by_seed) in enumerate(correct.items()):
            inside = by_seed[:, members]
            noise = seed_noise(seed_variance(inside, clusters[members]), len(inside))
            low, high = interval(drawn[:, g, k] + noise)
            accuracy = float(inside.mean())
            rows.append({**name, "arm": arm, "n": int(members.sum()), "accuracy": accuracy, "low": low, "high": high})
    return rows
