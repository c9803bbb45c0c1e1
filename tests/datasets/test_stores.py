"""Rows of Parquet files, however these are divided into row groups."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.datasets import stores
from curate.datasets.stores import ParquetStore, open_parquet


def store_of(groups: list[list[int]], folder: Path) -> ParquetStore:
    """Files of row groups of so many rows; the rows are numbered."""
    number, paths = 0, []
    for place, sizes in enumerate(groups):
        paths.append(folder / f"{place}.parquet")
        with pq.ParquetWriter(paths[-1], pa.schema({"n": pa.int64(), "text": pa.string()})) as writer:
            for size in sizes:
                rows = list(range(number, number + size))
                writer.write_table(pa.table({"n": rows, "text": ["x" * 10] * size}))
                number += size
    store = open_parquet(paths)
    assert store is not None
    return store


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
        store = store_of(groups, Path(folder))
        stretch = range(min(ends), min(max(ends), store.rows))
        found = [(read.start, read.table()["n"].to_pylist()) for read in store.reads(["n"], stretch)]
        assert [number for _, numbers in found for number in numbers] == list(stretch)
        assert all(numbers and numbers[0] == start for start, numbers in found)


def test_small_row_groups_are_read_together_and_large_ones_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "BATCH", 10)
    monkeypatch.setattr(stores, "WHOLE_ROWS", 12)
    store = store_of([[3, 3, 4, 1, 12, 25]], tmp_path)
    assert [read.table().num_rows for read in store.reads()] == [10, 1, 12, 10, 10, 5]


def test_heavy_row_groups_are_read_in_pieces_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of([[40, 40]], tmp_path)
    group = pq.read_metadata(tmp_path / "0.parquet").row_group(0)
    monkeypatch.setattr(stores, "WHOLE_BYTES", -(-group.total_byte_size // 2))
    assert [read.table().num_rows for read in store.reads()] == [20, 20, 20, 20]


def test_heavy_row_groups_are_not_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of([[10, 10]], tmp_path)
    size = pq.read_metadata(tmp_path / "0.parquet").row_group(0).total_byte_size
    monkeypatch.setattr(stores, "WHOLE_BYTES", size)
    assert [read.table().num_rows for read in store.reads()] == [10, 10]
