"""The data of a recipe as Parquet in its folder: the rows it takes, with what each column is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.read import QATable, manifest_in, read
from curate.datasets.write import write_parquet
from curate.errors import ColumnError, DataError
from curate.manifest import make_manifest
from curate.recipes.sources import Origin
from curate.selection import random_rows

if TYPE_CHECKING:
    import pyarrow as pa

ROLES = ("subject", "relation")


def prepare(
    origin: Origin,
    columns: Mapping[str, Any],
    where: Mapping[str, Sequence[str]],
    limit: int | None,
    output: Path,
) -> int:
    """Write the rows of a dataset that meet `where`, at most `limit` of them drawn by id; how many they are."""
    data = read(origin.name, split=origin.split, **columns)
    rows = wanted_rows(data, where)
    if limit is not None and len(rows) > limit:
        ids = data.ids
        rows = [rows[i] for i in sorted(random_rows([ids[row] for row in rows], limit, seed=0))]
    details = {"where": {name: list(values) for name, values in where.items()}, "limit": limit}
    made_from = manifest_in(data.table)
    manifest = make_manifest("run", data, **details, **({"made_from": made_from} if made_from else {}))
    write_parquet(_take(data.table, rows), output, manifest)
    return len(rows)


def wanted_rows(data: QATable, where: Mapping[str, Sequence[str]]) -> list[int]:
    """The numbers of the rows that have one of the values in each role or column that `where` names."""
    rows = list(range(len(data)))
    for name, values in where.items():
        found = _values(data, name)
        there = {value for value in found if value}
        for value in values:
            if value not in there:
                some = ", ".join(sorted(there)[:12])
                raise DataError(f"No row of {data.source.name} has {value!r} in {name}.", f"one of: {some}")
        rows = [row for row in rows if found[row] in values]
    if not rows:
        raise DataError(f"No row of {data.source.name} meets dataset.where.", expected="conditions that some row meets")
    return rows


def _values(data: QATable, name: str) -> list[str | None]:
    if name in ROLES and name not in data.table.column_names:
        values = [getattr(example, name) for example in data.examples()]
        if not any(values):
            raise ColumnError(
                f"{data.source.name} has no {name}.", expected=f"a column that tells it, by dataset.{name}_column"
            )
        return values
    if name not in data.table.column_names:
        raise ColumnError(
            f"{data.source.name} has no column {name!r} (dataset.where).",
            expected=f"subject, relation, or one of {', '.join(data.table.column_names)}",
        )
    return [None if cell is None else str(cell) for cell in data.table[name].to_pylist()]


def _take(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    import pyarrow as pa

    return table if len(rows) == table.num_rows else table.take(pa.array(rows, pa.int64()))
