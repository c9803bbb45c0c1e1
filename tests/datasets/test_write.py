from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.datasets.write import check_writable, whole_file, whole_folder, write_parquet
from curate.errors import OutputError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    for names in (["a", "b"], ["b"]):
        with whole_folder(folder) as temporary:
            for name in names:
                (temporary / f"{name}.manifest.json").write_text("{}")
    assert [p.name for p in folder.iterdir()] == ["b.manifest.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["splits"]


def test_a_folder_that_curate_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="did not make"), whole_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_parquet_carries_its_manifest_inside_and_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(pa.table({"x": [1]}), path, {"command": "score"})
    assert pq.read_schema(path).metadata[b"curate"] == (tmp_path / "a.parquet.manifest.json").read_bytes().strip()


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a folder"):
        check_writable(tmp_path / "file" / "out.parquet")
