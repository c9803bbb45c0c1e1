"""The Hugging Face Trainer on completions: micro-batches, loggers, and, on a GPU, steps launched as a whole."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from curate.engines import is_first, processes
from curate.errors import ModelError, SettingError, setting
from curate.lm.forward import head_at
from curate.lm.model import LoadedModel
from curate.lm.packing import IGNORED, Item, LengthGrouped, collate, following
from curate.settings import FinetuneConfig


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """How a batch goes through the model: in `accumulation` parts of `micro_batch` examples on each process.

    With `checkpointing` activations are computed again instead of kept.
    """

    micro_batch: int
    accumulation: int = 1
    checkpointing: bool = False

    @classmethod
    def whole(cls, batch_size: int) -> MicroBatches:
        """The whole batch at once, shared equally by the processes; ModelError where it cannot be."""
        if batch_size % processes():
            raise ModelError(
                f"A batch of {batch_size} cannot be shared equally by {processes()} processes.",
                try_next=setting("batch_size", processes() * max(1, batch_size // processes())),
            )
        return cls(batch_size // processes())

    def halved(self) -> MicroBatches:
        """What to try when memory ran out: activations computed again, then smaller parts of the same batch.

        ModelError where nothing is left to try.
        """
        if not self.checkpointing:
            return replace(self, checkpointing=True)
        parts = next((n for n in range(2, self.micro_batch + 1) if self.micro_batch % n == 0), None)
        if parts is None:
            raise ModelError(
                "One example alone does not fit in memory while this model is finetuned.",
                expected="memory for the model, its adapters and one example",
                try_next=f"{setting('method', 'qlora')}, {setting('dtype', 'bfloat16')}, a smaller "
                f"{setting('lora_rank')}, or another {setting('device')}",
            )
        return replace(self, micro_batch=self.micro_batch // parts, accumulation=self.accumulation * parts)

    def __str__(self) -> str:
        parts = f"{self.accumulation} × {self.micro_batch} examples a step"
        return f"{parts}, activations computed again" if self.checkpointing else parts


@dataclass(frozen=True)
class Training:
    """One training: its settings, its seed, and where it keeps checkpoints and logs.

    The logger `report_to` writes to the folder `logs`, if it writes files, and names the run after its last two parts.
    `test_accuracy` gives the accuracy of the model as it is, on some test questions, and is called after every epoch;
    `last_said` what it answers to some at the end, if that is not the step that is kept. Whether the answers of
    `watched` are fitted is seen after every epoch.
    """

    config: FinetuneConfig
    seed: int
    checkpoints: Path
    report_to: str = "none"
    logs: Path | None = None
    test_accuracy: Callable[[], float] | None = None
    last_said: Callable[[], list[str]] | None = None
    watched: Sequence[Item | None] = ()


@dataclass(frozen=True)
class Trained:
    """What was trained (the adapters, for LoRA) as it was at the step that was kept, and how training went.

    `validation_accuracy` and `held_out_loss` are those of this step on the held-out part, None without one; `rows` is
    the log, a row a step.
    """

    model: Any
    steps: int
    validation_accuracy: float | None
    held_out_loss: float | None
    rows: Sequence[dict[str, Any]]


def check_logger(report_to: str) -> None:
    """SettingError now, before anything is trained, for a logger that Trainer does not know or that is not here."""
    if report_to == "none":
        return
    from transformers.integrations import get_available_reporting_integrations

    there = get_available_reporting_integrations()
    if report_to not in there:
        raise SettingError(
            f"There is no logger {report_to!r} here.",
            expected=f"{setting('report_to')} with one of: {', '.join(['none', *there])}",
            try_next=f"pip install {report_to}, if it is one that Trainer knows: tensorboard, wandb, trackio",
        )


WATCHED = 400
"""Training examples at most of which it is seen after every epoch whether they are fitted."""
SHORT = 64
"""Tokens of a text whose attention weights are kept as they are; of a small model's batch of 16 some 0.2 GB."""
SAVE_SECONDS = 300.0
"""Training that is lost at most when a run is killed, besides what comes between two epochs."""


