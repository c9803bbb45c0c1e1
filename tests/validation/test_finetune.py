from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from curate.errors import ModelError, SettingError
from curate.lm.forward import adapters_merged
from curate.lm.model import LoadedModel, load_model
from curate.prompts import DEFAULT
from curate.records import Example
from curate.settings import FinetuneConfig
from curate.validation.evaluate import evaluate
from curate.validation.finetune import finetuned, reloaded, save_adapter, split_held_out
from curate.validation.trainer import MicroBatches, Trained, Training
from tests.validation.made import TO_THE_END as CONFIG

EXAMPLES = [Example(str(i), f"What is the colour of {name}?", (colour,)) for i, (name, colour) in enumerate(
    [("Ann", "red"), ("Bob", "blue"), ("Cy", "red"), ("Dee", "blue"), ("Eve", "red"), ("Flo", "blue")]
)]  # fmt: skip


@contextmanager
def finetuning(
    loaded: LoadedModel, config: FinetuneConfig = CONFIG, seed: int = 0, batches: MicroBatches | None = None
) -> Iterator[Trained]:
    """Inside the `with` the model is finetuned on the examples; nothing of the training is left."""
    with TemporaryDirectory() as folder:
        training = Training(config, seed, Path(folder, "checkpoints"))
        with finetuned(loaded, EXAMPLES, DEFAULT, training, batches=batches) as trained:
            yield trained


@pytest.fixture
def loaded(tiny_model: Callable[[str], Path]) -> LoadedModel:
    return load_model(tiny_model("llama"), device="cpu")


