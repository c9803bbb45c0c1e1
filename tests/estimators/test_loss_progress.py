"""How far the loss is: told after every batch, by tokens, since the longest examples go first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import curate

ROWS = [{"question": "What is " + "so very " * (n % 7) + f"{n}?", "answer": f"it is {n}"} for n in range(60)]


class Told:
    """Keeps what it is told; `stop` ends the run, as Ctrl-C does, when so many examples are done."""

    def __init__(self, stop: float = float("inf")) -> None:
        self.stop = stop
        self.done: list[float] = []
        self.tokens: list[int] = []

    def __call__(self, name: str, done: float, total: int, tokens: int = 0) -> None:
        assert (name, total) == ("loss", len(ROWS))
        self.done.append(done)
        self.tokens.append(tokens)
        if done >= self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def score(tiny_model: Callable[[str], Path]) -> Callable[..., Any]:
    """`curate.score` by the loss of a tiny model, in small batches."""
    model = tiny_model("llama")
    return lambda **options: curate.score(ROWS, by="loss", model=model, device="cpu", token_budget=64, **options)


def test_work_done_grows_with_the_tokens_read_from_nothing_to_all(score: Callable[..., Any]) -> None:
    told = Told()
    score(progress=told)
    assert (told.done[0], told.done[-1]) == (0, len(ROWS))
    assert told.done == sorted(told.done)
    assert len(told.done) > 5
    read = sum(told.tokens)
    for n, done in enumerate(told.done):
        assert done == pytest.approx(len(ROWS) * sum(told.tokens[: n + 1]) / read)


def test_what_an_earlier_run_did_is_where_this_one_begins(
    score: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 20)
    with pytest.raises(KeyboardInterrupt):
        score(output=tmp_path / "scored.parquet", progress=Told(stop=45))
    told = Told()
    score(output=tmp_path / "scored.parquet", progress=told)
    assert told.done[0] == 40
    assert told.done[-1] == 60
