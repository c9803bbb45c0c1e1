from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.errors import ModelError, SettingError
from curate.lm.forward import adapters_merged
from curate.lm.model import LoadedModel, load_model
from curate.prompts import DEFAULT
from curate.records import Example
from curate.settings import FinetuneConfig
from curate.validation.evaluate import evaluate
from curate.validation.finetune import finetuned, reloaded, save_adapter, split_held_out
from curate.validation.trainer import IGNORED, Fitting, LengthGrouped, collate, first_fitting, training_items

EXAMPLES = [Example(str(i), f"What is the colour of {name}?", (colour,)) for i, (name, colour) in enumerate(
    [("Ann", "red"), ("Bob", "blue"), ("Cy", "red"), ("Dee", "blue"), ("Eve", "red"), ("Flo", "blue")]
)]  # fmt: skip
CONFIG = FinetuneConfig(learning_rate=2e-2, max_steps=25, batch_size=4, held_out=0)


@pytest.fixture
def loaded(tiny_model: Callable[[str], Path]) -> LoadedModel:
    return load_model(tiny_model("llama"), device="cpu")


def test_only_the_completion_and_the_end_of_sequence_are_learned(loaded: LoadedModel) -> None:
    (item,) = training_items(loaded, EXAMPLES[:1], DEFAULT)
    learned = [token for token, label in zip(item["input_ids"], item["labels"], strict=True) if label != IGNORED]
    assert loaded.tokenizer.decode(learned) == " red</s>"
    assert learned == item["input_ids"][-len(learned) :]


