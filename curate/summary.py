"""How numbers are summed up: bins, rank correlation, overlap. Pure functions."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray


def is_skewed(values: NDArray[np.float64]) -> bool:
    """Whether a few huge values (raw page views) would leave one full bin of equally wide ones."""

    return bool(values.min() >= 0 and values.max() > 100 * (1 + float(np.median(values))))


def bin_edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Edges of equal width, or of equal ratio where the values are skewed: (bins + 1,). All of `values` are finite."""

    if not is_skewed(values):
        return np.histogram_bin_edges(values, bins=bins)
    low, high = float(values.min()), float(values.max())
    edges = np.expm1(np.linspace(np.log1p(low), np.log1p(high), bins + 1))
    edges[0], edges[-1] = low, high  # what rounding would cut off
    return edges


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, ties at their mean rank, over the rows where both are known. (N,), (N,)

    NaN if fewer than two rows are left or one side is constant.
    """
    import pandas as pd

    known = ~(np.isnan(a) | np.isnan(b))
    ranks = [pd.Series(x[known]).rank().to_numpy() for x in (a, b)]
    if known.sum() < 2 or any(np.ptp(r) == 0 for r in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def overlap(a: Collection[str], b: Collection[str]) -> float:
    """The share of `a` that is also in `b`, in [0, 1]."""
    return len(set(a) & set(b)) / len(a)
