"""Several processes share out the work; the numbers are those of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import ModelError, SettingError
from curate.lm import processes
from curate.lm.loss import AnswerLoss, answer_losses
from curate.lm.model import load_model
from curate.lm.processes import Helper, choose_devices, share_out, spread_losses, start_helpers

Tiny = Callable[[str], Path]
PAIRS = [(f"Question: Where is {n}?\nAnswer:", f" {answer}") for n in range(9) for answer in ("here", "Zürich")]


@pytest.fixture
def helper(tiny_model: Tiny) -> Iterator[Helper]:
    (helper,) = start_helpers(["cpu"], model=tiny_model("llama"))
    yield helper
    helper.piped.stop()


def test_two_processes_give_the_numbers_of_one_as_often_as_asked(helper: Helper, tiny_model: Tiny) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    told: list[float] = []
    for pairs in (PAIRS, [*PAIRS[3:], *PAIRS[:5]], PAIRS[:1]):
        expected = answer_losses(loaded, pairs)
        losses = spread_losses(loaded, [helper], pairs, 64, lambda share, tokens: told.append(share))
        assert [loss.nats for loss in losses] == pytest.approx([loss.nats for loss in expected], rel=1e-5)
        assert [loss.tokens for loss in losses] == [loss.tokens for loss in expected]
    assert told[-1] == 1


def test_what_is_wrong_in_a_helper_is_said_as_if_it_were_here(tmp_path: Path) -> None:
    (helper,) = start_helpers(["cpu"], model=tmp_path)
    helper.ask(PAIRS, None)
    error = helper.answer()
    assert isinstance(error, ModelError)
    assert "has no config" in error.found
    assert error.expected is not None


def test_after_an_error_here_or_there_the_next_question_gets_its_own_answer(
    helper: Helper, tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")

    def ask(pairs: Any) -> list[AnswerLoss]:
        return spread_losses(loaded, [helper], pairs, None, lambda share, tokens: None)

    monkeypatch.setattr(processes, "answer_losses", lambda *arguments: [][0])
    with pytest.raises(IndexError):
        ask(PAIRS[:2])
    monkeypatch.setattr(processes, "answer_losses", answer_losses)
    with pytest.raises(RuntimeError, match="TypeError: "):
        ask([*PAIRS[:2], (PAIRS[-1][0], ("no text",))])  # sorted last, so that it goes to the helper
    expected = answer_losses(loaded, PAIRS[4:6])
    assert [loss.nats for loss in ask(PAIRS[4:6])] == pytest.approx([loss.nats for loss in expected], rel=1e-5)


def test_a_helper_that_was_killed_is_an_error_not_a_wait(helper: Helper) -> None:
    helper.piped.stop()
    with pytest.raises(ModelError, match="on cpu ended with exit code -9"):
        helper.ask(PAIRS, None)
        helper.answer()


@given(
    pairs=st.lists(st.tuples(st.sampled_from(["a", "ab", "b" * 40]), st.text("xyz", max_size=9)), max_size=40),
    count=st.integers(1, 5),
)
def test_every_distinct_pair_is_in_one_part_and_neighbours_stay_together(
    pairs: list[tuple[str, str]], count: int
) -> None:
    parts = share_out(pairs, count)
    assert len(parts) == count
    assert [pair for part in parts for pair in part] == sorted(set(pairs))


@pytest.mark.parametrize(
    ("device", "processes", "gpus", "devices"),
    [
        ("auto", None, 0, ["auto"]),
        ("auto", None, 1, ["auto"]),
        ("auto", None, 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", 2, 3, ["cuda:0", "cuda:1"]),
        ("cuda:1", None, 3, ["cuda:1"]),
        ("cpu", 2, 3, ["cpu", "cpu"]),
        ("auto", 2, 0, ["cpu", "cpu"]),
        ("cuda", 4, 3, None),
        ("cuda:1", 2, 3, None),
        ("cpu", 0, 0, None),
    ],
)
def test_each_process_has_a_device_of_its_own(
    device: str, processes: int | None, gpus: int, devices: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    if devices is None:
        with pytest.raises(SettingError, match="--processes"):
            choose_devices(device, processes)
    else:
        assert choose_devices(device, processes) == devices
