"""Files in some storage: only what is needed of them is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFile

import curate
from curate.data.table import read
from curate.errors import DataError

URL = "memory://bucket/scored"
ROWS = 4000


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A scored dataset in two files with much text that no rule needs, in a storage and beside it in a folder."""
    memory = fsspec.filesystem("memory")
    texts = [bytes(row).hex() for row in np.random.default_rng(0).integers(0, 256, (ROWS, 200))]
    for part in range(2):
        rows = range(part * ROWS // 2, (part + 1) * ROWS // 2)
        table = pa.table(
            {
                "question": [f"Who is {n}?" for n in rows],
                "answer": ["She"] * len(rows),
                "passage": [texts[n] for n in rows],
                "views": [n * 7 % 997 for n in rows],
            }
        )
        curate.score(table, by="column:views", output=tmp_path / f"{part}.parquet")
        memory.pipe(f"{URL}/{part}.parquet", (tmp_path / f"{part}.parquet").read_bytes())
    yield tmp_path
    memory.rm("memory://bucket", recursive=True)


@pytest.mark.parametrize("name", [URL, f"{URL}/*.parquet"])
def test_a_column_of_many_files_is_read_without_the_others(
    storage: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = MemoryFile.read

    def counted(self: MemoryFile, size: int = -1) -> bytes:
        content = original(self, size)
        sizes.append(len(content))
        return content

    monkeypatch.setattr(MemoryFile, "read", counted)
    assert len(read(name).column("score_views")) == ROWS
    whole = sum(path.stat().st_size for path in storage.glob("*.parquet"))
    assert sum(sizes) < whole / 5


def test_selection_is_that_of_the_same_files_here(storage: Path) -> None:
    here, there = (curate.select(name, top=0.1) for name in (str(storage), URL))
    assert there.kept.equals(here.kept)
    assert there.summary() == here.summary()


def test_the_fingerprint_changes_with_the_files(storage: Path) -> None:
    before = read(URL).fingerprint
    assert read(URL).fingerprint == before
    fsspec.filesystem("memory").pipe(f"{URL}/1.parquet", (storage / "0.parquet").read_bytes())
    assert read(URL).fingerprint != before


def test_a_file_that_is_not_there_is_told_by_its_url() -> None:
    with pytest.raises(DataError, match=r"^memory:/+bucket/none.parquet cannot be read"):
        read("memory://bucket/none.parquet")


def test_row_groups_that_threads_read_at_once_are_whole() -> None:
    import pyarrow.parquet as pq

    table = pa.table({"question": [f"Who is {n}?" for n in range(ROWS)], "answer": ["She"] * ROWS})
    with fsspec.open("memory://groups/data.parquet", "wb") as file:
        pq.write_table(table, file, row_group_size=20)
    data = read("memory://groups/data.parquet")
    assert pa.concat_tables(data.map(lambda _, batch: batch)).equals(table)
    fsspec.filesystem("memory").rm("memory://groups", recursive=True)
