"""Columns of a scored table as what the rules work on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.selection.groups import encoded

CELLS = st.none() | st.sampled_from(["a", "b", "", "ä"])
CHUNKS = st.lists(st.lists(CELLS, max_size=5), max_size=4)


@given(chunks=CHUNKS, kind=st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]))
def test_codes_and_values_are_the_column_whatever_its_chunks(chunks: list[list[str | None]], kind: pa.DataType) -> None:
    parts = [pa.array(cells, pa.string()) for cells in chunks]
    column = pa.chunked_array([part.cast(kind) for part in parts], kind)
    codes, values = encoded(column)
    assert [values[code] for code in codes] == column.to_pylist()


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([pa.nulls(2), pa.nulls(1)]),
        pa.chunked_array([[1, None], [2, 1]]),
        pa.chunked_array([pa.DictionaryArray.from_arrays([0, 1, None, 2], pa.array(["a", None, "a"]))] * 2),
        pa.chunked_array(
            [pa.array(["x", None, "y"]).dictionary_encode().slice(1), pa.array(["z"]).dictionary_encode()]
        ),
    ],
    ids=["nothing but null", "numbers", "null and repeats in a dictionary", "a slice"],
)
def test_unusual_columns_are_encoded_too(column: pa.ChunkedArray) -> None:
    codes, values = encoded(column)
    assert [values[code] for code in codes] == column.to_pylist()


@pytest.mark.parametrize(
    "options",
    [{}, {"stratify_by": "relation"}, {"where": "relation=a"}, {"holdout": 0.2, "holdout_by": "relation"}],
    ids=["plain", "strata", "where", "holdout"],
)
def test_rows_of_no_relation_in_several_row_groups_are_selected_from(options: dict[str, str], tmp_path: Path) -> None:
    n = 60
    relation = [None if i % 7 == 0 else "abc"[i % 3] for i in range(n)]
    rows = {"question": [f"q{i}" for i in range(n)], "answer": ["a"] * n, "relation": relation, "score_x": range(n)}
    table = pa.table(rows)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.data.stores.BATCH", 20)
        found = curate.select(tmp_path / "in.parquet", top=0.5, output=tmp_path / "splits", **options)
    assert found["top"].equals(curate.select(table, top=0.5, **options)["top"])
