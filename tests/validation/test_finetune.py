from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from curate.errors import ModelError, SettingError
from curate.lm.greedy import greedy_answers
from curate.lm.load import LoadedModel, load_model
from curate.prompts import DEFAULT
from curate.records import Example
from curate.validation.evaluate import evaluate
from curate.validation.finetune import (
    IGNORED,
    FinetuneConfig,
    collate,
    finetuned,
    save_adapter,
    split_held_out,
    training_items,
)

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
        save_adapter(result, tmp_path / "adapter")
    assert evaluate(loaded, EXAMPLES, DEFAULT) == before
    assert sorted(p.name for p in (tmp_path / "adapter").glob("*.safetensors")) == ["adapter_model.safetensors"]


def test_a_saved_adapter_gives_the_same_answers_again(
    loaded: LoadedModel, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from dataclasses import replace

    from peft import PeftModel

    with finetuned(loaded, EXAMPLES, CONFIG, DEFAULT, seed=0) as result:
        said = evaluate(result.loaded, EXAMPLES, DEFAULT)
        save_adapter(result, tmp_path / "adapter")
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
        assert result.validation_accuracy is not None
        assert 0 < result.steps <= config.steps(len(EXAMPLES))


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


def test_greedy_answers_do_not_depend_on_what_else_is_asked(loaded: LoadedModel) -> None:
    prompts = [DEFAULT.render_prompt(e.question + " And why is that so?" * i) for i, e in enumerate(EXAMPLES[:3])]
    together = greedy_answers(loaded, [*prompts, prompts[0]])
    assert together == [greedy_answers(loaded, [p])[0] for p in [*prompts, prompts[0]]]
    assert greedy_answers(loaded, prompts, token_budget=1) == together[:3]


def test_an_answer_is_ten_times_the_most_likely_next_token(loaded: LoadedModel) -> None:
    import torch

    prompt = "Question: Who?\nAnswer:"
    ids = loaded.tokenizer(prompt)["input_ids"]
    said: list[int] = []
    for _ in range(10):
        said.append(int(loaded.model(torch.tensor([ids + said])).logits[0, -1].argmax()))
    assert greedy_answers(loaded, [prompt]) == [loaded.tokenizer.decode(said, skip_special_tokens=True)]
