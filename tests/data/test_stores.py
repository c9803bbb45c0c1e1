"""Rows of Parquet files, however these are divided into row groups, and threads that read ahead."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.data import stores
from curate.data.stores import ParquetRows, in_types_of, open_parquet


def rows_of(groups: list[list[int]], folder: Path) -> ParquetRows:
    """Files of row groups of so many rows; the rows are numbered."""
    number, paths = 0, []
    for place, sizes in enumerate(groups):
        paths.append(folder / f"{place}.parquet")
        with pq.ParquetWriter(paths[-1], pa.schema({"n": pa.int64(), "text": pa.string()})) as writer:
            for size in sizes:
                rows = list(range(number, number + size))
                writer.write_table(pa.table({"n": rows, "text": ["x" * 10] * size}))
                number += size
    rows = open_parquet("numbers", paths)
    assert rows is not None
    return rows


@given(
    groups=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=3),
    batch=st.integers(1, 12),
    whole=st.integers(1, 12),
    weight=st.sampled_from([1, 100, 10**6]),
    ends=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
def test_a_stretch_has_the_same_rows_however_they_are_grouped(
    groups: list[list[int]], batch: int, whole: int, weight: int, ends: tuple[int, int]
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "BATCH", batch)
        patch.setattr(stores, "WHOLE_ROWS", max(batch, whole))
        patch.setattr(stores, "WHOLE_BYTES", weight)
        rows = rows_of(groups, Path(folder))
        stretch = range(min(ends), min(max(ends), len(rows)))
        found = [(start, read()["n"].to_pylist()) for start, read in rows.pieces(["n"], stretch)]
        assert [number for _, numbers in found for number in numbers] == list(stretch)
        assert all(numbers and numbers[0] == start for start, numbers in found)


def test_small_row_groups_are_read_together_and_large_ones_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "BATCH", 10)
    monkeypatch.setattr(stores, "WHOLE_ROWS", 12)
    rows = rows_of([[3, 3, 4, 1, 12, 25]], tmp_path)
    assert [read().num_rows for _, read in rows.pieces()] == [10, 1, 12, 10, 10, 5]


def test_heavy_row_groups_are_read_in_pieces_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of([[40, 40]], tmp_path)
    group = pq.read_metadata(tmp_path / "0.parquet").row_group(0)
    monkeypatch.setattr(stores, "WHOLE_BYTES", -(-group.total_byte_size // 2))
    assert [read().num_rows for _, read in rows.pieces()] == [20, 20, 20, 20]


def test_heavy_row_groups_are_not_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of([[10, 10]], tmp_path)
    size = pq.read_metadata(tmp_path / "0.parquet").row_group(0).total_byte_size
    monkeypatch.setattr(stores, "WHOLE_BYTES", size)
    assert [read().num_rows for _, read in rows.pieces()] == [10, 10]


def write_texts(path: Path, *groups: list[str | None], **options: Any) -> None:
    schema = pa.schema({"text": pa.string(), "wide": pa.large_string()})
    with pq.ParquetWriter(path, schema, **options) as writer:
        for texts in groups:
            writer.write_table(pa.table({"text": texts, "wide": texts}, schema))


FEW = [None if i % 9 == 0 else f"a text of some length {i % 3}" for i in range(200)]
MANY = [f"text {i} of some length" for i in range(200)]
DELTA = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY", "wide": "DELTA_BYTE_ARRAY"}}


@pytest.mark.parametrize(
    ("first", "second", "options", "expected"),
    [
        (FEW, FEW, {}, True),
        (FEW, MANY, {}, False),
        (MANY, FEW, {}, False),
        (FEW, FEW, {"use_dictionary": False}, False),
        (["https://facts.example/1"] * 200, ["https://facts.example/1"] * 200, DELTA, False),
    ],
    ids=["few values", "many in a later group", "many in the first group", "plain", "delta"],
)
@pytest.mark.parametrize("in_one_file", [True, False])
def test_texts_may_come_as_dictionaries_that_lie_so_in_every_row_group(
    first: list[str], second: list[str], options: Any, expected: bool, in_one_file: bool, tmp_path: Path
) -> None:
    for name, groups in {"a": [first, second]}.items() if in_one_file else {"a": [first], "b": [second]}.items():
        write_texts(tmp_path / f"{name}.parquet", *groups, **options)
    found = open_parquet("texts", sorted(tmp_path.iterdir()))
    assert found is not None
    tables = [read() for _, read in found.pieces(dictionaries=True)]
    assert {pa.types.is_dictionary(kind) for table in tables for kind in table.schema.types} == {expected}
    restored = pa.concat_tables([in_types_of(found.schema, table) for table in tables])
    assert restored.schema.types == [pa.string(), pa.large_string()]
    assert restored["text"].to_pylist() == restored["wide"].to_pylist() == [*first, *second]


def test_a_file_that_is_replaced_while_it_is_opened_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.parquet"
    write_texts(file, FEW)
    write_texts(tmp_path / "new", FEW[:100])
    look = stores.dictionary_columns
    monkeypatch.setattr(stores, "dictionary_columns", lambda files: (look(files), (tmp_path / "new").replace(file))[0])
    rows = open_parquet("texts", [file])
    assert rows is not None
    assert [read()["text"].to_pylist() for _, read in rows.pieces(dictionaries=True)] == [FEW]


def test_a_table_that_is_sent_elsewhere_takes_its_rows_along(tmp_path: Path) -> None:
    table = pa.table({"question": ["Who?", "Where?"], "answer": ["Ann", "here"]})
    pq.write_table(table, tmp_path / "a.parquet")
    data = curate.read(tmp_path / "a.parquet")
    expected = data.examples()
    packed = pickle.dumps(data)
    (tmp_path / "a.parquet").unlink()
    there = pickle.loads(packed)
    assert (there.table, there.examples()) == (table, expected)
    assert (there.name, there.fingerprint) == (data.name, data.fingerprint)


def test_parquet_is_read_when_it_is_asked_for_and_only_the_columns_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"question": ["Who?"] * 60, "answer": ["Ann"] * 60, "note": ["…"] * 60}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=20)
    read: list[Any] = []
    original = pq.ParquetFile.read_row_groups

    def noted(self: pq.ParquetFile, groups: Any, names: Any, **how: Any) -> pa.Table:
        read.append(names)
        return original(self, groups, names, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    data = curate.read(tmp_path / "a.parquet")
    assert (len(data), data.schema.names, read) == (60, list(rows), [])
    assert len(data.examples()) == 60
    assert {tuple(names) for names in read} == {("question", "answer")}
