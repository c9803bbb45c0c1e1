"""How far the loss is: told after every batch, by tokens, since the longest examples go first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import curate
from curate import scoring
from curate import scoring as chunks
from curate.estimators.loss import LossEstimator
from curate.lm.model import load_model

ROWS = [{"question": "What is " + "so very " * (n % 7) + f"{n}?", "answer": f"it is {n}"} for n in range(60)]


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.done: list[float] = []
        self.tokens: list[int] = []

    def __call__(self, name: str, done: float, total: int, tokens: int = 0) -> None:
        assert (name, total) == ("loss", len(ROWS))
        self.done.append(done)
        self.tokens.append(tokens)


@pytest.fixture
def estimator(tiny_model: Callable[[str], Path]) -> LossEstimator:
    return LossEstimator(load_model(tiny_model("llama"), device="cpu"), token_budget=64)


def test_work_done_grows_with_the_tokens_read_from_nothing_to_all(estimator: LossEstimator) -> None:
    told = Told()
    scoring.score_table(curate.read(ROWS), [estimator], progress=told)
    assert (told.done[0], told.done[-1]) == (0, len(ROWS))
    assert told.done == sorted(told.done)
    assert len(told.done) > 5
    read = sum(told.tokens)
    for n, done in enumerate(told.done):
        assert done == pytest.approx(len(ROWS) * sum(told.tokens[: n + 1]) / read)


def test_what_an_earlier_run_did_is_where_this_one_begins(
    estimator: LossEstimator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 20)
    scoring.score_table(curate.read(ROWS), [estimator], tmp_path)
    sorted(tmp_path.glob("*.json"))[0].unlink()
    told = Told()
    scoring.score_table(curate.read(ROWS), [estimator], tmp_path, told)
    assert told.done[0] in (0, 20, 40)
    assert told.done[0] + 20 == pytest.approx(told.done[-2])
