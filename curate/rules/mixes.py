"""What a selection did: quantiles, overlaps, and how the mix of relations and answers moved. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from curate.rules.values import Groups

QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
SHIFTS = 5
"""How many of the largest shifts, and of the most frequent values, are told."""


def quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Scores at the usual quantiles, each the score of some row; NaN does not count. (N,) -> {"0.5": …}"""
    import numpy as np

    values = values[~np.isnan(values)]  # a copy, which may be put in order
    if not len(values):
        return {}
    at = [round(q * (len(values) - 1)) for q in QUANTILES]
    values.partition(at)
    return {f"{q:g}": float(values[i]) for q, i in zip(QUANTILES, at, strict=True)}


def overlaps(masks: Mapping[str, NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """For every two splits, how many rows they share. Masks are (N,) each."""
    import numpy as np

    return [{"a": a, "b": b, "rows": int(np.count_nonzero(masks[a] & masks[b]))} for a, b in combinations(masks, 2)]


def mix(groups: Groups, before: NDArray[np.bool_], after: Mapping[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """How often each group occurs before and after, as shares, and what moved most.

    `moved` is the share of rows that would have to change group to undo the change (total variation distance):
    0 when the mix is the same, 1 when no group is left. Rows in no group (-1) do not count.
    """
    shares = _shares(groups, before)
    return {
        "distinct": int((shares > 0).sum()),
        "most_frequent": _told(groups.labels, shares),
        "splits": {name: _moved(groups.labels, shares, _shares(groups, mask)) for name, mask in after.items()},
    }


def _moved(labels: Sequence[str], before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    import numpy as np

    shift = after - before
    largest = [i for i in np.argsort(-np.abs(shift).round(12), kind="stable")[:SHIFTS] if shift[i]]
    return {
        "distinct": int((after > 0).sum()),
        "moved": float(np.abs(shift).sum() / 2),
        "most_frequent": _told(labels, after),
        "shifts": [{"value": labels[i], "before": float(before[i]), "after": float(after[i])} for i in largest],
    }


def _told(labels: Sequence[str], shares: NDArray[np.float64]) -> list[dict[str, Any]]:
    import numpy as np

    most = np.argsort(-shares, kind="stable")[:SHIFTS]
    return [{"value": labels[i], "share": float(shares[i])} for i in most if shares[i]]


def _shares(groups: Groups, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    import numpy as np

    codes = groups.codes[mask]
    counts = np.bincount(codes[codes >= 0], minlength=len(groups.labels))
    return counts / max(1, counts.sum())
