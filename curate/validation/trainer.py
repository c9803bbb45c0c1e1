"""transformers' Trainer with a loss on answers only: what it computes at answer tokens, counts and saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curate.lm.forward import head_at
from curate.lm.load import LoadedModel
from curate.validation.batches import IGNORED, LengthGrouped
from curate.validation.processes import is_first

if TYPE_CHECKING:
    import torch

TEST_ACCURACY = "test_accuracy"

SAVE_SECONDS = 300.0
"""Training that is lost at most when a run is killed, besides what comes between two epochs."""


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


def completion_trainer() -> Any:
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


def saving_callback() -> Any:
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


def asking_callback(ask: Callable[[], float]) -> Any:
    """After every epoch the accuracy that `ask` finds goes into Trainer's log, which checkpoints keep."""
    from transformers import TrainerCallback

    class AskAlong(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **named: Any) -> None:
            model.eval()
            if is_first():  # the other processes have the same weights, and wait
                state.log_history.append({"step": state.global_step, "epoch": state.epoch, TEST_ACCURACY: ask()})

    return AskAlong()


def held_out_metrics(predicted: Any) -> dict[str, float]:
    """`accuracy`, the share of examples whose every answer token is the first choice; and `merit`, by which steps
    are compared: the accuracy, and among equal ones the lower loss, without which a small held-out part on which
    nothing is right yet would stop training at once. Training that diverged has a merit too: Trainer keeps no step
    whose merit is NaN.
    """
    right, nats = predicted.predictions
    accuracy = float(right.mean())
    loss = float(nats.sum() / predicted.label_ids.sum())
    return {"accuracy": accuracy, "answer_loss": loss, "merit": accuracy - 1e-6 * min(100.0, loss)}  # 100 for NaN