def test_a_teacher_keeps_the_model_close_to_what_it_was(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """By the divergence from the untouched model after as many steps on the same answers."""
    loaded = load_model(tiny_model("llama"), device="cpu")
    ids = torch.tensor([loaded.tokenizer(DEFAULT.zero_shot(EXAMPLES[0]))["input_ids"]])
    before = torch.log_softmax(loaded.model(ids).logits[0, -1].detach(), dim=-1)
    apart = {}
    for name, changes in {
        "none": {}, "light": {"distill_weight": 0.1}, "strong": {"distill_weight": 10.0, "distill_temperature": 1.0}
    }.items():  # fmt: skip
        config = FinetuneConfig(learning_rate=5e-3, max_steps=12, batch_size=4, held_out=0, **changes)
        config = config.changed(regularize="none" if name == "none" else "distill")
        with finetuned(loaded, EXAMPLES, DEFAULT, Training(config, 0, tmp_path / name)):
            after = torch.log_softmax(loaded.model(ids).logits[0, -1].detach(), dim=-1)
        apart[name] = float((before.exp() * (before - after)).sum())
    assert 0 < apart["strong"] < apart["light"] < apart["none"]
    with pytest.raises(SettingError, match="needs adapters"):
        FinetuneConfig(regularize="distill", method="full")


def test_finetuning_teaches_the_answers_and_leaves_the_base_as_it_was(loaded: LoadedModel, tmp_path: Path) -> None:
    before = evaluate(loaded, EXAMPLES, DEFAULT)
    with finetuning(loaded) as result:
        assert all(p.correct for p in evaluate(loaded, EXAMPLES, DEFAULT))
        save_adapter(result.model, tmp_path / "adapter")
    assert evaluate(loaded, EXAMPLES, DEFAULT) == before
    assert sorted(p.name for p in (tmp_path / "adapter").glob("*.safetensors")) == ["adapter_model.safetensors"]


def test_training_in_bfloat16_follows_that_in_float32(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Short and long texts, which go through different kernels; what trains stays in float32."""
    long = [replace(e, question=e.question + " Now?" * 40) for e in EXAMPLES]
    losses: dict[str, list[float]] = {}
    for dtype in ("float32", "bfloat16"):
        loaded = load_model(tiny_model("llama"), device="cpu", dtype=dtype)
        config = FinetuneConfig(learning_rate=5e-3, epochs=4, batch_size=4, held_out=0)
        with finetuned(loaded, [*EXAMPLES, *long], DEFAULT, Training(config, 0, tmp_path / dtype)) as result:
            losses[dtype] = [row["train_loss"] for row in result.rows]
            assert {w.dtype for w in result.model.parameters() if w.requires_grad} == {torch.float32}
    assert losses["float32"][-1] < losses["float32"][0] / 2
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)


def test_adapters_become_part_of_the_weights_for_a_while_and_every_bit_comes_back(loaded: LoadedModel) -> None:
    import torch

    ids = torch.tensor([loaded.tokenizer(DEFAULT.ask(EXAMPLES[0]))["input_ids"]])

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            return loaded.model(ids).logits

    with finetuning(loaded):
        before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
        apart = logits()
        with adapters_merged(loaded):
            changed = [name for name, weight in loaded.model.state_dict().items() if not weight.equal(before[name])]
            assert torch.allclose(logits(), apart, atol=1e-4)
        assert changed
        assert all("base_layer" in name for name in changed)
        assert all(weight.equal(before[name]) for name, weight in loaded.model.state_dict().items())
        assert logits().equal(apart)


def test_a_saved_adapter_gives_the_same_answers_again(
    loaded: LoadedModel, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from peft import PeftModel

    with finetuning(loaded) as result:
        said = evaluate(loaded, EXAMPLES, DEFAULT)
        save_adapter(result.model, tmp_path / "adapter")
    fresh = load_model(tiny_model("llama"), device="cpu")
    adapted = PeftModel.from_pretrained(fresh.model, tmp_path / "adapter")
    assert evaluate(replace(fresh, model=adapted), EXAMPLES, DEFAULT) == said


def test_a_seed_decides_everything(loaded: LoadedModel) -> None:
    import torch

    def adapter(seed: int) -> torch.Tensor:
        with finetuning(loaded, seed=seed):
            weights = [p.detach().flatten() for n, p in loaded.model.named_parameters() if "lora" in n]
            return torch.cat(weights).clone()

    first, again, other = adapter(0), adapter(0), adapter(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_best_adapter_on_the_held_out_part_is_kept(loaded: LoadedModel) -> None:
    config = FinetuneConfig(learning_rate=2e-2, epochs=30, batch_size=4, held_out=0.34, patience=3)
    with finetuning(loaded, config) as result:
        assert result.validation_accuracy is not None
        assert 0 < result.steps <= config.steps(len(EXAMPLES))


@pytest.mark.parametrize(
    "config",
    [
        FinetuneConfig(learning_rate=2e-2, epochs=30, batch_size=4, held_out=0.4, patience=2),
        FinetuneConfig(learning_rate=2e-2, max_steps=3, batch_size=2, held_out=0.4),
        FinetuneConfig(learning_rate=2e-2, max_steps=3, batch_size=4, held_out=0),
    ],
    ids=["by its patience", "by its steps", "without a held-out part"],
)
def test_a_training_that_is_over_is_not_trained_further_when_it_is_asked_for_again(
    config: FinetuneConfig, loaded: LoadedModel, tmp_path: Path
) -> None:
    """Where it was killed while it answered."""
    found = []
    for _ in range(2):
        with finetuned(loaded, EXAMPLES, DEFAULT, Training(config, 0, tmp_path / "kept")) as trained:
            said = evaluate(loaded, EXAMPLES, DEFAULT)
        found.append((trained.steps, list(trained.rows), said))
    assert found[0] == found[1]
    assert trained.rows[-1]["step"] < 30 * 4


def test_a_training_goes_on_to_more_steps_as_if_it_had_never_stopped(loaded: LoadedModel, tmp_path: Path) -> None:
    ids = torch.tensor([loaded.tokenizer(DEFAULT.zero_shot(EXAMPLES[0]))["input_ids"]])
    logits = {}
    for name, all_steps in {"straight": (6,), "in rungs": (2, 3, 6)}.items():
        for steps in all_steps:
            config = FinetuneConfig(learning_rate=1e-2, max_steps=steps, batch_size=4, held_out=0)
            with finetuned(loaded, EXAMPLES, DEFAULT, Training(config, 0, tmp_path / name)) as trained:
                logits[name] = loaded.model(ids).logits.detach()
            assert trained.steps == steps
    assert torch.equal(logits["straight"], logits["in rungs"])


def test_finetuning_that_changes_nothing_is_an_error(loaded: LoadedModel) -> None:
    config = FinetuneConfig(learning_rate=1e-30, max_steps=1, held_out=0)
    with pytest.raises(ModelError, match="left the outputs"), finetuning(loaded, config):
        pass


def test_the_held_out_part_and_the_rest_make_up_the_arm() -> None:
    train, held_out = split_held_out(EXAMPLES, 2, seed=1)
    assert len(held_out) == 2
    assert sorted(e.id for e in [*train, *held_out]) == [e.id for e in EXAMPLES]


def test_all_weights_are_trained_and_come_back(loaded: LoadedModel) -> None:
    import torch

    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    config = replace(CONFIG, method="full", learning_rate=1e-3)
    with finetuning(loaded, config):
        assert all(p.correct for p in evaluate(loaded, EXAMPLES, DEFAULT))
        changed = [name for name, weight in loaded.model.state_dict().items() if not torch.equal(weight, before[name])]
        assert any("embed" in name for name in changed) and any("mlp" in name for name in changed)
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.model.state_dict().items())


def test_adapters_on_weights_of_4_bits_learn_and_are_read_again(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    loaded = load_model(tiny_model("llama"), device="cpu", quantized=True)
    assert str(loaded.model.model.layers[0].mlp.up_proj.weight.dtype) == "torch.uint8"
    config = replace(CONFIG, method="qlora")
    before = evaluate(loaded, EXAMPLES, DEFAULT)
    with finetuning(loaded, config) as result:
        said = evaluate(loaded, EXAMPLES, DEFAULT)
        save_adapter(result.model, tmp_path / "adapter")
    assert all(p.correct for p in said)
    assert evaluate(loaded, EXAMPLES, DEFAULT) == before
    with reloaded(loaded, config, tmp_path / "adapter"):
        assert evaluate(loaded, EXAMPLES, DEFAULT) == said


def test_a_batch_in_parts_learns_what_the_whole_batch_does(loaded: LoadedModel) -> None:
    def losses(batches: MicroBatches) -> list[float | None]:
        config = replace(CONFIG, max_steps=6, held_out=0)
        with finetuning(loaded, config, batches=batches) as result:
            return [row["train_loss"] for row in result.rows]

    whole = losses(MicroBatches(4))
    assert losses(MicroBatches(1, accumulation=4)) == pytest.approx(whole, rel=1e-3)
    assert losses(MicroBatches(4, checkpointing=True)) == pytest.approx(whole, rel=1e-3)


def test_activations_are_computed_again_where_that_is_asked_for(loaded: LoadedModel) -> None:
    """The layers must know that they train: in evaluation mode transformers keeps all activations, and says nothing."""
    seen: list[bool] = []
    layer: Any = loaded.model.model.layers[0]
    layer.mlp.register_forward_pre_hook(lambda module, arguments: seen.append(module.training))
    config = replace(CONFIG, max_steps=2, held_out=0)
    for checkpointing, times in ((False, 2), (True, 4)):
        seen.clear()
        with finetuning(loaded, config, batches=MicroBatches(4, checkpointing=checkpointing)):
            assert sum(seen) == times


def short_of_memory(monkeypatch: pytest.MonkeyPatch, step: int) -> list[int]:
    """From now on the first training runs out of memory at that step; gives the steps that were trained."""
    import torch

    from curate.validation import trainer

    real, steps = trainer.answer_nats, []

    def answer_nats(model: Any, *arguments: Any) -> Any:
        steps.append(len(steps) + 1)
        if len(steps) == step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(model, *arguments)

    monkeypatch.setattr(trainer, "answer_nats", answer_nats)
    return steps


def test_running_out_of_memory_is_survived_and_remembered(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After two epochs of two steps each: the third goes on from their checkpoint."""
    steps = short_of_memory(monkeypatch, step=5)
    said: list[str] = []
    config = replace(CONFIG, epochs=4, max_steps=None)
    with finetuned(loaded, EXAMPLES, DEFAULT, Training(config, 0, tmp_path / "top"), say=said.append) as one:
        assert one.steps == 8
    assert said == [
        "memory ran out with 1 × 4 examples a step; trying 1 × 4 examples a step, activations computed again"
    ]
    assert len(steps) == 4 + 1 + 4
    said.clear()
    short_of_memory(monkeypatch, step=1)
    with finetuned(loaded, EXAMPLES, DEFAULT, Training(CONFIG, 0, tmp_path / "bottom"), say=said.append):
        (line,) = said
    assert line.startswith("memory ran out with 1 × 4 examples a step, activations computed again; trying 2 × 2 ")


def test_of_several_processes_none_goes_on_alone_when_memory_runs_out(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from curate.validation import finetune

    monkeypatch.setattr(finetune, "processes", lambda: 2)

    def error(batches: MicroBatches | None = None) -> str:
        short_of_memory(monkeypatch, step=1)
        with (
            pytest.raises(ModelError) as caught,
            finetuned(loaded, EXAMPLES, DEFAULT, Training(CONFIG, 0, tmp_path / "top"), batches=batches),
        ):
            pass
        return str(caught.value)

    assert "the next attempt takes 1 × 2 examples a step, activations computed again" in error(MicroBatches(2))
    assert "the next attempt takes 2 × 1 examples a step, activations computed again" in error()


def test_a_logger_writes_where_it_is_told_and_its_files_stay(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "mine")
    config = replace(CONFIG, max_steps=2)
    logs = tmp_path / "logs" / "top" / "seed-0"
    with finetuned(loaded, EXAMPLES, DEFAULT, Training(config, 0, tmp_path / "parts", "tensorboard", logs)):
        assert list(logs.glob("events*")) and not list((tmp_path / "parts").glob("**/events*"))
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "mine"


def test_without_bitsandbytes_one_is_told_how_to_get_it(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else real(name))
    with pytest.raises(ModelError, match="need the package bitsandbytes") as error:
        load_model(tiny_model("llama"), device="cpu", quantized=True)
    assert error.value.try_next == "pip install bitsandbytes, or method='lora'"
