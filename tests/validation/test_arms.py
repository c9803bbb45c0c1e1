"""What becomes an arm, and what it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import curate
from curate.errors import DataError
from curate.validation.arms import count_leakage, make_test_set, read_arms


@pytest.fixture
def files(films: list[dict[str, Any]], tmp_path: Path) -> list[Path]:
    """A split called top in each of two folders."""
    paths = [tmp_path / folder / "top.parquet" for folder in ("views", "loss")]
    for path in paths:
        path.parent.mkdir()
        curate.score(films, "column:views", output=path)
    return paths


def test_two_files_of_one_name_are_two_arms(files: list[Path]) -> None:
    assert [arm.name for arm in read_arms(files)] == ["top", "top-2"]


def test_one_file_named_twice_is_refused(files: list[Path]) -> None:
    for twice in (
        [files[0], files[0]],
        [files[0].parent, files[0]],
        [files[0], files[1].parent / "../views/top.parquet"],
    ):
        with pytest.raises(DataError, match=r"top\.parquet is named twice"):
            read_arms(twice)


def test_a_question_is_shared_whatever_its_capitals_and_spaces(films: list[dict[str, Any]]) -> None:
    written = [{**films[0], "question": "WHO directed  Alien? ", "subject": "alien"}]
    test = make_test_set(curate.read(written))
    arms = read_arms({"top": films, "bottom": films[1:4]})
    assert count_leakage(arms, test) == {"top": {"question": 1, "subject": 1}, "bottom": {"question": 0, "subject": 1}}
