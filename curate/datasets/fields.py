"""Where a value lies in a row: a column, a dotted path into one (`answer.aliases`), or a text made of such.

A text that is made is written as the function that makes it, `last_user(messages)`; makers.py has these functions.
A column of exactly the given name always comes first, whatever dots and brackets are in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.datasets.answers import spelled
from curate.datasets.jsonfile import to_array
from curate.datasets.makers import MAKERS

if TYPE_CHECKING:
    import pyarrow as pa

_MADE = re.compile(r"^(\w+)\(([^()]*)\)$")


def columns_of(field: str, names: Sequence[str]) -> tuple[str, ...] | None:
    """The columns among `names` that a field reads; None if one of them is not there."""
    paths = [field] if field in names else _split(field)[1]
    found = [_column_and_steps(path, names) for path in paths]
    return None if None in found else tuple(dict.fromkeys(each[0] for each in found if each))


def columns_read(fields: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that some fields, which are there, read, each once."""
    return list(dict.fromkeys(column for field in fields for column in columns_of(field, names) or ()))


def paths_of(*fields: str) -> list[str]:
    """The paths that fields read, each once."""
    return list(dict.fromkeys(path for field in fields for path in _split(field)[1]))


def is_made(field: str) -> bool:
    """Whether a field is written as a text that is made."""
    return _split(field)[0] is not None


def values_of(table: pa.Table, field: str) -> pa.ChunkedArray:
    """The value of a field in every row, as Arrow: the column itself, what lies in it, or what is made of it."""
    import pyarrow as pa

    column = None if is_made(field) and field not in table.column_names else _column_at(table, field)
    return pa.chunked_array([to_array(cells_of(table, field))]) if column is None else column


def cells_of(table: pa.Table, field: str) -> list[Any]:
    """The same as a list."""
    maker, paths = (None, [field]) if field in table.column_names else _split(field)
    cells = [_cells_at(table, path) for path in paths]
    return cells[0] if maker is None else [MAKERS[maker](*row) for row in zip(*cells, strict=True)]


def _split(field: str) -> tuple[str | None, list[str]]:
    """The function and the paths of a made text; None and the path itself of anything else."""
    match = _MADE.match(field)
    if match is None or match[1] not in MAKERS:
        return None, [field]
    return match[1], [path.strip() for path in match[2].split(",")]


def _column_and_steps(path: str, names: Sequence[str]) -> tuple[str, list[str]] | None:
    """The column a path begins with, the longest name first, and the steps into it."""
    steps = path.split(".")
    for length in range(len(steps), 0, -1):
        if (column := ".".join(steps[:length])) in names:
            return column, steps[length:]
    return None


def _column_at(table: pa.Table, path: str) -> pa.ChunkedArray | None:
    """The column at a path through structs; None where the path goes on in lists or texts."""
    column, steps = _walk(table, path)
    return None if steps else column


def _cells_at(table: pa.Table, path: str) -> list[Any]:
    column, steps = _walk(table, path)
    return [_reach(cell, steps) for cell in column.to_pylist()]


def _walk(table: pa.Table, path: str) -> tuple[pa.ChunkedArray, list[str]]:
    """As far as Arrow can go: what is reached, and the steps left."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = _column_and_steps(path, table.column_names)
    assert found is not None, f"columns_of({path!r}) tells whether it is there"
    column, steps = table[found[0]], found[1]
    while steps and pa.types.is_struct(column.type) and column.type.get_field_index(steps[0]) >= 0:
        column, steps = pc.struct_field(column, steps[0]), steps[1:]
    return column, steps


def _reach(cell: Any, steps: Sequence[str]) -> Any:
    """What the steps lead to; in a list, what they lead to in each item. A text that spells an object is one."""
    if not steps:
        return cell
    cell = spelled(cell)
    if isinstance(cell, Mapping):
        return _reach(cell.get(steps[0]), steps[1:])
    return [_reach(item, steps) for item in cell] if isinstance(cell, (list, tuple)) else None