def answer_nats(model: Any, head_of: Any, inputs: dict[str, torch.Tensor]) -> tuple[Any, Any, Any]:
    """Nats of each answer token, whether it is the first choice, and its row of the batch: (P,) each.

    The output head sees the positions before answer tokens only; it is most of a small model's work, and its
    logits most of the memory that training takes.
    """
    logits, right = answer_logits(model, head_of, inputs)
    nats = torch.nn.functional.cross_entropy(logits, right, reduction="none")
    return nats, logits.argmax(dim=-1) == right, inputs["places"] // inputs["labels"].shape[1]


def answer_logits(model: Any, head_of: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model holds for the next token where an answer token follows (P, V), and which follows (P,)."""
    places = inputs["places"]
    with head_at(head_of, places) as selected:
        logits = model(input_ids=inputs["input_ids"], use_cache=False).logits
    logits = (logits[0] if selected else logits.flatten(0, 1)[places]).float()
    return logits, following(inputs["labels"])[places]


def distilled(model: Any, head_of: Any, inputs: dict[str, torch.Tensor], config: FinetuneConfig) -> torch.Tensor:
    """Cross entropy of the answer tokens, and the divergence from the untouched model at the same places: (P,) nats.

    The teacher is the model itself with its adapters off. As with Hinton et al. (2015), both distributions are softened
    by the temperature, and the divergence is multiplied by its square.
    """
    logits, right = answer_logits(model, head_of, inputs)
    bare = getattr(model, "module", model)  # of several processes each has it wrapped
    with torch.no_grad(), bare.disable_adapter():
        teacher, _ = answer_logits(bare, head_of, inputs)
    softer = config.distill_temperature
    student, target = (torch.log_softmax(each / softer, dim=-1) for each in (logits, teacher))
    apart = torch.nn.functional.kl_div(student, target, log_target=True, reduction="none").sum(dim=-1)
    nats = torch.nn.functional.cross_entropy(logits, right, reduction="none")
    return nats + config.distill_weight * softer**2 * apart * (right != IGNORED)


def completion_trainer(head_of: LoadedModel, sampler: LengthGrouped, config: FinetuneConfig, recorded: bool) -> Any:
    """The class of Trainer; made here, since transformers is imported only when something trains.

    `recorded`: steps are CUDA graphs.
    """
    from peft.helpers import disable_input_dtype_casting
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from transformers import Trainer

    # In bfloat16 on a CPU, PyTorch's fused attention takes four times as long backward as plain products of matrices,
    # which keep T² weights of every head: for short texts only.
    products = head_of.device.type == "cpu" and head_of.model.dtype == torch.bfloat16

    class CompletionTrainer(Trainer):
        loss_is_scaled_for_ga = True
        one_step: Any = None

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return sampler

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            if not model.training:  # Trainer sets every module's mode in every step, which small models feel
                model.train()
            if self.one_step is None:
                step = functools.partial(self.forward_and_backward, model)
                self.one_step = RecordedSteps(model.parameters(), step) if recorded else step
            inputs = self._prepare_inputs(inputs)
            return self.one_step(inputs | {"items": torch.as_tensor(num_items_in_batch, device=self.args.device)})

        def forward_and_backward(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            # Autocast brings what adapters read to its own type; that peft brings it to theirs before is lost time.
            short = products and inputs["labels"].shape[1] <= SHORT
            attention = sdpa_kernel(SDPBackend.MATH) if short else nullcontext()
            with disable_input_dtype_casting(model, active=self.args.bf16), attention:
                loss = self.compute_loss(model, inputs, num_items_in_batch=inputs["items"])
                self.accelerator.backward(loss)
            return loss.detach()

        def floating_point_ops(self, inputs: Any) -> int:
            return 0  # not shown, and counting the model's parameters in every step takes a tenth of it

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if config.regularize == "distill":
                nats = distilled(model, head_of, inputs, config)
            else:
                nats, _, _ = answer_nats(model, head_of, inputs)
            return nats.sum() / num_items_in_batch * self.accelerator.num_processes

        def prediction_step(
            self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> tuple[Any, Any, Any]:
            inputs = self._prepare_inputs(inputs)
            with torch.inference_mode():
                nats, chosen, rows = answer_nats(model, head_of, inputs)
            size = len(inputs["labels"])
            tokens = torch.bincount(rows, minlength=size)
            right = torch.bincount(rows, weights=chosen.double(), minlength=size)
            summed = torch.bincount(rows, weights=nats.double(), minlength=size)
            return summed.sum() / tokens.sum(), (right == tokens, summed), tokens

    return CompletionTrainer


def fitted(model: Any, loaded: LoadedModel, items: Sequence[Item | None], batch_size: int) -> list[int]:
    """1 for each example whose answer's every token the model, as it is, holds for the most likely one, else 0."""
    pad, there = loaded.tokenizer.pad_token_id or 0, [item for item in items if item is not None]
    found: list[int] = []
    for start in range(0, len(there), batch_size):
        some = there[start : start + batch_size]
        inputs = {name: values.to(loaded.device) for name, values in collate(some, pad).items()}
        with torch.inference_mode():
            _, chosen, rows = answer_nats(model, loaded, inputs)
        missed = torch.bincount(rows[~chosen], minlength=len(some))
        found += (missed == 0).int().tolist()
    of_items = iter(found)
    return [0 if item is None else next(of_items) for item in items]


def completion_callback(loaded: LoadedModel, how: Training, batch_size: int) -> Any:
    """Saves a checkpoint every few minutes; after every epoch sees what is fitted, and asks for the test accuracy."""
    from transformers import TrainerCallback

    class CompletionCallback(TrainerCallback):
        def __init__(self) -> None:
            self.saved = time.monotonic()

        def on_save(self, *arguments: Any, **named: Any) -> None:
            self.saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            # Processes have clocks of their own, and must save together.
            if args.world_size == 1 and time.monotonic() - self.saved >= SAVE_SECONDS:
                control.should_save = True

        def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **named: Any) -> None:
            found: dict[str, Any] = {}
            if is_first() and (how.watched or how.test_accuracy):  # the others have the same weights, and wait
                model.eval()
                if how.watched:
                    found["fitted"] = fitted(model, loaded, how.watched, batch_size)
                if how.test_accuracy is not None:
                    found["test_accuracy"] = how.test_accuracy()
                state.log_history.append({"step": state.global_step, "epoch": state.epoch, **found})

        def on_evaluate(
            self, args: Any, state: Any, control: Any, model: Any = None, metrics: Any = None, **named: Any
        ) -> None:
            # EarlyStoppingCallback has been asked before. What is the best step is decided after this.
            best = state.best_metric is None or metrics["eval_best_metric"] > state.best_metric
            if how.last_said is None or best or not control.should_training_stop:
                return
            model.eval()
            if is_first():
                found = {"step": state.global_step, "epoch": state.epoch, "last_said": how.last_said()}
                state.log_history.append(found)  # which checkpoints keep

    return CompletionCallback()


