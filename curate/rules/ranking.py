"""What rows are ranked by: the scores of a table, and the hashes of its ids that order equal scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from curate import selection
from curate.datasets.arrow import as_array, empty_table
from curate.datasets.columns import listed
from curate.datasets.rows import ScoredRows
from curate.datasets.stores import Read
from curate.datasets.stream import in_order
from curate.errors import ColumnError
from curate.hashing import keyed
from curate.rules.values import as_float, as_ranked

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SCORE_PREFIX = "score_"


@dataclass(frozen=True)
class Ranking:
    """Scores of all rows, NaN where one is missing: `scores` (N,) give the order, `shown` (N,) are what users know.

    The two differ only for numbers that float64 cannot tell apart: there `scores` are ranks. `held` is the column
    that `scores` are to the bit, if there is one.
    """

    data: ScoredRows
    by: tuple[str, ...]
    columns: tuple[str, ...]
    scores: NDArray[np.float64]
    shown: NDArray[np.float64]
    held: str | None = None

    @property
    def name(self) -> str:
        """What rows are ranked by, in words."""
        return " + ".join(column.removeprefix(SCORE_PREFIX) for column in self.columns)

    def reads(self) -> Iterator[Read]:
        """All rows of the table in batches, every column, texts maybe as dictionaries; `held` is not read again."""
        if self.held is None:
            return self.data.store.reads(dictionaries=True)
        others = [name for name in self.data.schema.names if name != self.held]
        reads = self.data.store.reads(others, dictionaries=True)
        return (Read(read.start, partial(self._completed, read)) for read in reads)

    def _completed(self, read: Read) -> pa.Table:
        others = read.table()
        place = self.data.schema.get_field_index(self.held)
        scores = as_array(self.scores[read.start : read.start + others.num_rows])
        return others.add_column(place, self.data.schema.field(place), scores)

    @cached_property
    def _hashes(self) -> NDArray[np.uint64]:
        return self.data.id_hashes()

    def hashes(self, seed: int, salt: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
        """Seeded hashes of the ids of some rows, or of all. The id column is read when first needed, and once."""
        return keyed(self._hashes if rows is None else self._hashes[rows], seed, salt)


def make_ranking(data: ScoredRows, by: Sequence[str]) -> Ranking:
    """Rank by one score, or by the mean percentile rank of several (over the rows that have all of them)."""
    table = empty_table(data.schema)
    named: list[str | None] = list(by) or [None]
    columns = tuple(dict.fromkeys(score_column(table, name, data.name) for name in named))
    if len(columns) == 1:
        if data.schema.field(columns[0]).type == "double":
            scores, nulls = _floats(data, columns[0])
            held = None if nulls or len(set(data.schema.names)) < len(data.schema) else columns[0]
            return Ranking(data, tuple(by), columns, scores, scores, held)
        column = data.column(columns[0])
        scores = as_ranked(column)
        return Ranking(data, tuple(by), columns, scores, scores if _is_floating(column) else as_float(column))
    combined = mean_percentile_rank([as_ranked(data.column(name)) for name in columns])
    return Ranking(data, tuple(by), columns, combined, combined)


def _floats(data: ScoredRows, column: str) -> tuple[NDArray[np.float64], int]:
    """A float64 column read batch by batch, so that it is in memory once, and how many nulls it has. (N,)"""
    import numpy as np

    values = np.empty(len(data))

    def fill(read: Read) -> int:
        batch = read.table()[column]
        values[read.start : read.start + len(batch)] = as_float(batch)
        return int(batch.null_count)

    nulls = sum(in_order(partial(fill, read) for read in data.store.reads([column])))
    values.flags.writeable = False  # they may be written to the splits
    return values, nulls


def mean_percentile_rank(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean of each row's percentile ranks, NaN where any score is missing: (N,) each -> (N,) in (0, 100)."""
    import numpy as np

    measured = np.logical_and.reduce([~np.isnan(s) for s in scores])
    combined = np.full(len(scores[0]), np.nan)
    combined[measured] = np.mean([selection.percentile_rank(s[measured]) for s in scores], axis=0)
    return combined


def score_column(table: pa.Table, by: str | None, where: str) -> str:
    """The column to rank by: `score_<by>`, the only score column, or with `column:NAME` any column of numbers.

    ColumnError if that is unclear, or holds no numbers. Only the names and types of `table` are looked at.
    """
    names = [n for n in table.column_names if n.startswith(SCORE_PREFIX)]
    scores = ", ".join(n.removeprefix(SCORE_PREFIX) for n in names)
    plain = (by or "").removeprefix("column:")
    column = names[0] if by is None and names else SCORE_PREFIX + plain.removeprefix(SCORE_PREFIX)
    if column not in names and (by or "").startswith("column:") and plain in table.column_names:
        column = plain
    elif column not in names and (by or "").startswith("column:"):
        raise ColumnError(
            f"{where} has no column {plain!r}.",
            expected=f"one of its columns: {listed(table.column_names)}",
            try_next="--by column:NAME, with a column of numbers from that list",
        )
    elif not names:
        raise ColumnError(
            f"{where} has no score: no column is named {SCORE_PREFIX}….",
            expected="a file that curate score made",
            try_next=f"--by column:{plain}"
            if plain in table.column_names
            else f"curate score {where} --by column:NAME -o scored.parquet, or --by column:NAME here",
        )
    elif by is None and len(names) > 1:
        raise ColumnError(
            f"{where} has {len(names)} scores: {scores}.",
            expected="one of them, or several to rank by the mean of their percentile ranks",
            try_next=f"--by {names[0].removeprefix(SCORE_PREFIX)}",
        )
    elif column not in names:
        raise ColumnError(
            f"{where} has no score named {by!r}.",
            expected=f"one of: {scores}",
            try_next=f"--by {names[0].removeprefix(SCORE_PREFIX)}",
        )
    _check_numbers(table, column, where)
    return column


def _check_numbers(table: pa.Table, column: str, where: str) -> None:
    import pyarrow as pa

    kind = table.schema.field(column).type
    checks = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_null)
    if not any(check(kind) for check in checks):
        raise ColumnError(
            f"The score column {column!r} of {where} holds {kind}, not numbers.",
            expected="numbers, higher for better known",
            try_next="curate score, to make a score column",
        )


def _is_floating(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(column.type))
