"""Rows by relation, subject or first answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.data.answers import answer_text, parse_answers
from curate.data.columns import column_list, columns_of, nearest
from curate.data.stores import as_arrow, as_numpy, encode, valid_rows
from curate.data.table import QATable
from curate.errors import ColumnError, SelectionError, setting

EXACT = 2**53
"""float64 holds every whole number up to here."""


@dataclass(frozen=True)
class Groups:
    """The group of every row: `codes` (N,) int32 into `labels`, -1 where there is none."""

    codes: NDArray[np.int32]
    labels: Sequence[str]


def as_float(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers as float64 (the nearest), NaN where there is none. (N,)"""

    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    elif not pa.types.is_float64(column.type):
        column = pc.cast(column, pa.float64(), safe=False)
    parts = [as_numpy(chunk, np.float64, null=np.nan) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts])


def as_ranked(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """float64 in exactly the order of the column, NaN where there is none; dense ranks where float64 is too coarse."""

    values = as_float(column)
    too_coarse = pa.types.is_integer(column.type) and bool((np.abs(values) > EXACT).any())
    if too_coarse or pa.types.is_decimal(column.type):
        ranks = pc.rank(column, "ascending", tiebreaker="dense")
        return np.where(np.isnan(values), np.nan, np.asarray(ranks, dtype=np.float64))
    return values


def groups_of(column: pa.ChunkedArray, labels: str) -> Groups:
    """The rows grouped by their text in a column; null is a group of its own. Groups are sorted by their text.

    `labels` names the column in the message when its cells are no plain values.
    """
    check_plain(column, labels)
    codes, values = encoded(column)
    return _sorted_groups(codes, ["(none)" if v is None else answer_text(v) for v in values])


def check_plain(column: pa.ChunkedArray, name: str) -> None:
    """ColumnError for a column of lists or structs, whose cells are not told apart by their text."""

    if pa.types.is_nested(column.type):
        raise ColumnError(
            f"The column {name!r} holds {column.type}, which is no group.",
            expected="a column of plain values",
            try_next="another column",
        )


def first_answers(column: pa.ChunkedArray) -> Groups:
    """The rows grouped by the answer that trains, the first accepted one; -1 for rows without an answer."""

    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        has_items, items = _first_items(column)
        codes, cells = encoded(items)
        texts = [answer_text(cell) for cell in cells]
        if all(texts):  # else what trains is a later item
            firsts = _sorted_groups(codes, texts)
            of_rows = np.full(len(column), -1, dtype=np.int32)
            of_rows[has_items] = firsts.codes
            return Groups(of_rows, firsts.labels)
    codes, answers = accepted_answers(column)
    return _sorted_groups(codes, [a[0] if a else None for a in answers])


def _first_items(column: pa.ChunkedArray) -> tuple[NDArray[np.bool_], pa.ChunkedArray]:
    """Which lists have items (N,), and the first item of each of these."""

    masks, items = [np.empty(0, dtype=bool)], []
    for chunk in column.chunks:
        offsets = as_numpy(chunk.offsets, np.int32)
        mask = valid_rows(chunk) & (np.diff(offsets) > 0)
        masks.append(mask)
        items.append(chunk.values.take(as_arrow(offsets[:-1][mask])))
    return np.concatenate(masks), pa.chunked_array(items, column.type.value_type)


def accepted_answers(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[tuple[str, ...]]]:
    """For every row the number of its cell among the distinct cells, and the accepted answers of each of these."""

    if not pa.types.is_nested(column.type):
        codes, cells = encoded(column)
        return codes, [parse_answers(cell) for cell in cells]
    number: dict[tuple[str, ...], int] = {}
    rows = [number.setdefault(parse_answers(cell), len(number)) for cell in column.to_pylist()]
    return np.array(rows, dtype=np.int32), list(number)


def encoded(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[Any]]:
    """For every row the number of its value among the distinct values (null is one), and these."""

    array = encode(column).unify_dictionaries()
    if not array.num_chunks:
        return np.empty(0, dtype=np.int32), []
    values = array.chunk(0).dictionary.to_pylist()
    null = len(values)  # Arrow cannot unify dictionaries with null among their values
    codes = np.concatenate([as_numpy(chunk.indices, np.int32, null) for chunk in array.chunks])
    return codes, [*values, None] if array.null_count else values


def role_column(data: QATable, name: str, option: str) -> str:
    """The column that plays a role (`relation`) or has this name; ColumnError, naming the option, for neither."""
    role = data.roles.as_dict().get(name)
    column = role if isinstance(role, str) else name
    if columns_of(column, data.schema.names) is None:
        raise ColumnError(
            f"{data.name} has no column {name!r} (asked for with {setting(option)}).",
            expected=f"one of its columns: {column_list(data.schema.names)}",
            try_next=setting(option, f"{nearest(name, data.schema.names)}{'=VALUE' if option == 'where' else ''}"),
        )
    return column


def _sorted_groups(codes: NDArray[np.int32], texts: Sequence[str | None]) -> Groups:
    labels = sorted({text for text in texts if text is not None})
    place = {label: i for i, label in enumerate(labels)}
    new = np.array([-1 if text is None else place[text] for text in texts], dtype=np.int32)
    return Groups(new[codes] if len(new) else np.empty(0, dtype=np.int32), labels)


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

    mask = np.zeros(size, dtype=bool)
    for number, rows in enumerate(groups):
        mask[rows[pick(number, rows)]] = True
    return mask


def most_frequent(groups: NDArray[np.int32], answers: NDArray[np.int32], pool: NDArray[np.bool_]) -> dict[int, int]:
    """Group to the answer that most of its pool rows have; of equally frequent answers, the lowest number.

    `groups` and `answers` are codes, (N,) each; a row whose answer is -1 has none and does not count.
    """

    rows = pool & (answers >= 0) & (groups >= 0)
    pairs, counts = np.unique(np.stack([groups[rows], answers[rows]]), axis=1, return_counts=True)
    best: dict[int, int] = {}
    # np.unique sorts by group, then answer; a stable sort by count keeps the lowest answer of equals first.
    for at in np.argsort(-counts, kind="stable"):
        best.setdefault(int(pairs[0, at]), int(pairs[1, at]))
    return best


def with_frequent_answer(
    groups: NDArray[np.int32], answers: NDArray[np.int32], frequent: dict[int, int]
) -> NDArray[np.bool_]:
    """The rows whose answer is the most frequent one of their group: (N,), (N,) -> (N,)"""

    wanted = np.full(int(groups.max(initial=-1)) + 2, -2)  # the last place is where group -1, no group, looks
    wanted[list(frequent)] = list(frequent.values())
    return np.asarray(answers == wanted[groups])


def other_answers(
    cells: NDArray[np.int32], accepted: Sequence[tuple[str, ...]], kept: Sequence[str]
) -> NDArray[np.bool_]:
    """The rows that have answers, none of which, alternative ones included, is one of the `kept` answers.

    `cells` (N,) are numbers into `accepted`. Without the alternative answers a model that gives a kept answer to
    every question would be right on part of the test set.
    """

    forbidden = {answer.casefold() for answer in kept}
    other = [bool(a) and not any(answer.casefold() in forbidden for answer in a) for a in accepted]
    return np.array(other, dtype=bool)[cells]


def subject_codes(column: pa.ChunkedArray, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """The subject of every row as a number into the distinct subjects; -1 for a row that has none.

    Subjects are the same when their text is, outer blanks and case aside. ColumnError, with the column's `name`, for
    lists and structs.
    """

    from curate.data.answers import answer_text

    check_plain(column, name)
    codes, values = encoded(column)
    number: dict[str, int] = {}
    texts = [answer_text(value).casefold() for value in values]
    new = np.array([number.setdefault(t, len(number)) if t else -1 for t in texts], dtype=np.int64)
    return (new[codes] if len(new) else new), list(number)


def held_out(
    subjects: NDArray[np.int64], hashes: NDArray[np.uint64], pool: NDArray[np.bool_], k: int
) -> NDArray[np.bool_]:
    """All rows, in the pool or not, of whole subjects drawn in the order of their hashes until k pool rows are held.

    `subjects` (N,) are numbers into `hashes`. A row without a subject (-1) is never held out: nobody could say
    what else shares its subject. SelectionError when too few rows have a subject, or none is left to train on.
    """

    counts = np.bincount(subjects[pool & (subjects >= 0)], minlength=len(hashes))
    order = np.argsort(hashes, kind="stable")
    held = np.cumsum(counts[order])
    if not len(held) or held[-1] < k:
        found = int(held[-1]) if len(held) else 0
        raise SelectionError(
            f"{k} rows were to be held out, and only {found} rows have a subject.",
            expected="a smaller --holdout, or another --holdout-by",
        )
    drawn = np.zeros(len(hashes) + 1, dtype=bool)  # the last place is where -1, no subject, looks
    drawn[order[: int(np.searchsorted(held, k)) + 1]] = True
    mask = drawn[subjects]
    if not (pool & ~mask).any():
        raise SelectionError(
            "Holding out whole subjects leaves no row to choose from.",
            expected="a smaller --holdout, or more subjects",
        )
    return mask