def test_padding_is_masked_and_not_learned() -> None:
    batch = collate([{"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]}, {"input_ids": [5], "labels": [5]}], pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [5, IGNORED, IGNORED]]


def test_finetuning_teaches_the_answers_and_leaves_the_base_as_it_was(loaded: LoadedModel, tmp_path: Path) -> None:
    before = evaluate(loaded, EXAMPLES, DEFAULT)
    with finetuned(loaded, EXAMPLES, CONFIG, DEFAULT, seed=0) as result:
        assert all(p.correct for p in evaluate(result.loaded, EXAMPLES, DEFAULT))
        save_adapter(result.model, tmp_path / "adapter")
    assert evaluate(loaded, EXAMPLES, DEFAULT) == before
    assert sorted(p.name for p in (tmp_path / "adapter").glob("*.safetensors")) == ["adapter_model.safetensors"]


def test_adapters_become_part_of_the_weights_for_a_while_and_every_bit_comes_back(loaded: LoadedModel) -> None:
    import torch

    ids = torch.tensor([loaded.tokenizer(DEFAULT.ask(EXAMPLES[0]))["input_ids"]])

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            return loaded.model(ids).logits

    with finetuned(loaded, EXAMPLES, CONFIG, DEFAULT, seed=0):
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

    with finetuned(loaded, EXAMPLES, CONFIG, DEFAULT, seed=0) as result:
        said = evaluate(result.loaded, EXAMPLES, DEFAULT)
        save_adapter(result.model, tmp_path / "adapter")
    fresh = load_model(tiny_model("llama"), device="cpu")
    adapted = PeftModel.from_pretrained(fresh.model, tmp_path / "adapter")
    assert evaluate(replace(fresh, model=adapted), EXAMPLES, DEFAULT) == said


def test_a_seed_decides_everything(loaded: LoadedModel) -> None:
    import torch

    def adapter(seed: int) -> torch.Tensor:
        with finetuned(loaded, EXAMPLES, CONFIG, DEFAULT, seed) as result:
            weights = [p.detach().flatten() for n, p in result.loaded.model.named_parameters() if "lora" in n]
            return torch.cat(weights).clone()

    first, again, other = adapter(0), adapter(0), adapter(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_best_adapter_on_the_held_out_part_is_kept(loaded: LoadedModel) -> None:
    config = FinetuneConfig(learning_rate=2e-2, epochs=30, batch_size=4, held_out=0.34, patience=3)
    with finetuned(loaded, EXAMPLES, config, DEFAULT, seed=0) as result:
        assert result.trained.validation_accuracy is not None
        assert 0 < result.trained.steps <= config.steps(len(EXAMPLES))


def test_finetuning_that_changes_nothing_is_an_error(loaded: LoadedModel) -> None:
    config = FinetuneConfig(learning_rate=1e-30, max_steps=1, held_out=0)
    with pytest.raises(ModelError, match="left the outputs"), finetuned(loaded, EXAMPLES, config, DEFAULT, seed=0):
        pass


@pytest.mark.parametrize(
    "setting",
    [{"learning_rate": -1}, {"learning_rate": float("nan")}, {"epochs": 0}, {"max_steps": 0}, {"weight_decay": -1}],
)
def test_settings_out_of_range_are_refused_before_any_work(setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="out of range"):
        FinetuneConfig(**setting)  # type: ignore[arg-type]


def test_the_held_out_part_and_the_rest_make_up_the_arm() -> None:
    train, held_out = split_held_out(EXAMPLES, 2, seed=1)
    assert len(held_out) == 2
    assert sorted(e.id for e in [*train, *held_out]) == [e.id for e in EXAMPLES]


def test_every_epoch_has_its_own_order_and_hardly_any_padding() -> None:
    lengths = [7 * i % 50 + 1 for i in range(203)]
    sampler = LengthGrouped(lengths, batch_size=8, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(203)) and first == list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    batches = [[lengths[i] for i in first[n : n + 8]] for n in range(0, 203, 8)]
    assert sum(len(b) * max(b) for b in batches) < 1.1 * sum(lengths)


def test_all_weights_are_trained_and_come_back(loaded: LoadedModel) -> None:
    import torch

    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    config = replace(CONFIG, method="full", learning_rate=1e-3)
    with finetuned(loaded, EXAMPLES, config, DEFAULT, seed=0):
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
    with finetuned(loaded, EXAMPLES, config, DEFAULT, seed=0) as result:
        said = evaluate(loaded, EXAMPLES, DEFAULT)
        save_adapter(result.model, tmp_path / "adapter")
    assert all(p.correct for p in said)
    assert evaluate(loaded, EXAMPLES, DEFAULT) == before
    with reloaded(loaded, config, tmp_path / "adapter"):
        assert evaluate(loaded, EXAMPLES, DEFAULT) == said


def test_without_bitsandbytes_one_is_told_how_to_get_it(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="need the package bitsandbytes") as error:
        load_model(tiny_model("llama"), device="cpu", quantized=True)
    assert error.value.try_next == "pip install bitsandbytes, or --method lora"


def test_a_batch_in_parts_learns_what_the_whole_batch_does(loaded: LoadedModel) -> None:
    def losses(fitting: Fitting) -> list[float | None]:
        config = replace(CONFIG, max_steps=6, held_out=0)
        with finetuned(loaded, EXAMPLES, config, DEFAULT, seed=0, fitting=fitting) as result:
            return [row["train_loss"] for row in result.trained.rows]

    whole = losses(Fitting(4))
    assert losses(Fitting(1, accumulation=4)) == pytest.approx(whole, rel=1e-3)
    assert losses(Fitting(4, checkpointing=True)) == pytest.approx(whole, rel=1e-3)


def test_when_memory_runs_out_the_batch_stays_and_its_parts_shrink() -> None:
    tried = [first_fitting(6)]
    with pytest.raises(ModelError, match="One example alone"):
        while True:
            tried.append(tried[-1].smaller())
    assert [(f.micro_batch, f.accumulation, f.checkpointing) for f in tried] == [
        (6, 1, False),
        (6, 1, True),
        (3, 2, True),
        (1, 6, True),
    ]


def short_of_memory(monkeypatch: pytest.MonkeyPatch, step: int) -> list[int]:
    """From now on the first training runs out of memory at that step; gives the steps that were trained."""
    import torch

    from curate.validation import trainer

    real, steps = trainer.answer_nats, []

    def answer_nats(model: Any, *arguments: Any) -> Any:
        steps.append(len(steps) + 1)
        if len(steps) == step:
            raise torch.OutOfMemoryError("out of memory")
        return real(model, *arguments)

    monkeypatch.setattr(trainer, "answer_nats", answer_nats)
    return steps


def test_running_out_of_memory_is_survived_and_remembered(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After two epochs of two steps each: the third goes on from their checkpoint."""
    steps = short_of_memory(monkeypatch, step=5)
    said: list[str] = []
    remembered: list[Fitting] = []
    config = replace(CONFIG, epochs=4, max_steps=None)
    with finetuned(loaded, EXAMPLES, config, DEFAULT, 0, tmp_path, say=said.append, remember=remembered.append) as one:
        assert one.trained.steps == 8
    assert said == [
        "memory ran out with 1 × 4 examples a step; trying 1 × 4 examples a step, activations computed again"
    ]
    assert remembered == [Fitting(4, checkpointing=True)]
    assert len(steps) == 4 + 1 + 4


def test_of_several_processes_none_goes_on_alone_when_memory_runs_out(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.validation import finetune

    short_of_memory(monkeypatch, step=1)
    monkeypatch.setattr(finetune, "processes", lambda: 2)
    remembered: list[Fitting] = []
    with (
        pytest.raises(ModelError, match="the next attempt takes 1 × 2 examples a step, activations computed again"),
        finetuned(loaded, EXAMPLES, CONFIG, DEFAULT, 0, remember=remembered.append),
    ):
        pass
    assert remembered == [Fitting(2, checkpointing=True)]


def test_a_logger_writes_where_it_is_told_and_its_files_stay(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "mine")
    config = replace(CONFIG, max_steps=2)
    logs = tmp_path / "logs" / "top" / "seed-0"
    with finetuned(loaded, EXAMPLES, config, DEFAULT, 0, tmp_path / "parts", report_to="tensorboard", logs=logs):
        assert list(logs.glob("events*")) and not list((tmp_path / "parts").glob("**/events*"))
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "mine"