def held_out_metrics(predicted: Any) -> dict[str, float]:
    """`accuracy`, the share of examples whose every answer token is the first choice, and `best_metric`, which decides
    what step is kept: the accuracy, and among equal ones the lower loss, without which a small held-out part on which
    nothing is right yet would stop training at once. It is a number after training that diverged, too: Trainer keeps no
    step whose metric is NaN.
    """
    right, nats = predicted.predictions
    accuracy = float(right.mean())
    loss = float(nats.sum() / predicted.label_ids.sum())
    # min gives 100 for NaN: no comparison with it is true.
    return {"accuracy": accuracy, "answer_loss": loss, "best_metric": accuracy - 1e-6 * min(100.0, loss)}


LOGGED = {
    "train_loss": "loss",
    "held_out_accuracy": "eval_accuracy",
    "held_out_loss": "eval_answer_loss",
    "test_accuracy": "test_accuracy",
    "fitted": "fitted",
    "last_said": "last_said",
}
"""What is kept of Trainer's log, and what it is called there."""


def training_rows(log_history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trainer's log as one row a step: epoch, training loss since the row before, and what LOGGED names besides."""
    rows: dict[int, dict[str, Any]] = {}
    for logged in log_history:
        row = rows.setdefault(logged["step"], {"step": logged["step"], "epoch": logged["epoch"]})
        for ours, theirs in LOGGED.items():
            row[ours] = logged.get(theirs, row.get(ours))
    return [row for row in rows.values() if row["train_loss"] is not None or row["held_out_accuracy"] is not None]


def can_record(loaded: LoadedModel, config: FinetuneConfig, batches: MicroBatches) -> bool:
    """Whether steps are launched as CUDA graphs. Activations that are computed again go with large batches, which keep
    a GPU busy as they are."""
    alone = loaded.device.type == "cuda" and processes() == 1
    return config.cuda_graphs and alone and not batches.checkpointing


def train(
    model: Any,
    loaded: LoadedModel,
    items: Sequence[Item],
    held_out: Sequence[Item],
    how: Training,
    batches: MicroBatches,
    sharded: bool = False,
) -> Trained:
    """Train `model`: the loaded one, adapters in it, or a copy of it; goes on from the last checkpoint, if any.

    `sharded`: the weights that train are shared out among GPUs (FSDP).
    """
    from transformers import EarlyStoppingCallback
    from transformers.integrations import TensorBoardCallback
    from transformers.trainer_callback import PrinterCallback

    pad = loaded.tokenizer.pad_token_id or 0
    blank: Item = {"input_ids": [pad], "labels": [IGNORED]}
    lengths = [len(item["input_ids"]) for item in items]
    early = EarlyStoppingCallback(how.config.patience)
    filling, shuffled = len(items) if processes() > 1 else None, how.config.order == "shuffled"
    sampler = LengthGrouped(lengths, how.config.batch_size, how.seed, filling, shuffled)
    recorded = can_record(loaded, how.config, batches)
    trainer = completion_trainer(replace(loaded, model=model) if sharded else loaded, sampler, how.config, recorded)(
        model=model,
        args=training_arguments(loaded, how, batches, sharded, bool(held_out)),
        data_collator=lambda chosen: collate(chosen, pad, loaded.context if recorded else None),
        train_dataset=[*items, blank],
        eval_dataset=list(held_out) or None,
        compute_metrics=held_out_metrics,
        callbacks=[
            *([early] if held_out else []),
            # What is shared out among processes is put together at the end only: before, it cannot be asked.
            completion_callback(
                loaded,
                replace(how, test_accuracy=None, last_said=None, watched=()) if sharded else how,
                batches.micro_batch,
            ),
        ],
    )
    trainer.model_accepts_loss_kwargs = True  # so that the answer tokens of the whole batch are counted
    trainer.remove_callback(PrinterCallback)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and how.logs is not None:
            callback.logging_dir = str(how.logs)  # its own choice lies among the checkpoints, which do not stay
    whole = [path.parent for path in how.checkpoints.glob("checkpoint-*/trainer_state.json") if _is_whole(path)]
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    if newest is not None:
        _remember(trainer, early, json.loads((newest / "trainer_state.json").read_bytes()))
    try:
        trainer.train(resume_from_checkpoint=newest and str(newest))
    finally:
        if how.report_to == "wandb" and "wandb" in sys.modules:
            sys.modules["wandb"].finish()  # or the next training would go on in the same run
    state = trainer.state
    rows = training_rows(state.log_history)
    for row in rows:
        if row["step"] == state.best_global_step:  # None if nothing was held out
            return Trained(model, state.best_global_step, row["held_out_accuracy"], row["held_out_loss"], rows)
    return Trained(model, state.global_step, None, None, rows)


def _remember(trainer: Any, early: Any, state: Mapping[str, Any]) -> None:
    """What Trainer forgets of a training that goes on from a checkpoint: how long it has been without a better step.

    One that was over, by that or by its steps, is not trained at all: Trainer would make one more step at least.
    """
    kept = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {}).get("attributes", {})
    early.early_stopping_patience_counter = kept.get("early_stopping_patience_counter", 0)
    out_of_patience = early.early_stopping_patience_counter >= early.early_stopping_patience
    if out_of_patience or state["global_step"] >= trainer.args.max_steps > 0:
        trainer.args.max_steps, trainer.args.num_train_epochs = -1, 0


