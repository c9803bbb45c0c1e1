"""How numbers are summed up: quantiles, bins, ranks, overlap, what one tells of another. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence

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


def ranks_within(values: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same ranks, counted in every group by itself. (N,), (N,) codes from 0 -> (N,)

    >>> ranks_within(np.array([5.0, 1.0, 5.0, 9.0]), np.array([0, 0, 0, 1])).tolist()
    [2.5, 1.0, 2.5, 1.0]
    """
    order = np.lexsort((values, groups))
    ordered, codes = values[order], groups[order]
    new = np.append(True, (ordered[1:] != ordered[:-1]) | (codes[1:] != codes[:-1]))[: len(order)]
    starts = np.append(np.flatnonzero(new), len(order))
    first = np.cumsum(np.bincount(groups)) - np.bincount(groups)  # where each group begins
    ranks = np.empty(len(order))
    ranks[order] = ((starts[:-1] + starts[1:] + 1) / 2)[np.cumsum(new) - 1] - first[codes]
    return ranks


def correlation_within(a: NDArray[np.float64], b: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """The mean of Spearman's correlations inside groups, weighted by their rows. (N,) each, codes from 0

    A group in which a side is constant has none and does not count; NaN if that is so of all.
    """
    sizes = np.bincount(groups)
    x, y = (ranks_within(side, groups) - (sizes[groups] + 1) / 2 for side in (a, b))
    both, own, other = (np.bincount(groups, product) for product in (x * y, x * x, y * y))
    counts = own * other > 0
    if not counts.any():
        return float("nan")
    return float(np.average(both[counts] / np.sqrt(own * other)[counts], weights=sizes[counts]))


def auc(scores: NDArray[np.float64], known: NDArray[np.bool_], groups: NDArray[np.int64] | None = None) -> float:
    """The share of pairs of a known and an unknown row in which the known one has the higher score; a tie is half one.

    0.5 is chance. With `groups` (N,), codes from 0, only pairs inside a group count: so it is the mean of the groups'
    AUCs, weighted by their pairs. NaN if there is no pair. (N,), (N,)
    """
    groups = np.zeros(len(scores), dtype=np.int64) if groups is None else groups
    yes = np.bincount(groups, known)
    right = ranks_within(scores, groups)[known].sum() - (yes * (yes + 1) / 2).sum()
    pairs = pairs_within(known, groups)
    return float(right / pairs) if pairs else float("nan")


def pairs_within(known: NDArray[np.bool_], groups: NDArray[np.int64]) -> int:
    """How many pairs of a known and an unknown row there are inside groups. (N,), (N,) codes from 0"""
    return int(np.bincount(groups, known) @ np.bincount(groups, ~known))


MOST_ROUNDS = 200
"""Of taking means off; what is left to explain after so many is less than can be printed."""


def explained(values: NDArray[np.float64], factors: Sequence[NDArray[np.int64]]) -> float:
    """The share of the variance that groups explain, adjusted R²: how well (N,) values follow from sums of group means.

    `factors` are ways to group the rows, codes (N,). Least squares by backfitting: the means of one way after the
    other are taken off until nothing moves. Adjusted for the number of groups, so that it is 0 by chance, however
    small they are. NaN where values are constant or groups too many to tell.
    """
    numbered = [np.unique(codes, return_inverse=True, return_counts=True)[1:] for codes in factors]
    rest = values - values.mean()
    total = left = float(rest @ rest)
    freedom = len(values) - 1 - sum(len(counts) - 1 for _, counts in numbered)
    if total == 0 or freedom <= 0:
        return float("nan")
    for _ in range(MOST_ROUNDS):
        for codes, counts in numbered:
            rest = rest - (np.bincount(codes, rest) / counts)[codes]
        before, left = left, float(rest @ rest)
        if before - left < 1e-9 * total:
            break
    return max(0.0, 1 - (left / freedom) / (total / (len(values) - 1)))
