from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data import files
from curate.data.files import check_not_input, check_writable, plain, whole_file, whole_folder, write_parquet
from curate.errors import OutputError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


SPLIT = {
    "command": "select",
    "input": {"name": "a.parquet", "sha256": "0", "rows": 1},
    "columns": {"question": "x", "answers": "x"},
    "selection": {"split": "top", "asked": "1", "by": "x", "seed": 0, "use": "training"},
}
"""A manifest, as far as it is read."""


def write_splits(folder: Path, *names: str) -> None:
    with whole_folder(folder) as temporary:
        for name in names:
            write_parquet(pa.table({"x": [1]}), temporary / f"{name}.parquet", SPLIT)


def test_a_folder_of_splits_takes_the_place_of_the_old_one_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    write_splits(folder, "a", "b")
    write_splits(folder, "b")
    assert sorted(p.name for p in folder.iterdir()) == ["b.parquet", "b.parquet.manifest.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["splits"]


@pytest.mark.parametrize("name", ["notes.txt", "mine.parquet", "scored.parquet"])
def test_whatever_else_lies_among_the_splits_is_never_lost(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "splits"
    write_splits(folder, "a")
    write_parquet(
        pa.table({"x": [1]}), folder / name, {**SPLIT, "command": "score", "estimators": [], "statuses": {}}
    ) if "scored" in name else None
    (folder / name).touch()
    before = sorted(folder.iterdir())
    with pytest.raises(OutputError, match="did not write"):
        write_splits(folder, "b")
    assert sorted(folder.iterdir()) == before


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_splits(tmp_path / "link", "a")
    write_splits(tmp_path / "link", "b")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "b.parquet").is_file()


def test_an_output_never_takes_the_place_of_its_input(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits", "a")
    for output in (tmp_path / "splits" / "a.parquet", tmp_path / "splits"):
        with pytest.raises(OutputError, match="would replace the input"):
            check_not_input(tmp_path / "splits" / "a.parquet", output)
    check_not_input(tmp_path / "splits" / "a.parquet", tmp_path / "b.parquet")


def test_numbers_that_json_does_not_know_are_text() -> None:
    assert plain({"cut": [float("inf"), -float("inf"), float("nan"), 1.5]}) == {"cut": ["inf", "-inf", "nan", 1.5]}


def test_a_folder_that_curate_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="did not write"), whole_folder(tmp_path):
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


@pytest.mark.parametrize("whole", ["whole_file", "whole_folder"])
def test_what_a_killed_run_left_hidden_is_removed_by_the_next_and_not_what_a_living_one_writes(
    whole: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    place = "made / 'x'" if whole == "whole_folder" else "made"
    program = (
        "import pathlib, sys, time; from curate.data import files\n"
        f"with files.{whole}(pathlib.Path({str(output)!r})) as made:\n"
        f"    ({place}).write_text('half'); print('written', flush=True); time.sleep(600)\n"
    )
    ours = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for process in ours:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
        ours[0].kill()
        ours[0].wait()
        assert len(list(tmp_path.iterdir())) == 2
        with getattr(files, whole)(output) as made:
            (made / "x" if whole == "whole_folder" else made).write_text("all")
        (hidden,) = {*tmp_path.iterdir()} - {output}
        assert f".{ours[1].pid}-" in hidden.name
    finally:
        for process in ours:
            process.kill()
            process.communicate()