def _is_whole(state: Path) -> bool:
    """Whether a checkpoint is: its state is written last, and is no JSON where a full disk took part of it only."""
    try:
        return bool(json.loads(state.read_bytes()))
    except ValueError:
        return False


def training_arguments(loaded: LoadedModel, how: Training, batches: MicroBatches, sharded: bool, held_out: bool) -> Any:
    """Trainer's settings; a part that is `held_out` decides what is kept, and when to stop."""
    from transformers import TrainingArguments

    config = how.config
    # A model that is shared out waits in main memory meanwhile, whatever it trains on.
    device = ("cuda" if torch.cuda.is_available() else "cpu") if sharded else loaded.device.type
    fsdp_config = {"version": 2, "activation_checkpointing": batches.checkpointing}
    shared: dict[str, Any] = {"fsdp": True, "fsdp_config": fsdp_config} if sharded else {}
    if how.logs is not None and how.report_to != "none":
        project = how.logs.absolute().parts[-4]  # run, of run/logs/top/seed-0
        os.environ.setdefault("WANDB_PROJECT", project)
        shared |= {"project": project} if hasattr(TrainingArguments, "project") else {}
    if batches.checkpointing and not sharded:
        new = "activation_checkpointing"  # older versions of transformers know the other name only
        shared[new if hasattr(TrainingArguments, new) else "gradient_checkpointing"] = True
    arguments = TrainingArguments(
        output_dir=str(how.checkpoints),
        per_device_train_batch_size=batches.micro_batch,
        gradient_accumulation_steps=batches.accumulation,
        per_device_eval_batch_size=4 * batches.micro_batch,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="constant",  # the best step is kept, wherever in training it comes
        seed=how.seed,
        data_seed=how.seed,
        bf16=loaded.model.dtype == torch.bfloat16 or (device == "cuda" and config.method == "full"),
        eval_strategy="epoch" if held_out else "no",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=held_out,
        metric_for_best_model="best_metric" if held_out else None,
        logging_strategy="epoch",
        logging_nan_inf_filter=False,  # it waits for the loss of every step
        report_to=[] if how.report_to == "none" else [how.report_to],
        run_name=None if how.logs is None else "/".join(how.logs.parts[-2:]),  # top/seed-0
        disable_tqdm=True,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        ddp_find_unused_parameters=config.method == "full",  # every adapter has its part in every batch
        **shared,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # or Trainer spreads one process over all GPUs it sees
    return arguments


# Training steps on a GPU, recorded once for each shape of batch and launched as one.
#
# A step over short questions is thousands of small kernels: launching them one by one from Python takes several times
# as long as the GPU needs for them. A CUDA graph launches a recorded step at once. It repeats the very kernels on the
# very memory of the recording, so a batch is copied into the recorded one's place, its shape is rounded up so that few
# shapes come (`collate`), and gradients stay where they are.

Inputs = dict[str, torch.Tensor]
Shape = tuple[torch.Size, ...]
Step = Callable[[Inputs], torch.Tensor]
"""Adds the gradients of a batch to the parameters' and gives its loss, ()."""
Record = Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], None], torch.Tensor]]
"""From a step over fixed memory: what repeats it, and where its loss is found."""

