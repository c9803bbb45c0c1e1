"""Scores, the total order, cuts and draws: pure functions on arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from fractions import Fraction
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.data.columns import column_list, columns_of, number_within
from curate.data.ids import id_hashes, keyed
from curate.data.stores import as_arrow, as_numpy
from curate.data.table import QATable, T
from curate.errors import ColumnError, SelectionError, setting
from curate.summary import mean_ranks

SCORE_PREFIX = "score_"

Ties = Callable[[NDArray[np.int64]], NDArray[np.uint64]]
"""From places in an array of scores to the seeded hashes that put equal scores in order, or draw rows: (k,) -> (k,)"""

EXACT = 2**53
"""float64 holds every whole number up to here."""

SAMPLE, MARGIN = 100_000, 1500
"""Of how many scores a sample is sorted to find a cut, and how far off in it the cut is looked for: 7 sigma."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows to take: a `share` of the pool, or a `count` of rows."""

    share: Decimal | None = None
    count: int | None = None

    def __str__(self) -> str:
        return str(self.count if self.share is None else self.share)

    def rows(self, pool: int) -> int:
        """k rows of a pool: round-half-up(share × pool), or the count. SelectionError if k is 0 or too many."""
        if self.share is None:
            assert self.count is not None
            if self.count > pool:
                raise SelectionError(
                    f"{self.count} rows were asked for, and only {pool} can be ranked.",
                    expected=f"a count of at most {pool}, or a share",
                    try_next=f"{setting('top', 0.5)}, for half of them",
                )
            return self.count
        k = round_half_up(self.share * pool)
        if k == 0:
            raise SelectionError(f"A share of {self.share} of {pool} rows is no row at all.", expected="a larger share")
        return k

    def fraction(self, pool: int) -> Fraction:
        """The exact share of a pool that this size is."""
        return Fraction(self.rows(pool), pool) if self.share is None else Fraction(self.share)


def round_half_up(number: Decimal) -> int:
    """The nearest whole number; 2.5 gives 3."""
    return int(number.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def parse_size(value: str | float, name: str = "top") -> Size:
    """`0.3` and `30%` are shares, in (0, 1]; an integer above 1 is a count; anything else is a SelectionError.

    `name` is the setting that asks for it.

    >>> parse_size("30%")
    Size(share=Decimal('0.3'), count=None)
    >>> parse_size(100).count
    100
    """
    text = str(value).strip()
    with suppress(InvalidOperation):  # no number, or NaN, which is neither above 1 nor not
        number = Decimal(text.removesuffix("%"))
        if number > 1 and re.fullmatch(r"\+?\d+", text):
            return Size(count=int(number))
        share = number / 100 if text.endswith("%") else number
        if 0 < share <= 1:
            return Size(share=share)
    raise SelectionError(
        f"{setting(name, text)} is not a size.",
        expected="a share above 0 and at most 1 (0.3, or 30%), or a count of rows above 1 (500)",
        try_next=setting(name, 0.3),
    )


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of the order, in percent from its head: 0 is the best known row, 100 the end."""

    low: Decimal
    high: Decimal

    def __str__(self) -> str:
        return f"{self.low}:{self.high}"

    def positions(self, pool: int) -> tuple[int, int]:
        """Where the band starts and stops in an order of `pool` rows; bands that meet share no row."""
        return round_half_up(self.low * pool / 100), round_half_up(self.high * pool / 100)


def parse_band(text: str) -> Band:
    """`30:70` is the middle of the order, its best known 30% and its least known 30% left out.

    >>> parse_band("30:70").positions(10)
    (3, 7)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)%?\s*:\s*(\d+(?:\.\d+)?)%?\s*", str(text))
    band = Band(Decimal(match[1]), Decimal(match[2])) if match else None
    if band is None or not band.low < band.high <= 100:
        raise SelectionError(
            f"{setting('band', text)} is not a band.",
            expected="two percentages of the order, the best known first: FROM:TO with 0 <= FROM < TO <= 100",
            try_next=f"{setting('band', '30:70')}, for the middle 40%",
        )
    return band


def top_rows(scores: NDArray[np.float64], k: int, ties: Ties) -> NDArray[np.bool_]:
    """The head of the total order: the k highest scores, and of those equal to the last, the smallest hashes.

    (N,) -> (N,) mask with exactly k rows. Only rows that tie at the cut are hashed; nothing is sorted.
    """
    if k == 0:
        return np.zeros(len(scores), dtype=bool)
    edge = kth_highest(scores, k)
    mask = scores > edge
    tied = np.flatnonzero(scores == edge)
    wanted = k - int(np.count_nonzero(mask))
    if wanted < len(tied):
        tied = tied[np.argsort(ties(tied), kind="stable")[:wanted]]
    mask[tied] = True
    return mask


