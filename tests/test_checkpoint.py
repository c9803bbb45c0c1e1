"""A finished piece of work is there for the next run, whole, and only where everything that made it is the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from curate.checkpoint import Checkpoint, key_of


def test_what_was_put_is_there_for_the_next_run(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "parts").get("a") is None
    piece = {"value": 0.1 + 0.2, "infinite": math.inf, "rows": (1, 2), "none": None}
    Checkpoint(tmp_path / "parts").put("a", piece)
    assert Checkpoint(tmp_path / "parts").get("a") == {**piece, "rows": [1, 2]}
    assert "a" in Checkpoint(tmp_path / "parts") and "b" not in Checkpoint(tmp_path / "parts")


def test_a_piece_is_made_once_and_is_the_same_whether_it_was_made_or_kept(tmp_path: Path) -> None:
    made: list[int] = []

    def work() -> dict[str, tuple[int, ...]]:
        made.append(1)
        return {"rows": (1, 2)}

    assert [Checkpoint(tmp_path).make("a", work) for _ in range(2)] == [{"rows": [1, 2]}] * 2
    assert made == [1]


def test_a_piece_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path)
    with pytest.raises(TypeError):
        kept.put("a", object())
    assert kept.get("a") is None
    assert list(tmp_path.iterdir()) == []


def test_when_all_is_done_nothing_is_left(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "parts")
    kept.put("a", 1)
    kept.clear()
    kept.clear()
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("other", [("a", 2), ("b", 1), (["a"], 1), ("a", 1.5), ("a",), ("a", 1, None)])
def test_other_content_has_another_key(other: tuple[object, ...]) -> None:
    assert key_of(*other) != key_of("a", 1)
    assert key_of(*other) == key_of(*other)
    assert key_of("\ud800"), "a lone surrogate, which no encoding knows, has one too"
