"""Whether the gap between two arms grows as less popular test questions are included, as in the paper's Figure 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from curate.validation.bootstrap import interval, resampled_means, seed_noise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POPULAR = 20
"""Percent of the test questions, the most popular, on which the arms are level in the paper."""


def gap_change(
    correct: Mapping[str, NDArray[np.float64]],
    pair: tuple[str, str],
    percentiles: NDArray[np.float64],
    clusters: NDArray[np.int64],
) -> dict[str, Any] | None:
    """The gap between the arms on the most popular questions and on all that have popularity, and how it changes.

    The interval resamples test examples by cluster; the seeds' part is Student's t on their changes (see bootstrap).
    None where no question, or every one, is among the most popular. {arm: (S, N)}, (N,), (N,)
    """
    import numpy as np

    popular, measured = percentiles < POPULAR, ~np.isnan(percentiles)
    if not popular.any() or popular.sum() == measured.sum():
        return None
    delta = correct[pair[0]] - correct[pair[1]]  # (S, N)
    on_popular, on_all = delta[:, popular].mean(axis=1), delta[:, measured].mean(axis=1)
    drawn = resampled_means(delta.mean(axis=0)[None], clusters, np.stack([popular, measured]))[:, :, 0]  # (R, 2)
    changes = on_all - on_popular
    seeds = len(changes)
    variance = float(changes.var(ddof=1)) / seeds if seeds > 1 else 0.0
    low, high = interval(drawn[:, 1] - drawn[:, 0] + seed_noise(variance, seeds))
    found = {
        "arms": list(pair),
        "popular": float(on_popular.mean()),
        "all": float(on_all.mean()),
        "change": float(changes.mean()),
        "low": low,
        "high": high,
    }
    return {**found, "sentence": gap_sentence(found)}


def gap_sentence(found: Mapping[str, Any]) -> str:
    """What the interval says, beside what the paper found."""
    first, second = found["arms"]
    change = f"({100 * found['change']:+.1f}, {100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
    if found["low"] > 0:
        said = f"the gap grows {change}, as in the paper's Figure 6"
    elif found["high"] < 0:
        said = f"the gap shrinks {change}, unlike in the paper's Figure 6, where it grows"
    else:
        said = f"no clear change {change}; in the paper's Figure 6 the gap grows"
    return (
        f"{first} is ahead of {second} by {100 * found['popular']:+.1f} points on the most popular {POPULAR}% of the "
        f"test questions and by {100 * found['all']:+.1f} on all: {said}."
    )
