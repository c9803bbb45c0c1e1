"""Which rows: pure functions on arrays, no files and no model (the exact rules are in docs/selecting.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal

from curate.errors import SelectionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Missing = Literal["exclude", "lowest", "error"]
MISSING: tuple[Missing, ...] = ("exclude", "lowest", "error")


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows to take: a `share` of the pool, or a `count` of rows."""

    share: Decimal | None = None
    count: int | None = None

    def rows(self, pool: int) -> int:
        """k rows of a pool: round-half-up(share × pool), or the count. SelectionError if k is 0 or too many."""
        if self.count is not None:
            if self.count > pool:
                raise SelectionError(
                    f"{self.count} rows were asked for, and only {pool} can be ranked.",
                    expected=f"a count of at most {pool}, or a share",
                    try_next="--top 0.5, for half of them",
                )
            return self.count
        assert self.share is not None
        k = int((self.share * pool).quantize(Decimal(1), rounding=ROUND_HALF_UP))
        if k == 0:
            raise SelectionError(f"A share of {self.share} of {pool} rows is no row at all.", expected="a larger share")
        return k


def parse_size(value: str | int | float, flag: str = "top") -> Size:
    """`0.3` and `30%` are shares, in (0, 1]; an integer above 1 is a count; anything else is a SelectionError.

    >>> parse_size("30%")
    Size(share=Decimal('0.3'), count=None)
    >>> parse_size(100).count
    100
    """
    text = str(value).strip()
    try:
        number = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        raise _bad_size(text, flag) from None
    if not number.is_finite():
        raise _bad_size(text, flag)
    if text.endswith("%"):
        number /= 100
    elif number > 1 and re.fullmatch(r"\+?\d+", text):
        return Size(count=int(number))
    if not 0 < number <= 1:
        raise _bad_size(text, flag)
    return Size(share=number)


def _bad_size(text: str, flag: str) -> SelectionError:
    return SelectionError(
        f"--{flag} {text} is not a size.",
        expected="a share above 0 and at most 1 (0.3, or 30%), or a count of rows above 1 (500)",
        try_next=f"--{flag} 0.3",
    )


def id_hashes(ids: Sequence[str], seed: int, salt: str) -> NDArray[np.uint64]:
    """A seeded 64-bit hash of every id: (N,) uint64. Another salt gives an unrelated order."""
    import numpy as np

    key = f"{salt}:{seed}".encode()
    digest = (hashlib.blake2b(i.encode(), digest_size=8, key=key).digest() for i in ids)
    return np.frombuffer(b"".join(digest), dtype=np.uint64)


def total_order(scores: NDArray[np.float64], ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Row numbers from best to least known: score descending, ties by a seeded hash of the id. (N,) -> (N,)"""
    import numpy as np

    return np.lexsort((id_hashes(ids, seed, "ties"), -scores))


def pool_of(scores: NDArray[np.float64], missing: Missing) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows that can be ranked, and their scores; NaN stands for a score that could not be measured.

    `exclude` leaves such rows out, `lowest` ranks them below all others, `error` refuses them.
    """
    import numpy as np

    unmeasured = np.isnan(scores)
    left_out = int(unmeasured.sum())
    if left_out == len(scores):
        raise SelectionError(
            "All scores are null: there is nothing to rank.",
            expected="at least one row with a score",
            try_next="curate show FILE, to see why no row could be scored",
        )
    if left_out and missing == "error":
        raise SelectionError(
            f"{left_out} of {len(scores)} rows have no score.",
            expected="a score in every row, as --missing error asks",
            try_next="--missing exclude, to leave them out, or --missing lowest",
        )
    if missing == "lowest":
        return np.arange(len(scores)), np.where(unmeasured, -np.inf, scores)
    rows = np.flatnonzero(~unmeasured)
    return rows, scores[rows]


def random_rows(ids: Sequence[str], k: int, seed: int) -> NDArray[np.int64]:
    """k row numbers drawn by a seeded hash of the id, with a salt of their own: (N,) ids -> (k,)"""
    import numpy as np

    return np.argsort(id_hashes(ids, seed, "random"), kind="stable")[:k]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a ranked split ends: the score of its last row, and how many rows of the pool share that score."""

    score: float
    ties: int
    ties_kept: int


def cut_of(scores: NDArray[np.float64], chosen: NDArray[np.int64], edge: float) -> Cut:
    """The cut of a split: `edge` is the score of its row nearest to the rest of the pool."""
    return Cut(edge, int((scores == edge).sum()), int((scores[chosen] == edge).sum()))
