"""LoRA finetuning of one arm with one seed, loss on the completion only, through peft and transformers' Trainer."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from curate.datasets.write import whole_folder
from curate.errors import ModelError, SettingError
from curate.lm.answer_loss import Encoded, encode, fit
from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.records import Example

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label that PyTorch's cross entropy leaves out


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """How an arm is finetuned. The same for every arm of a comparison."""

    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    lora_rank: int = 16
    lora_alpha: int = 32
    epochs: float = 5
    max_steps: int | None = None
    batch_size: int = 16
    held_out: float = 0.1
    patience: int = 3

    def __post_init__(self) -> None:
        positive = {name: getattr(self, name) for name in ("learning_rate", "epochs", "batch_size", "patience")}
        positive |= {name: getattr(self, name) for name in ("lora_rank", "lora_alpha")}
        positive |= {} if self.max_steps is None else {"max_steps": self.max_steps}
        wrong = {name: value for name, value in positive.items() if not 0 < value < math.inf}
        if not 0 <= self.weight_decay < math.inf:
            wrong["weight_decay"] = self.weight_decay
        if not 0 <= self.held_out < 1:
            wrong["held_out"] = self.held_out
        for name, value in wrong.items():
            raise SettingError(f"--{name.replace('_', '-')} {value} is out of range.", expected="a number above 0")

    def as_dict(self) -> dict[str, Any]:
        """For manifests and keys."""
        return asdict(self)

    def steps(self, examples: int) -> int:
        """Optimizer steps at most for an arm of that many examples."""
        if self.max_steps is not None:
            return self.max_steps
        return math.ceil(self.epochs * math.ceil((examples - self.held_out_rows(examples)) / self.batch_size))

    def held_out_rows(self, examples: int) -> int:
        """Rows of an arm that do not train but decide when to stop: at least one, if any."""
        return min(examples - 1, max(1, round(self.held_out * examples))) if self.held_out > 0 else 0


@dataclass(frozen=True)
class Finetuned:
    """A model with the adapter of one arm on it, and its accuracy on the arm's held-out part."""

    loaded: LoadedModel
    steps: int
    validation_accuracy: float | None


@contextmanager
def finetuned(
    loaded: LoadedModel,
    examples: Sequence[Example],
    config: FinetuneConfig,
    template: Template,
    seed: int,
) -> Iterator[Finetuned]:
    """Finetune an adapter on the examples; inside the `with`, the model has it, afterwards it is the base again.

    A share `held_out` of the examples decides when to stop: after each epoch the share of held-out answers whose
    every token is the model's first choice is measured, the best adapter is kept, and training ends after
    `patience` epochs without a better one.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(seed)
    train, held_out = split_held_out(examples, config.held_out_rows(len(examples)), seed)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft still asks transformers by an older name
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # peft sets what GPT-2 needs by itself
        adapted: Any = get_peft_model(loaded.model, lora)
    try:
        with TemporaryDirectory(prefix="curate-") as folder:
            trainer = _trainer(adapted, loaded, train, held_out, config, template, seed, Path(folder))
            trainer.train()
            steps, accuracy = _best_step(trainer.state)
        adapted.eval()
        _check_adapted(adapted, loaded, train[0], template)
        yield Finetuned(replace(loaded, model=adapted), steps, accuracy)
    finally:
        adapted.unload()
        # peft leaves its config on the base model, where it would be taken for an adapter that is still on.
        if hasattr(loaded.model, "peft_config"):
            del loaded.model.peft_config
        loaded.model.eval()


def save_adapter(result: Finetuned, folder: Path) -> None:
    """Save the adapter as safetensors, with the config that `PeftModel.from_pretrained` reads."""
    configs: dict[str, Any] = dict(result.loaded.model.peft_config)
    for lora in configs.values():
        lora.target_modules = sorted(lora.target_modules)  # a set would be saved in another order every time
    with whole_folder(folder, replace=True) as temporary:
        result.loaded.model.save_pretrained(temporary)


def split_held_out(examples: Sequence[Example], k: int, seed: int) -> tuple[list[Example], list[Example]]:
    """A seeded split of an arm into what trains and the k examples that decide when to stop."""
    shuffled = list(examples)
    random.Random(seed).shuffle(shuffled)
    return shuffled[k:], shuffled[:k]


def training_items(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> list[dict[str, list[int]]]:
    """Token ids and labels of each example: the prompt's labels are ignored, the end-of-sequence token is learned."""
    pairs = [(template.render_prompt(e.question), template.render_completion(e.answers[0])) for e in examples]
    eos = loaded.tokenizer.eos_token_id
    items = []
    for item in encode(loaded, pairs):
        ids = (*item.ids[: item.end], *([] if eos is None else [eos]))
        fitted = fit(Encoded(ids, item.start, len(ids)), loaded.context)
        if fitted is not None:
            labels = [IGNORED] * fitted.start + list(fitted.ids[fitted.start :])
            items.append({"input_ids": list(fitted.ids), "labels": labels})
    return items


