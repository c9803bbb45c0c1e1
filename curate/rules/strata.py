"""Strata: how many rows each group gives, so that shares hold inside every group and sizes hold over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1 << 18
"""Rows sorted into groups at a time, or as many as there are groups."""


def quotas(sizes: Sequence[int], share: Fraction) -> list[int]:
    """Rows to take from groups of these sizes: share × size rounded down or up, round-half-up(share × all) in sum.

    The groups whose remainder is largest are rounded up (the first of equals).

    >>> quotas([3, 3, 4], Fraction(1, 2))
    [2, 1, 2]
    """
    return _rounded(sizes, share, [0] * len(sizes))


def quotas_of_tail(sizes: Sequence[int], share: Fraction) -> list[int]:
    """The same for the tail: other groups are rounded up where head and tail of a group would meet.

    So head and tail share no row while their size is at most half of the rows.

    >>> quotas_of_tail([3, 3, 4], Fraction(1, 2))
    [1, 2, 2]
    """
    return _rounded(sizes, share, quotas(sizes, share))


def _rounded(sizes: Sequence[int], share: Fraction, taken: Sequence[int]) -> list[int]:
    wanted = [share * size for size in sizes]
    base = [w.numerator // w.denominator for w in wanted]
    more = int(share * sum(sizes) + Fraction(1, 2)) - sum(base)
    meets = [b + 1 + t > size for b, t, size in zip(base, taken, sizes, strict=True)]
    by_need = sorted(
        (i for i, w in enumerate(wanted) if w.denominator != 1), key=lambda i: (meets[i], base[i] - wanted[i], i)
    )
    for i in by_need[:more]:
        base[i] += 1
    return base


def rows_by_group(codes: NDArray[np.int32], pool: NDArray[np.bool_], groups: int) -> list[NDArray[np.int64]]:
    """The row numbers of every group's part of the pool, ascending: (N,) codes -> one array a group

    A block of rows is sorted at a time, since sorting takes three times the memory of what it sorts.
    """
    import numpy as np

    sizes = np.bincount(codes[pool], minlength=groups)
    sorted_rows = np.empty(sizes.sum(), dtype=np.int64)
    ends = np.cumsum(sizes)
    free = ends - sizes  # where the next row of each group goes
    block = max(BLOCK, groups)
    for start in range(0, len(codes), block):
        rows = start + np.flatnonzero(pool[start : start + block])
        of_rows = codes[rows].astype(np.int16 if groups < 2**15 else np.int32)  # 16 bits are sorted in linear time
        counts = np.bincount(of_rows, minlength=groups)
        shift = free - (np.cumsum(counts) - counts)
        sorted_rows[np.repeat(shift, counts) + np.arange(len(rows))] = rows[np.argsort(of_rows, kind="stable")]
        free += counts
    return np.split(sorted_rows, ends[:-1])


def in_groups(
    size: int, groups: Sequence[NDArray[np.int64]], pick: Callable[[int, NDArray[np.int64]], NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """One mask over `size` rows from what `pick(group number, its rows)` keeps of every group."""
    import numpy as np

    mask = np.zeros(size, dtype=bool)
    for number, rows in enumerate(groups):
        mask[rows[pick(number, rows)]] = True
    return mask
