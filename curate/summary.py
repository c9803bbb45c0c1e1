"""How numbers are summed up: quantiles, bins, ranks, overlap. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)


def quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Each of QUANTILES as one of the values, the nearest; NaN does not count. (N,) -> {"0.5": …}, or {} of no values.

    >>> quantiles(np.array([4.0, np.nan, 1.0, 2.0]))["0.5"]
    2.0
    """
    values = values[~np.isnan(values)]  # a copy, which may be put in order
    if not len(values):
        return {}
    places = [round(q * (len(values) - 1)) for q in QUANTILES]
    values.partition(places)
    return {f"{q:g}": float(values[place]) for q, place in zip(QUANTILES, places, strict=True)}


def is_skewed(values: NDArray[np.float64]) -> bool:
    """Whether a few huge values (raw page views) would leave one full bin of equally wide ones. (N,)"""
    return bool(values.min() >= 0 and values.max() > 100 * (1 + float(np.median(values))))


def bin_edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Edges of equal width, or of equal ratio where the values are skewed. (N,), all finite -> (bins + 1,)"""
    if not is_skewed(values):
        return np.histogram_bin_edges(values, bins=bins)
    low, high = float(values.min()), float(values.max())
    edges = np.expm1(np.linspace(np.log1p(low), np.log1p(high), bins + 1))
    edges[0], edges[-1] = low, high  # what rounding would cut off
    return edges


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, the lowest value first; equal values share the mean of their ranks. (N,) -> (N,)

    >>> mean_ranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation over the rows where both are known. (N,), (N,)

    NaN if fewer than two rows are left or one side is constant.
    """
    known = ~(np.isnan(a) | np.isnan(b))
    ranks = np.stack([mean_ranks(side[known]) for side in (a, b)])
    if known.sum() < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return float("nan")
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def overlap(a: Collection[str], b: Collection[str]) -> float:
    """The share of `a` that is also in `b`, in [0, 1]."""
    return len(set(a) & set(b)) / len(a)
