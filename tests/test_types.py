"""A table of any Arrow types comes out of score and select as it went in: equal values, equal types."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import curate

TIMES = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1))
DECIMALS = st.decimals(-999, 999, places=2, allow_nan=False)
TEXTS = st.text(max_size=5)
INTS = st.integers(-100, 100)

LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.null(), st.none()),
    (pa.bool_(), st.booleans()),
    (pa.int8(), INTS),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float16(), st.integers(-8, 8).map(float)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.decimal128(7, 2), DECIMALS),
    (pa.decimal256(40, 2), DECIMALS),
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.binary(), st.binary(max_size=4)),
    (pa.binary(2), st.binary(min_size=2, max_size=2)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us"), TIMES),
    (pa.timestamp("ms", "Europe/Paris"), TIMES.map(lambda t: t.replace(microsecond=0, tzinfo=datetime.timezone.utc))),
    (pa.time64("us"), st.times()),
    (pa.duration("us"), st.timedeltas(max_value=datetime.timedelta(days=9), min_value=datetime.timedelta(0))),
    (pa.dictionary(pa.int8(), pa.string()), st.sampled_from("abc")),
]


def nested(inner: st.SearchStrategy[tuple[pa.DataType, Any]]) -> st.SearchStrategy[tuple[pa.DataType, Any]]:
    plain = inner.filter(lambda found: not pa.types.is_dictionary(found[0]))  # pyarrow makes no lists of dictionaries
    return st.one_of(
        plain.map(lambda t: (pa.list_(t[0]), st.lists(st.none() | t[1], max_size=2))),
        plain.map(lambda t: (pa.large_list(t[0]), st.lists(t[1], max_size=2))),
        plain.map(lambda t: (pa.list_(t[0], 2), st.lists(t[1], min_size=2, max_size=2))),
        plain.map(lambda t: (pa.struct([("x", t[0])]), st.fixed_dictionaries({"x": t[1]}))),
        plain.map(lambda t: (pa.map_(pa.string(), t[0]), st.dictionaries(TEXTS, t[1], max_size=2).map(items))),
    )


def items(pairs: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(pairs.items())


TYPES = st.recursive(st.sampled_from(LEAVES), nested, max_leaves=3)
ROWS = 4


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    columns = {
        "question": pa.array([f"q{n}" for n in range(ROWS)]),
        "answers": pa.array([["a"]] * ROWS),
        "views": pa.array(draw(st.permutations(range(ROWS))), pa.int64()),
    }
    for position in range(draw(st.integers(1, 3))):
        kind, values = draw(TYPES)
        cells = draw(st.lists(st.none() | values, min_size=ROWS, max_size=ROWS))
        columns[f"any {position}"] = pa.array(cells, kind)
    return pa.table(columns)


NESTED_NULLS = pa.nulls(ROWS, pa.list_(pa.list_(pa.null(), 2), 2))  # of which Arrow's `take` makes what a cast refuses


@settings(max_examples=60)
@given(table=tables())
@example(
    table=pa.table({"question": list("abcd"), "answers": [["a"]] * ROWS, "views": range(ROWS), "odd": NESTED_NULLS})
)
def test_any_types_survive_score_and_select(tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> None:
    folder: Path = tmp_path_factory.getbasetemp()
    scored = pq.read_table(curate.score(table, by="column:views", output=folder / "scored.parquet", force=True))
    assert scored.select(table.column_names).equals(table)
    assert curate.score(table, by="column:views").equals(scored)
    curate.select(folder / "scored.parquet", top=2, output=folder / "top.parquet", force=True)
    order = sorted(range(ROWS), key=lambda row: -table["views"][row].as_py())
    top, expected = pq.read_table(folder / "top.parquet"), scored.take(sorted(order[:2]))
    assert top.schema.equals(expected.schema)
    assert top.to_pylist() == expected.to_pylist()  # dictionaries may lack values that no row has


def test_a_type_that_parquet_has_not_is_named(tmp_path: Path) -> None:
    odd = pa.array([pa.MonthDayNano([1, 2, 3])], pa.month_day_nano_interval())
    table = pa.table({"question": ["q"], "answers": ["a"], "views": [1], "odd": odd})
    with pytest.raises(curate.CurateError, match="odd"):
        curate.score(table, by="column:views", output=tmp_path / "scored.parquet")