def kth_highest(scores: NDArray[np.float64], k: int) -> float:
    """The k-th highest of the scores that are not NaN, of which there are at least k. (N,)

    Of many scores only those between two bounds are copied, which a sample tells: the answer lies there but by a
    freak, and whether it does is counted.
    """
    place = int(np.count_nonzero(~np.isnan(scores))) - k  # in ascending order
    low, high = -np.inf, np.inf
    if len(scores) > SAMPLE:
        sample = np.sort(scores[:: len(scores) // SAMPLE])
        sample = sample[~np.isnan(sample)]
        middle = place * len(sample) // (place + k)
        bounds = np.pad(sample, (MARGIN, MARGIN + 1), constant_values=(-np.inf, np.inf))
        low, high = bounds[middle], bounds[middle + 2 * MARGIN]
    near = scores[(scores >= low) & (scores <= high)]
    place_near = place - int(np.count_nonzero(scores < low))
    if not 0 <= place_near < len(near):
        near, place_near = scores[~np.isnan(scores)], place
    near.partition(place_near)
    return float(near[place_near])


def bottom_rows(scores: NDArray[np.float64], k: int, ties: Ties) -> NDArray[np.bool_]:
    """The tail of the same total order: what its head of all but k rows leaves. (N,) -> (N,)"""
    pool = ~np.isnan(scores)
    return pool & ~top_rows(scores, int(np.count_nonzero(pool)) - k, ties)


def draw_random(scores: NDArray[np.float64], k: int, hashes: Ties) -> NDArray[np.bool_]:
    """k of the rows whose score is not NaN, those with the smallest hashes. (N,) -> (N,)"""
    rows = np.flatnonzero(~np.isnan(scores))
    mask = np.zeros(len(scores), dtype=bool)
    if k:
        of_rows = hashes(rows)
        edge = np.partition(of_rows, k - 1)[k - 1]
        # Equal hashes are equal ids in all likelihood, and then it makes no difference which row is taken.
        below = rows[of_rows < edge]
        mask[below] = True
        mask[rows[of_rows == edge][: k - len(below)]] = True
    return mask


def ordered(scores: NDArray[np.float64], hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Row numbers in the total order: score descending, of equal scores the smallest hash first. (N,), (N,) -> (N,)"""
    return np.lexsort((hashes, -scores))


def total_order(scores: NDArray[np.float64], ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The same of rows by their ids. (N,), (N,) -> (N,)"""
    return ordered(scores, id_hashes(ids, seed, "ties"))


def random_rows(ids: Sequence[str], k: int, seed: int, salt: str) -> NDArray[np.int64]:
    """k row numbers drawn by a seeded hash of the id. (N,) ids -> (k,)

    Two draws, one from what the other left, must have different salts: with one hash the second draws nothing.
    """
    return np.argsort(id_hashes(ids, seed, salt), kind="stable")[:k]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a ranked split ends: the score of its last row, and how many rows of the pool share that score."""

    score: float
    ties: int
    ties_kept: int


def cut_of(
    scores: NDArray[np.float64], chosen: NDArray[np.bool_], edge: float, shown: NDArray[np.float64] | None = None
) -> Cut:
    """The cut of a split that ends at the score `edge`; `shown` are the scores as the user knows them. (N,) each"""
    same = scores == edge
    both = same & chosen
    score = float((scores if shown is None else shown)[np.argmax(both)])
    return Cut(score, int(np.count_nonzero(same)), int(np.count_nonzero(both)))


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


def percentile_rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of the values lie below each one, plus half of those equal to it, in percent. (N,) -> (N,)

    >>> percentile_rank(np.array([5.0, 1.0, 5.0, 9.0])).tolist()
    [50.0, 12.5, 50.0, 87.5]
    """
    return np.asarray(100 * (mean_ranks(values) - 0.5) / max(1, len(values)))


def mean_percentile_rank(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean of each row's percentile ranks, NaN where any score is missing: (N,) each -> (N,) in (0, 100)."""
    measured = np.logical_and.reduce([~np.isnan(s) for s in scores])
    combined = np.full(len(scores[0]), np.nan)
    combined[measured] = np.mean([percentile_rank(s[measured]) for s in scores], axis=0)
    return combined


@dataclass(frozen=True)
class Ranking:
    """Scores of all rows, NaN where one is missing: `scores` (N,) give the order, `shown` (N,) are what users know.

    The two differ only for numbers that float64 cannot tell apart: there `scores` are ranks. `held` is the column
    that `scores` are to the bit, if there is one.
    """

    data: QATable
    columns: tuple[str, ...]
    scores: NDArray[np.float64]
    shown: NDArray[np.float64]
    held: str | None = None

    @property
    def name(self) -> str:
        """What rows are ranked by, in words."""
        return " + ".join(column.removeprefix(SCORE_PREFIX) for column in self.columns)

    def map(self, work: Callable[[int, pa.Table], T]) -> Iterator[T]:
        """`QATable.map` over all rows and columns, texts maybe as dictionaries; `held` is not read again."""
        if self.held is None:
            return self.data.map(work, dictionaries=True)
        place = self.data.schema.get_field_index(self.held)

        def completed(start: int, others: pa.Table) -> T:
            scores = as_arrow(self.scores[start : start + others.num_rows])
            return work(start, others.add_column(place, self.data.schema.field(place), scores))

        names = [name for name in self.data.schema.names if name != self.held]
        return self.data.map(completed, names, dictionaries=True)

    @cached_property
    def _id_hashes(self) -> NDArray[np.uint64]:
        return self.data.id_hashes()

    def hashes(self, rows: NDArray[np.int64], seed: int, salt: str) -> NDArray[np.uint64]:
        """Seeded hashes of the ids of some rows. (k,) -> (k,); the id column is read when first needed, and once."""
        return keyed(self._id_hashes[rows], seed, salt)


def ranked_by(data: QATable, by: Sequence[str]) -> tuple[str, ...]:
    """The columns to rank by, each once."""
    return tuple(dict.fromkeys(score_column(data, name) for name in by or (None,)))


def make_ranking(data: QATable, columns: tuple[str, ...]) -> Ranking:
    """Rank by one column, or by the mean percentile rank of several (over the rows that have all of them)."""
    if len(columns) > 1:
        combined = mean_percentile_rank([as_ranked(data.column(name)) for name in columns])
        return Ranking(data, columns, combined, combined)
    if columns[0] in data.schema.names and pa.types.is_float64(data.schema.field(columns[0]).type):
        return _rank_floats(data, columns)
    column = data.column(columns[0])
    scores = as_ranked(column)
    return Ranking(data, columns, scores, scores if pa.types.is_floating(column.type) else as_float(column))


def _rank_floats(data: QATable, columns: tuple[str, ...]) -> Ranking:
    """Rank by a float64 column read batch by batch into one array, so that it is in memory once."""
    values = np.empty(len(data))

    def fill(start: int, batch: pa.Table) -> int:
        values[start : start + batch.num_rows] = as_float(batch[columns[0]])
        return int(batch[columns[0]].null_count)

    nulls = sum(data.map(fill, [*columns]))
    values.flags.writeable = False  # they may be written to the splits
    names_repeat = len(set(data.schema.names)) < len(data.schema)
    return Ranking(data, columns, values, values, None if nulls or names_repeat else columns[0])


def score_column(data: QATable, by: str | None) -> str:
    """The column to rank by: `score_<by>`, the only score column, or with `column:NAME` any of numbers, dotted too.

    ColumnError if that is unclear, or holds no numbers.
    """
    schema, where = data.schema, data.name
    scores = [n.removeprefix(SCORE_PREFIX) for n in schema.names if n.startswith(SCORE_PREFIX)]
    plain = (by or "").removeprefix("column:")
    name = scores[0] if by is None and scores else plain.removeprefix(SCORE_PREFIX)
    if by is None and len(scores) > 1:
        raise ColumnError(
            f"{where} has {len(scores)} scores: {', '.join(scores)}.",
            expected="one of them, or several to rank by the mean of their percentile ranks",
            try_next=setting("by", scores[0]),
        )
    if name in scores:
        column = SCORE_PREFIX + name
    elif by is not None and by.startswith("column:"):
        if columns_of(plain, schema.names) is None:
            raise ColumnError(
                f"{where} has no column {plain!r}.",
                expected=f"one of its columns: {column_list(schema.names)}",
                try_next=f"{setting('by', 'column:NAME')}, with a column of numbers from that list",
            )
        column = plain
    elif scores:
        raise ColumnError(
            f"{where} has no score named {by!r}.",
            expected=f"one of: {', '.join(scores)}",
            try_next=setting("by", scores[0]),
        )
    else:
        scoring = f"curate score {where} --by column:NAME -o scored.parquet"
        raise ColumnError(
            f"{where} has no score: no column is named {SCORE_PREFIX}….",
            expected="a file that curate score made",
            try_next=setting("by", f"column:{plain}")
            if columns_of(plain, schema.names)
            else f"{scoring}, or {setting('by', 'column:NAME')} here",
        )
    kind = schema.field(column).type if column in schema.names else data.column(column).type
    if not (is_number(kind) or pa.types.is_null(kind)):
        raise ColumnError(
            f"The score column {column!r} of {where} holds {kind}, not numbers.",
            expected="numbers, higher for better known",
            try_next=setting("by", f"column:{number_within(schema, column)}")
            if number_within(schema, column)
            else "curate score, to make a score column",
        )
    return column


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type can be a score."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