def collate(items: Sequence[dict[str, list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded (B, T) tensors of ids, mask and labels."""
    import torch

    width = max(len(item["input_ids"]) for item in items)

    def padded(key: str, filler: int) -> torch.Tensor:
        return torch.tensor([item[key] + [filler] * (width - len(item[key])) for item in items])

    lengths = torch.tensor([len(item["input_ids"]) for item in items])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return {
        "input_ids": padded("input_ids", pad),
        "attention_mask": mask,
        "labels": padded("labels", IGNORED),
    }


def _trainer(
    adapted: Any,
    loaded: LoadedModel,
    train: Sequence[Example],
    held_out: Sequence[Example],
    config: FinetuneConfig,
    template: Template,
    seed: int,
    folder: Path,
) -> Any:
    from transformers import EarlyStoppingCallback, Trainer, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    pad = loaded.tokenizer.pad_token_id or 0
    stopping = bool(held_out)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=4 * config.batch_size,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="constant",  # the best step is kept, wherever in training it comes
        seed=seed,
        data_seed=seed,
        bf16=str(loaded.model.dtype) == "torch.bfloat16",
        eval_strategy="epoch" if stopping else "no",
        save_strategy="epoch" if stopping else "no",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=stopping,
        metric_for_best_model="merit" if stopping else None,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=loaded.device.type == "cpu",
        dataloader_pin_memory=loaded.device.type != "cpu",
        remove_unused_columns=False,
        label_names=["labels"],
    )
    trainer = Trainer(
        model=adapted,
        args=arguments,
        data_collator=lambda items: collate(items, pad),
        train_dataset=training_items(loaded, train, template),
        eval_dataset=training_items(loaded, held_out, template) if stopping else None,
        compute_metrics=_held_out_metrics,
        preprocess_logits_for_metrics=_choices_and_nats,  # type: ignore[arg-type]
        callbacks=[EarlyStoppingCallback(config.patience)] if stopping else [],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _choices_and_nats(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first choice for the next token, and the nats of the right one (0 where ignored): (B, T) each."""
    import torch

    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    nats = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), following, ignore_index=IGNORED, reduction="none"
    )
    return logits.argmax(dim=-1), nats


def _held_out_metrics(predicted: Any) -> dict[str, float]:
    """`accuracy`, the share of examples whose every answer token is the first choice; and `merit`, by which steps
    are compared: the accuracy, and among equal ones the lower loss, without which a small held-out part on which
    nothing is right yet would stop training at once.
    """
    choices, nats = predicted.predictions
    labels = predicted.label_ids[:, 1:]
    learned = labels != IGNORED
    right = (choices[:, :-1] == labels) | ~learned
    accuracy = float(right.all(axis=1).mean())
    loss = float(nats[:, :-1][learned].mean())
    return {"accuracy": accuracy, "merit": accuracy - 1e-6 * min(loss, 100.0)}


def _best_step(state: Any) -> tuple[int, float | None]:
    """The step whose adapter was kept, and its held-out accuracy; the last step where nothing was held out."""
    if state.best_global_step is None:
        return state.global_step, None
    kept = (row for row in state.log_history if row["step"] == state.best_global_step and "eval_accuracy" in row)
    return state.best_global_step, next(kept)["eval_accuracy"]


def _check_adapted(adapted: Any, loaded: LoadedModel, example: Example, template: Template) -> None:
    """A finetuned model whose adapter is off would silently repeat the base model's numbers."""
    import torch

    ids = torch.tensor([loaded.tokenizer(template.render_prompt(example.question))["input_ids"]])
    ids = ids[:, : loaded.context].to(loaded.device)
    with torch.inference_mode():
        with_adapter = adapted(input_ids=ids).logits
        with adapted.disable_adapter():
            without = adapted(input_ids=ids).logits
    if torch.equal(with_adapter, without):
        raise ModelError(
            f"Finetuning left the outputs of {loaded.name} as they were.",
            expected="outputs that differ from the base model",
            try_next="a larger --learning-rate or more --epochs",
        )
