"""Rows that an estimator fails on end with a status; what is wrong with the run ends the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from curate.errors import ModelError
from curate.estimators.base import MOST_FAILED, may_fail, scores_apart
from curate.records import Example, Score
from curate.scoring import Chunks

EXAMPLES = [Example(str(n), f"Who is {n}?", ("She",)) for n in range(100)]


class Touchy:
    """Fails on any chunk that has one of some rows."""

    name = "touchy"
    columns = ()
    evidence: Mapping[str, str] = MappingProxyType({})

    def __init__(self, wrong: Sequence[int], error: type[Exception] = ValueError) -> None:
        self.wrong, self.error = {str(n) for n in wrong}, error

    def fingerprint(self) -> dict[str, str]:
        return {"estimator": "touchy"}

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        if self.wrong & {example.id for example in examples}:
            raise self.error("no")
        return (Score(float(example.id)) for example in examples)


@pytest.mark.parametrize("wrong", [[], [0], [99], [7, 8, 50]])
def test_only_the_rows_at_fault_have_no_score(wrong: list[int]) -> None:
    scores = scores_apart(Touchy(wrong).score, EXAMPLES, 3)
    assert [score.value for score in scores] == [None if n in wrong else float(n) for n in range(100)]
    assert [n for n, score in enumerate(scores) if score.status == "failed"] == wrong


@pytest.mark.parametrize("rows", [1, MOST_FAILED, 100])
def test_an_error_of_every_row_ends_the_run(rows: int) -> None:
    with pytest.raises(ValueError, match="no"):
        Chunks(Touchy(range(100)), EXAMPLES[:rows]).scores()


def test_a_short_last_chunk_may_fail_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 99)
    assert [score.status for score in Chunks(Touchy([99]), EXAMPLES).scores()] == ["ok"] * 99 + ["failed"]
    assert Chunks(Touchy([99]), EXAMPLES[99:], first=False).scores()[0].status == "failed", "in a later batch"
    with pytest.raises(ValueError, match="no"):
        Chunks(Touchy(range(99)), EXAMPLES).scores()


def test_too_many_rows_end_the_run() -> None:
    allowed = may_fail(len(EXAMPLES), first=True)
    assert scores_apart(Touchy(range(MOST_FAILED)).score, EXAMPLES, allowed)[0].status == "failed"
    with pytest.raises(ValueError, match="no"):
        scores_apart(Touchy(range(MOST_FAILED + 1)).score, EXAMPLES, allowed)


def test_what_the_user_can_fix_ends_the_run() -> None:
    with pytest.raises(ModelError):
        scores_apart(Touchy([3], ModelError).score, EXAMPLES, 1)


def test_a_chunk_with_a_failed_row_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    assert Chunks(Touchy([3]), EXAMPLES, tmp_path).scores()[3].status == "failed"
    assert Chunks(Touchy([]), EXAMPLES, tmp_path).scores()[3].value == 3
    assert Chunks(Touchy([3]), EXAMPLES, tmp_path).scores()[3].value == 3, "kept"
