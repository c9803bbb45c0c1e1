"""Rows that an estimator fails on end with a status; what is wrong with the run ends the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from curate.chunks import Chunks
from curate.errors import ModelError
from curate.isolating import MOST_FAILED, scores_apart
from curate.records import Example, Score

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
    scores = scores_apart(Touchy(wrong).score, EXAMPLES)
    assert [score.value for score in scores] == [None if n in wrong else float(n) for n in range(100)]
    assert [n for n, score in enumerate(scores) if score.status == "failed"] == wrong


@pytest.mark.parametrize("rows", [1, MOST_FAILED, 100])
def test_an_error_of_every_row_ends_the_run(rows: int) -> None:
    with pytest.raises(ValueError, match="no"):
        scores_apart(Touchy(range(100)).score, EXAMPLES[:rows])


def test_too_many_rows_end_the_run() -> None:
    assert scores_apart(Touchy(range(MOST_FAILED)).score, EXAMPLES)[0].status == "failed"
    with pytest.raises(ValueError, match="no"):
        scores_apart(Touchy(range(MOST_FAILED + 1)).score, EXAMPLES)


def test_what_the_user_can_fix_ends_the_run() -> None:
    with pytest.raises(ModelError):
        scores_apart(Touchy([3], ModelError).score, EXAMPLES)


def test_a_chunk_with_a_failed_row_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    assert Chunks(Touchy([3]), EXAMPLES, tmp_path).scores()[3].status == "failed"
    assert Chunks(Touchy([]), EXAMPLES, tmp_path).scores()[3].value == 3
    assert Chunks(Touchy([3]), EXAMPLES, tmp_path).scores()[3].value == 3, "kept"
