"""Training on prompt and completion with transformers' Trainer: loss on the completion only, no padding to speak of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.lm.load import LoadedModel
from curate.validation.batches import IGNORED, Item, LengthGrouped, collate
from curate.validation.config import FinetuneConfig
from curate.validation.fitting import Fitting
from curate.validation.loggers import run_name
from curate.validation.processes import processes
from curate.validation.trainer import (
    TEST_ACCURACY,
    asking_callback,
    completion_trainer,
    held_out_metrics,
    saving_callback,
)

LOGGED = {
    "train_loss": "loss",
    "held_out_accuracy": "eval_accuracy",
    "held_out_loss": "eval_answer_loss",
    "test_accuracy": TEST_ACCURACY,
}
"""What is kept of Trainer's log, and what it is called there."""


@dataclass(frozen=True)
class Training:
    """How one training goes: its settings and seed, how a batch fits into memory, where it saves and logs.

    `along` gives the accuracy on some test questions, and is asked after every epoch.
    """

    config: FinetuneConfig
    fitting: Fitting
    seed: int
    checkpoints: Path
    report_to: str = "none"
    logs: Path | None = None
    along: Callable[[], float] | None = None


@dataclass(frozen=True)
class Trained:
    """The step whose weights were kept, their accuracy on the held-out part, and the way there."""

    steps: int
    validation_accuracy: float | None
    held_out_loss: float | None
    rows: Sequence[dict[str, float | None]]


def train(model: Any, loaded: LoadedModel, items: Sequence[Item], held_out: Sequence[Item], how: Training) -> Trained:
    """Train `model`: the loaded one, an adapter on it, or a copy of it; goes on from the last checkpoint, if any."""
    trainer = _trainer(model, loaded, items, held_out, how)
    trainer.train(resume_from_checkpoint=last_checkpoint(how.checkpoints))
    rows = training_rows(trainer.state.log_history)
    kept = trainer.state.best_global_step
    if kept is None:  # nothing was held out
        return Trained(trainer.state.global_step, None, None, rows)
    (best,) = [row for row in rows if row["step"] == kept]
    return Trained(kept, best["held_out_accuracy"], best["held_out_loss"], rows)


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def training_rows(log_history: Sequence[dict[str, Any]]) -> list[dict[str, float | None]]:
    """Trainer's log as one row a step: epoch, training loss since the row before, and what LOGGED names besides."""
    rows: dict[int, dict[str, float | None]] = {}
    for logged in log_history:
        row = rows.setdefault(logged["step"], {"step": logged["step"], "epoch": logged["epoch"]})
        for ours, theirs in LOGGED.items():
            row[ours] = logged.get(theirs, row.get(ours))
    return [row for row in rows.values() if row["train_loss"] is not None or row["held_out_accuracy"] is not None]


def _trainer(model: Any, loaded: LoadedModel, items: Sequence[Item], held_out: Sequence[Item], how: Training) -> Any:
    from transformers import EarlyStoppingCallback
    from transformers.trainer_callback import PrinterCallback

    pad = loaded.tokenizer.pad_token_id or 0
    stopping = bool(held_out)
    sharded = not hasattr(model, "peft_config") and model is not loaded.model
    blank: Item = {"input_ids": [pad], "labels": [IGNORED]}
    trainer = completion_trainer()(
        model=model,
        args=_arguments(loaded, how, stopping, sharded),
        data_collator=lambda chosen: collate(chosen, pad),
        train_dataset=[*items, blank],
        eval_dataset=list(held_out) if stopping else None,
        compute_metrics=held_out_metrics,
        callbacks=[
            saving_callback(),
            *([EarlyStoppingCallback(how.config.patience)] if stopping else []),
            # What is shared out among processes is put together at the end only.
            *([asking_callback(how.along)] if how.along and not sharded else []),
        ],
    )
    trainer.head_of = replace(loaded, model=model) if sharded else loaded
    lengths = [len(item["input_ids"]) for item in items]
    filler = len(items) if processes() > 1 else None
    trainer.sampler = LengthGrouped(lengths, how.config.batch_size, how.seed, filler)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(loaded: LoadedModel, how: Training, stopping: bool, sharded: bool) -> Any:
    """Trainer's settings; `sharded` where the weights are shared out among processes (FSDP)."""
    import torch
    from transformers import TrainingArguments

    config, fitting = how.config, how.fitting
    # A model that is shared out waits in main memory meanwhile, whatever it trains on.
    device = ("cuda" if torch.cuda.is_available() else "cpu") if sharded else loaded.device.type
    fsdp: dict[str, Any] = {
        "fsdp_config": {"version": 2, "activation_checkpointing": fitting.checkpointing},
        "fsdp": True,
    }
    arguments = TrainingArguments(
        output_dir=str(how.checkpoints),
        per_device_train_batch_size=fitting.micro_batch,
        gradient_accumulation_steps=fitting.accumulation,
        activation_checkpointing=fitting.checkpointing and not sharded,
        per_device_eval_batch_size=4 * fitting.micro_batch,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="constant",  # the best step is kept, wherever in training it comes
        seed=how.seed,
        data_seed=how.seed,
        bf16=device == "cuda" and (config.method == "full" or str(loaded.model.dtype) == "torch.bfloat16"),
        eval_strategy="epoch" if stopping else "no",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=stopping,
        metric_for_best_model="merit" if stopping else None,
        logging_strategy="epoch",
        report_to=[] if how.report_to == "none" else [how.report_to],
        run_name=run_name(how.logs),
        disable_tqdm=True,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=config.method == "full",  # every adapter has its part in every batch
        **(fsdp if sharded else {}),
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # or Trainer spreads one process over all GPUs it sees
    return arguments
