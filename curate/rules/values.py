"""Columns of a scored table as what the rules work on: numbers to rank by, groups, first answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.datasets.answers import answer_text, parse_answers
from curate.datasets.arrow import as_indices, encode, numpy_view, valid_rows
from curate.datasets.columns import listed, nearest
from curate.datasets.fields import columns_of
from curate.datasets.rows import ScoredRows
from curate.errors import ColumnError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

EXACT = 2**53
"""float64 holds every whole number up to here."""


@dataclass(frozen=True)
class Groups:
    """The group of every row: `codes` (N,) int32 into `labels`, -1 where there is none."""

    codes: NDArray[np.int32]
    labels: Sequence[str]


def as_float(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers as float64 (the nearest), NaN where there is none. (N,)"""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    elif not pa.types.is_float64(column.type):
        column = pc.cast(column, pa.float64(), safe=False)
    parts = [numpy_view(chunk, np.float64, null=np.nan) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts])


def as_ranked(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """float64 in exactly the order of the column, NaN where there is none; dense ranks where float64 is too coarse."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

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
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        raise ColumnError(
            f"The column {name!r} holds {column.type}, which is no group.",
            expected="a column of plain values",
            try_next="another column",
        )


def first_answers(column: pa.ChunkedArray) -> Groups:
    """The rows grouped by the answer that trains, the first accepted one; -1 for rows without an answer."""
    import numpy as np
    import pyarrow as pa

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
    import numpy as np
    import pyarrow as pa

    masks, items = [np.empty(0, dtype=bool)], []
    for chunk in column.chunks:
        offsets = numpy_view(chunk.offsets, np.int32)
        mask = valid_rows(chunk) & (np.diff(offsets) > 0)
        masks.append(mask)
        items.append(chunk.values.take(as_indices(offsets[:-1][mask])))
    return np.concatenate(masks), pa.chunked_array(items, column.type.value_type)


def accepted_answers(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[tuple[str, ...]]]:
    """For every row the number of its cell among the distinct cells, and the accepted answers of each of these."""
    import numpy as np
    import pyarrow as pa

    if not pa.types.is_nested(column.type):
        codes, cells = encoded(column)
        return codes, [parse_answers(cell) for cell in cells]
    number: dict[tuple[str, ...], int] = {}
    rows = [number.setdefault(parse_answers(cell), len(number)) for cell in column.to_pylist()]
    return np.array(rows, dtype=np.int32), list(number)


def encoded(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[Any]]:
    """For every row the number of its value among the distinct values (null is one), and these."""
    import numpy as np

    array = encode(column).unify_dictionaries()
    if not array.num_chunks:
        return np.empty(0, dtype=np.int32), []
    values = array.chunk(0).dictionary.to_pylist()
    null = len(values)  # Arrow cannot unify dictionaries with null among their values
    codes = np.concatenate([numpy_view(chunk.indices, np.int32, null) for chunk in array.chunks])
    return codes, [*values, None] if array.null_count else values


def role_column(data: ScoredRows, name: str, flag: str) -> str:
    """The column a role (`relation`) plays or that has this name; ColumnError when there is neither."""
    role = data.roles.as_dict().get(name)
    column = role if isinstance(role, str) else name
    if columns_of(column, data.schema.names) is None:
        raise ColumnError(
            f"{data.name} has no column {name!r} (asked for with --{flag}).",
            expected=f"one of its columns: {listed(data.schema.names)}",
            try_next=f"--{flag} {nearest(name, data.schema.names)}{'=VALUE' if flag == 'where' else ''}",
        )
    return column


def _sorted_groups(codes: NDArray[np.int32], texts: Sequence[str | None]) -> Groups:
    import numpy as np

    labels = sorted({text for text in texts if text is not None})
    place = {label: i for i, label in enumerate(labels)}
    new = np.array([-1 if text is None else place[text] for text in texts], dtype=np.int32)
    return Groups(new[codes] if len(new) else np.empty(0, dtype=np.int32), labels)
