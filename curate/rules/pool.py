"""The pool: which rows can be chosen from, and why each other row cannot."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from curate.errors import SelectionError
from curate.rules.request import Missing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


LEAST = -sys.float_info.max
"""What a score of minus infinity counts as where rows without a score are ranked below all others."""


@dataclass
class Pool:
    """Scores of the rows that can be chosen from, NaN for all others; `reasons` (N,) numbers into `labels`.

    Reason 0 is none: the row is in the pool. `before` (N,) are the rows that were in it before evaluation sets, and
    what goes with them, were taken out.
    """

    scores: NDArray[np.float64]
    reasons: NDArray[np.uint8]
    labels: list[str] = field(default_factory=lambda: [""])
    unmeasured: int = 0
    before: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.mask

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The rows in the pool: (N,)"""
        return self.reasons == 0

    def __len__(self) -> int:
        import numpy as np

        return len(self.reasons) - int(np.count_nonzero(self.reasons))

    def leave_out(self, rows: NDArray[np.bool_], why: str) -> int:
        """Take rows out of the pool, those that are still in; how many that were."""
        import numpy as np

        rows = rows & self.mask
        if why not in self.labels:
            self.labels.append(why)
        if rows.any():
            self.reasons[rows] = self.labels.index(why)
            self.scores = np.where(rows, np.nan, self.scores)  # a copy: the ranking keeps its scores
        return int(np.count_nonzero(rows))

    def left_out(self) -> dict[str, int]:
        """How many rows are out, by reason."""
        import numpy as np

        counts = {
            why: int(np.count_nonzero(self.reasons == number)) for number, why in enumerate(self.labels) if number
        }
        return {why: n for why, n in counts.items() if n}


def make_pool(scores: NDArray[np.float64], outside: Sequence[tuple[NDArray[np.bool_], str]], missing: Missing) -> Pool:
    """The pool of the rows that are not `outside` (masks and their reasons) and have a score.

    A missing score is NaN: `exclude` leaves such rows out, `lowest` ranks them below all others, `error` refuses
    them. SelectionError when nothing is left.
    """
    import numpy as np

    pool = Pool(scores, np.zeros(len(scores), dtype=np.uint8))
    for rows, why in outside:
        pool.leave_out(rows, why)
    before = len(pool)
    if not before:
        raise SelectionError("No row is left to choose from.", expected="conditions that some row meets")
    unmeasured = np.isnan(scores) & pool.mask
    pool.unmeasured = int(np.count_nonzero(unmeasured))
    if pool.unmeasured == before:
        raise SelectionError(
            "All scores are null: there is nothing to rank.",
            expected="at least one row with a score",
            try_next="curate show FILE, to see why no row could be scored",
        )
    if pool.unmeasured and missing == "error":
        raise SelectionError(
            f"{pool.unmeasured} of {before} rows have no score.",
            expected="a score in every row, as --missing error asks",
            try_next="--missing exclude, to leave them out, or --missing lowest",
        )
    if missing == "lowest":
        pool.scores = np.where(unmeasured, -np.inf, np.maximum(pool.scores, LEAST))
    elif pool.unmeasured:
        pool.leave_out(unmeasured, "no score")
    return pool


def apply_thresholds(pool: Pool, shown: NDArray[np.float64], low: float | None, high: float | None) -> None:
    """Leave out the rows whose score, as the user knows it, is below `low` or above `high`."""
    import numpy as np

    if low is None and high is None:
        return
    pool.leave_out(np.isnan(shown), "no score")
    if low is not None:
        pool.leave_out(shown < low, f"below --min-score {low:g}")
    if high is not None:
        pool.leave_out(shown > high, f"above --max-score {high:g}")
    if not len(pool):
        raise SelectionError(
            "No score lies in the range that was asked for.",
            expected="a wider --min-score and --max-score",
            try_next="curate show FILE, for the quantiles of the scores",
        )