MOST_GRAPHS = 32
"""Shapes that are recorded at most."""
APART = 0.02
"""How far gradients of a recorded step may be from those of the same step as it is, relative: bfloat16 rounds."""


class RecordedSteps:
    """Does what `step` does. A shape of batch is computed as it is the first time, and recorded the second.

    Where that fails (a model that asks the GPU for a number to decide what comes next, no memory for it), or where what
    is recorded gives other gradients for that batch, every batch is computed as it is from then on.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], step: Step, record: Record | None = None) -> None:
        self.step = step
        self.record = record or on_cuda()
        self.most = MOST_GRAPHS
        self.seen: set[Shape] = set()
        self.recorded: dict[Shape, tuple[Inputs, Callable[[], None], torch.Tensor]] = {}
        by_type: dict[torch.dtype, list[torch.Tensor]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                by_type.setdefault(parameter.dtype, []).append(parameter)
        # One block of memory for all gradients of a type, so that they are set to zero at once.
        self.blocks = [group[0].new_zeros(sum(p.numel() for p in group)) for group in by_type.values()]
        self.gradients = [
            (parameter, part.view_as(parameter))
            for block, group in zip(self.blocks, by_type.values(), strict=True)
            for parameter, part in zip(group, block.split([p.numel() for p in group]), strict=True)
        ]

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """The loss of a batch, (); its gradients are added to the parameters'."""
        first, of_first = self.gradients[0]
        if first.grad is not of_first:  # Trainer takes them away after every step
            for block in self.blocks:
                block.zero_()
            for parameter, gradient in self.gradients:
                parameter.grad = gradient
        shape = tuple(tensor.shape for tensor in inputs.values())
        if shape in self.recorded:
            return self._repeated(shape, inputs)
        if shape in self.seen and len(self.recorded) < self.most:
            return self._record(shape, inputs)
        self.seen.add(shape)
        return self.step(inputs)

    def _repeated(self, shape: Shape, inputs: Inputs) -> torch.Tensor:
        batch, repeat, loss = self.recorded[shape]
        for name, tensor in inputs.items():
            batch[name].copy_(tensor, non_blocking=True)
        repeat()
        return loss.clone()  # the next step writes over it

    def _record(self, shape: Shape, inputs: Inputs) -> torch.Tensor:
        """Computes a batch as it is and records it; the gradients of both must agree."""
        before = [block.clone() for block in self.blocks]
        loss = self.step(inputs)
        right = [block.clone() for block in self.blocks]
        for block, start in zip(self.blocks, before, strict=True):
            block.copy_(start)
        batch = {name: tensor.clone() for name, tensor in inputs.items()}
        try:
            self.recorded[shape] = (batch, *self.record(lambda: self.step(batch)))
            self._repeated(shape, inputs)
            pairs = zip(self.blocks, right, strict=True)
            if not all((block - own).norm() <= APART * own.norm() for block, own in pairs):
                raise RuntimeError("what is recorded gives other gradients")
        except RuntimeError as error:
            self.most = 0
            self.recorded.clear()
            logging.getLogger(__name__).warning("training steps are not recorded: %s", str(error).split("\n")[0])
        for block, own in zip(self.blocks, right, strict=True):
            block.copy_(own)
        return loss


def on_cuda() -> Record:
    """Records CUDA graphs, which share the memory of their intermediate results."""
    pool = torch.cuda.graph_pool_handle()

    def record(step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        # The thread that pins the memory of the next batches may go on meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            loss = step()
        return graph.replay, loss

    return record
