"""How far two scores, or two splits, agree: pure functions."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, ties at their mean rank, over the rows where both are known. (N,), (N,)

    NaN if fewer than two rows are left or one side is constant.
    """
    import numpy as np
    import pandas as pd

    known = ~(np.isnan(a) | np.isnan(b))
    ranks = [pd.Series(x[known]).rank().to_numpy() for x in (a, b)]
    if known.sum() < 2 or any(np.ptp(r) == 0 for r in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def overlap(a: Collection[str], b: Collection[str]) -> float:
    """The share of `a` that is also in `b`, in [0, 1]."""
    return len(set(a) & set(b)) / len(a)
