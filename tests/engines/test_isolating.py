"""Rows that an estimator fails on end with a status; what is wrong with the run ends the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.engines import in_halves
from curate.errors import EstimatorError, ModelError
from curate.estimators import ESTIMATORS
from curate.estimators.base import Estimator
from curate.records import Example, Score
from curate.scoring import MOST_FAILED

ROWS = [{"question": f"Who is {n}?", "answer": "She"} for n in range(100)]


def number(example: Example) -> int:
    return int(example.question.removeprefix("Who is ")[:-1])


class Touchy(Estimator):
    """Fails on any chunk that has one of some rows."""

    usage = "touchy"
    name = "touchy"
    wrong: frozenset[int] = frozenset()
    error: type[Exception] = ValueError

    @classmethod
    def make(cls, argument: str, settings: Any, columns: Sequence[str]) -> Estimator:
        return cls()

    def fingerprint(self) -> Mapping[str, Any]:
        return {"estimator": "touchy"}

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        if self.wrong & set(map(number, examples)):
            raise self.error("no")
        return (Score(float(number(example))) for example in examples)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Scores rows by an estimator that fails on some of them."""
    monkeypatch.setitem(ESTIMATORS, "touchy", Touchy)

    def score(wrong: Sequence[int], rows: Any = ROWS, error: type[Exception] = ValueError, **options: Any) -> Any:
        monkeypatch.setattr(Touchy, "wrong", frozenset(wrong))
        monkeypatch.setattr(Touchy, "error", error)
        found = curate.score(rows, by="touchy", **options)
        return curate.read(found).table.to_pylist() if options.get("output") else found

    return score


@pytest.mark.parametrize("wrong", [[], [0], [99], [7, 8, 50]])
def test_only_the_rows_at_fault_have_no_score(scores: Callable[..., Any], wrong: list[int]) -> None:
    found = scores(wrong)
    assert [row["score_touchy"] for row in found] == [None if n in wrong else float(n) for n in range(100)]
    assert [n for n, row in enumerate(found) if row["touchy_status"] == "failed"] == wrong


def test_the_errors_of_failed_rows_are_told_as_reasons(
    scores: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(examples: Sequence[Example]) -> list[float]:
        if (fault := {n for n in map(number, examples) if n in (3, 50, 60)}) and len(examples) == 1:
            raise ValueError("in the\nmiddle " + "x" * 1000) if fault == {3} else KeyError("late")
        return [1 / (not fault)] * len(examples)

    curate.score(ROWS, by=odd, output=tmp_path / "scored.parquet")
    why = json.loads((tmp_path / "scored.parquet.manifest.json").read_text())["reasons"]["odd"]
    late, other = sorted(why)
    assert (late, why[late], why[other]) == ("KeyError: 'late'", 2, 1)
    assert other.startswith("ValueError: in the middle x") and len(other) == 200


@pytest.mark.parametrize("rows", [1, MOST_FAILED, 100])
def test_an_error_of_every_row_ends_the_run(scores: Callable[..., Any], rows: int) -> None:
    with pytest.raises(EstimatorError, match="'touchy' failed: ValueError: no"):
        scores(range(100), ROWS[:rows])


def test_a_short_last_chunk_may_fail_as_a_whole(scores: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 33)
    for batch in (96, 1):  # in the first batch of chunks, and in a later one
        monkeypatch.setattr("curate.scoring.BATCH", batch)
        assert [row["touchy_status"] for row in scores([99])] == ["ok"] * 99 + ["failed"]
    with pytest.raises(EstimatorError, match="'touchy' failed: ValueError: no"):
        scores(range(33))


def test_too_many_rows_of_a_chunk_end_the_run(scores: Callable[..., Any]) -> None:
    assert scores(range(MOST_FAILED))[0]["touchy_status"] == "failed"
    with pytest.raises(EstimatorError, match="'touchy' failed: ValueError: no"):
        scores(range(MOST_FAILED + 1))


def test_what_the_user_can_fix_ends_the_run(scores: Callable[..., Any]) -> None:
    with pytest.raises(ModelError):
        scores([3], error=ModelError)


def test_a_chunk_with_a_failed_row_is_asked_again_by_the_next_run(
    scores: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 50)
    output = tmp_path / "scored.parquet"

    def stop_at_the_end(name: str, done: float, total: int, tokens: int = 0) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scores([3], output=output, progress=stop_at_the_end)
    found = scores([60], output=output)
    assert found[3]["score_touchy"] == 3.0, "asked again"
    assert found[60]["score_touchy"] == 60.0, "kept"


def test_work_is_done_in_halves_until_what_fails_stands_alone() -> None:
    asked: list[list[int]] = []

    def work(rows: Sequence[int]) -> list[int]:
        asked.append(list(rows))
        return [1 // (n != 3) for n in rows]

    assert in_halves(work, [0, 1, 2, 3], 1, lambda error: None) == [1, 1, 1, None]
    assert asked == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
