"""Training on prompt and completion with transformers' Trainer: loss on the completion only, no padding to speak of."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import ModelError
from curate.lm.encode import Encoded, encode, fit
from curate.lm.forward import head_at
from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.records import Example
from curate.shots import solution
from curate.validation.config import FinetuneConfig
from curate.validation.fitting import Fitting
from curate.validation.loggers import run_name
from curate.validation.processes import processes

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label that PyTorch's cross entropy leaves out
SORTED_BATCHES = 16
"""Batches whose examples are sorted by length together: long enough a run to leave hardly any padding."""
SAVE_SECONDS = 300.0
"""Training that is lost at most when a run is killed, besides what comes between two epochs."""
LOGGED = {"train_loss": "loss", "held_out_accuracy": "eval_accuracy", "held_out_loss": "eval_answer_loss"}
"""What is kept of Trainer's log, and what it is called there."""

Item = dict[str, list[int]]
"""`input_ids` and `labels` of one example."""


@dataclass(frozen=True)
class Trained:
    """The step whose weights were kept, their accuracy on the held-out part, and the way there."""

    steps: int
    validation_accuracy: float | None
    held_out_loss: float | None
    rows: Sequence[dict[str, float | None]]


def training_items(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> list[Item]:
    """Token ids and labels of each example: the prompt's labels are ignored, the end-of-sequence token is learned."""
    solved = [(template.zero_shot(e), solution(template, e)) for e in examples]
    pairs = [(prompt, template.render_completion(answer)) for prompt, answer in solved if answer is not None]
    eos = loaded.tokenizer.eos_token_id
    items = []
    for item in encode(loaded, pairs):
        ids = (*item.ids[: item.end], *([] if eos is None else [eos]))
        fitted = fit(Encoded(ids, item.start, len(ids)), loaded.context)
        if fitted is not None:
            labels = [IGNORED] * fitted.start + list(fitted.ids[fitted.start :])
            items.append({"input_ids": list(fitted.ids), "labels": labels})
    if not items:
        raise ModelError(
            f"No example fits into the {loaded.context} tokens that {loaded.name} reads.",
            expected="a question and its answer within the model's context",
        )
    return items


def collate(items: Sequence[Item], pad: int) -> dict[str, torch.Tensor]:
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


class LengthGrouped:
    """The order of one epoch: shuffled by seed and epoch, then sorted by length within runs of batches.

    With a `blank`, the index of an item without labels, the last batch is filled up with it: several processes share
    out whole batches only, and accelerate would fill theirs with examples that have been in the epoch already.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, blank: int | None = None) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.filling = [] if blank is None else [blank] * (-len(lengths) % batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer, also after a resume, so that the order is that of a run that never stopped."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + len(self.filling)

    def __iter__(self) -> Iterator[int]:
        shuffler = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        shuffler.shuffle(order)
        run = SORTED_BATCHES * self.batch_size
        batches = []
        for start in range(0, len(order), run):
            together = sorted(order[start : start + run], key=lambda i: -self.lengths[i])
            batches += [together[i : i + self.batch_size] for i in range(0, len(together), self.batch_size)]
        last = batches.pop() if len(batches[-1]) < self.batch_size else []
        shuffler.shuffle(batches)
        yield from (index for batch in [*batches, last, self.filling] for index in batch)


def answer_nats(model: Any, head_of: Any, inputs: dict[str, torch.Tensor]) -> tuple[Any, Any, Any]:
    """Nats of each answer token, whether it is the first choice, and its row of the batch: (P,) each.

    The output head sees the positions before answer tokens only; it is most of a small model's work, and its
    logits most of the memory that training takes.
    """
    import torch

    following = torch.nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=IGNORED)  # (B, T)
    places = (following.flatten() != IGNORED).nonzero()[:, 0]  # (P,)
    with head_at(head_of, places) as selected:
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
    logits = (logits[0] if selected else logits.flatten(0, 1)[places]).float()  # (P, V)
    right = following.flatten()[places]
    nats = torch.nn.functional.cross_entropy(logits, right, reduction="none")
    return nats, logits.argmax(dim=-1) == right, places // following.shape[1]


def train(
    model: Any,
    loaded: LoadedModel,
    items: Sequence[Item],
    held_out: Sequence[Item],
    config: FinetuneConfig,
    fitting: Fitting,
    seed: int,
    checkpoints: Path,
    report_to: str = "none",
    logs: Path | None = None,
) -> Trained:
    """Train `model`: the loaded one, an adapter on it, or a copy of it; goes on from the last checkpoint, if any."""
    trainer = _trainer(model, loaded, items, held_out, config, fitting, seed, checkpoints, report_to, logs)
    trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
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
    """Trainer's log as one row a step: epoch, training loss since the row before, accuracy and loss held out."""
    rows: dict[int, dict[str, float | None]] = {}
    for logged in log_history:
        row = rows.setdefault(logged["step"], {"step": logged["step"], "epoch": logged["epoch"]})
        for ours, theirs in LOGGED.items():
            row[ours] = logged.get(theirs, row.get(ours))
    return [row for row in rows.values() if row["train_loss"] is not None or row["held_out_accuracy"] is not None]


def _trainer(
    model: Any,
    loaded: LoadedModel,
    items: Sequence[Item],
    held_out: Sequence[Item],
    config: FinetuneConfig,
    fitting: Fitting,
    seed: int,
    checkpoints: Path,
    report_to: str,
    logs: Path | None,
) -> Any:
    from transformers import EarlyStoppingCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    pad = loaded.tokenizer.pad_token_id or 0
    stopping = bool(held_out)
    sharded = not hasattr(model, "peft_config") and model is not loaded.model
    cuda = sharded or loaded.device.type == "cuda"
    fsdp = {"fsdp_config": {"version": 2, "activation_checkpointing": fitting.checkpointing}, "fsdp": True}
    sharding: dict[str, Any] = fsdp if sharded else {}
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=fitting.micro_batch,
        gradient_accumulation_steps=fitting.accumulation,
        activation_checkpointing=fitting.checkpointing and not sharded,
        per_device_eval_batch_size=4 * fitting.micro_batch,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="constant",  # the best step is kept, wherever in training it comes
        seed=seed,
        data_seed=seed,
        bf16=cuda and (config.method == "full" or str(loaded.model.dtype) == "torch.bfloat16"),
        eval_strategy="epoch" if stopping else "no",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=stopping,
        metric_for_best_model="merit" if stopping else None,
        logging_strategy="epoch",
        report_to=[] if report_to == "none" else [report_to],
        run_name=run_name(logs),
        disable_tqdm=True,
        use_cpu=loaded.device.type == "cpu" and not sharded,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=config.method == "full",  # every adapter has its part in every batch
        **sharding,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # or Trainer spreads one process over all GPUs it sees
    blank: Item = {"input_ids": [pad], "labels": [IGNORED]}
    trainer = _trainer_class()(
        model=model,
        args=arguments,
        data_collator=lambda chosen: collate(chosen, pad),
        train_dataset=[*items, blank],
        eval_dataset=list(held_out) if stopping else None,
        compute_metrics=_held_out_metrics,
        callbacks=[_saving_callback(), *([EarlyStoppingCallback(config.patience)] if stopping else [])],
    )
    trainer.head_of = replace(loaded, model=model) if sharded else loaded
    lengths = [len(item["input_ids"]) for item in items]
    trainer.sampler = LengthGrouped(lengths, config.batch_size, seed, len(items) if processes() > 1 else None)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _trainer_class() -> Any:
    """Made here, since transformers is imported only when something trains."""
    from transformers import Trainer

    class CompletionTrainer(Trainer):
        head_of: LoadedModel
        sampler: LengthGrouped
        loss_is_scaled_for_ga = True

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.model_accepts_loss_kwargs = True  # so that the answer tokens of the whole batch are counted

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return self.sampler

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            if not model.training:  # Trainer sets every module's mode in every step, which small models feel
                model.train()
            loss = self.compute_loss(model, self._prepare_inputs(inputs), num_items_in_batch=num_items_in_batch)
            self.accelerator.backward(loss)
            return loss.detach()

        def floating_point_ops(self, inputs: Any) -> int:
            return 0  # nobody asks, and counting the model's parameters in every step takes a tenth of it

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            nats, _, _ = answer_nats(model, self.head_of, inputs)
            return nats.sum() / num_items_in_batch * self.accelerator.num_processes

        def prediction_step(
            self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> tuple[Any, Any, Any]:
            import torch

            inputs = self._prepare_inputs(inputs)
            with torch.inference_mode():
                nats, chosen, rows = answer_nats(model, self.head_of, inputs)
            size = len(inputs["labels"])
            tokens = torch.bincount(rows, minlength=size)
            right = torch.bincount(rows, weights=chosen.double(), minlength=size)
            summed = torch.bincount(rows, weights=nats.double(), minlength=size)
            return summed.sum() / tokens.sum(), (right == tokens, summed), tokens

    return CompletionTrainer


def _saving_callback() -> Any:
    import time

    from transformers import TrainerCallback

    class SaveNowAndThen(TrainerCallback):
        """A checkpoint every few minutes, from which a killed run goes on."""

        def __init__(self) -> None:
            self.saved = time.monotonic()

        def on_save(self, *arguments: Any, **named: Any) -> None:
            self.saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            if args.world_size == 1 and time.monotonic() - self.saved >= SAVE_SECONDS:
                control.should_save = True

    return SaveNowAndThen()


def _held_out_metrics(predicted: Any) -> dict[str, float]:
    """`accuracy`, the share of examples whose every answer token is the first choice; and `merit`, by which steps
    are compared: the accuracy, and among equal ones the lower loss, without which a small held-out part on which
    nothing is right yet would stop training at once. Training that diverged has a merit too: Trainer keeps no step
    whose merit is NaN.
    """
    right, nats = predicted.predictions
    accuracy = float(right.mean())
    loss = float(nats.sum() / predicted.label_ids.sum())
    return {"accuracy": accuracy, "answer_loss": loss, "merit": accuracy - 1e-6 * min(100.0, loss)}  # 100 for NaN
