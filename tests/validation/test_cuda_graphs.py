"""Recorded training steps: the same gradients, from fixed memory. A stand-in records here what CUDA does on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from curate.lm.model import load_model
from curate.prompts import DEFAULT
from curate.records import Example
from curate.settings import FinetuneConfig
from curate.validation import trainer
from curate.validation.finetune import finetuned
from curate.validation.trainer import Inputs, RecordedSteps, Training


class Recorder:
    """Computes again what was recorded, from the memory that it was recorded over, as a CUDA graph does."""

    def __init__(self) -> None:
        self.recorded = self.repeated = 0

    def __call__(self, step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        self.recorded += 1
        loss = torch.zeros(())

        def repeat() -> None:
            self.repeated += 1
            loss.copy_(step())

        return repeat, loss


def line(weight: torch.Tensor, bias: torch.Tensor) -> Callable[[Inputs], torch.Tensor]:
    def step(inputs: Inputs) -> torch.Tensor:
        loss = ((weight * inputs["x"]).sum(dim=1) + bias.to(weight.dtype)).square().sum()
        loss.backward()
        return loss.detach()

    return step


def test_gradients_and_losses_are_those_of_steps_that_are_not_recorded() -> None:
    batches = [
        torch.randn(rows, 3, generator=torch.Generator().manual_seed(n)) for n, rows in enumerate([4, 4, 2, 4, 2, 4])
    ]
    seen: dict[bool, list[tuple[float, list[float]]]] = {}
    recorder = Recorder()
    for recorded in (False, True):
        parameters = [torch.ones(3, requires_grad=True), torch.ones(1, dtype=torch.bfloat16, requires_grad=True)]
        one = line(*parameters)
        step = RecordedSteps(parameters, one, recorder) if recorded else one
        seen[recorded] = []
        for batch in batches:
            loss = float(step({"x": batch}))
            seen[recorded].append((loss, [float(g) for p in parameters if p.grad is not None for g in p.grad]))
            for parameter in parameters:
                parameter.grad = None
    assert seen[True] == seen[False]
    assert (recorder.recorded, recorder.repeated) == (2, 4), "each shape: first computed, then recorded and repeated"


def test_gradients_of_several_parts_of_a_batch_add_up() -> None:
    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(1, requires_grad=True)
    step = RecordedSteps([weight, bias], line(weight, bias), Recorder())
    for _ in range(4):
        step({"x": torch.ones(2, 3)})
    assert weight.grad is not None and weight.grad.tolist() == [4 * 12.0] * 3


def test_what_is_recorded_wrong_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def forgets(step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        return lambda: None, torch.zeros(())

    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(1, requires_grad=True)
    step = RecordedSteps([weight, bias], line(weight, bias), forgets)
    assert [float(step({"x": torch.ones(2, 3)})) for _ in range(4)] == [18.0] * 4
    assert weight.grad is not None and weight.grad.tolist() == [4 * 12.0] * 3
    assert "other gradients" in caplog.text


def test_what_cannot_be_recorded_is_computed_as_it_is() -> None:
    tries = []

    def refuse(step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        tries.append(step)
        raise RuntimeError("operation not permitted when stream is capturing")

    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(1, requires_grad=True)
    step = RecordedSteps([weight, bias], line(weight, bias), refuse)
    assert [float(step({"x": torch.ones(2, 3)})) for _ in range(4)] == [18.0] * 4
    assert len(tries) == 1, "and is not tried again"


@pytest.mark.parametrize("regularize", ["none", "distill"])
def test_a_training_of_recorded_steps_ends_with_the_same_weights(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regularize: str
) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    examples = [Example(str(n), f"What comes after {n}?" + " Well?" * (n % 4), (f"number {n + 1}",)) for n in range(20)]
    config = FinetuneConfig(epochs=3, batch_size=4, held_out=0, learning_rate=1e-2, regularize=regularize)
    ends, recorder = {}, Recorder()
    monkeypatch.setattr(trainer, "on_cuda", lambda: recorder)
    for name in ("as it is", "recorded"):
        if name == "recorded":
            monkeypatch.setattr(trainer, "can_record", lambda *_: True)
        with finetuned(loaded, examples, DEFAULT, Training(config, 0, tmp_path / name / "checkpoints")) as trained:
            weights = trained.model.named_parameters()
            ends[name] = {at: weight.detach().clone() for at, weight in weights if weight.requires_grad}
    assert recorder.repeated > 10
    for at, weight in ends["as it is"].items():
        torch.testing.assert_close(ends["recorded"][at], weight, rtol=1e-3, atol=1e-5)
