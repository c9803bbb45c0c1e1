"""Finetuning of one arm with one seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from curate.errors import ModelError, OutputError
from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.records import Example
from curate.validation.batches import training_items
from curate.validation.config import FinetuneConfig
from curate.validation.fitting import Fitting, first_fitting, out_of_memory
from curate.validation.loggers import logging_to
from curate.validation.methods import collect, is_sharded, trainable
from curate.validation.processes import is_first, processes
from curate.validation.training import Trained, Training, train


@dataclass(frozen=True)
class Finetuned:
    """A finetuned model: `loaded` answers as it now does; `model` is what was trained (the adapters, for LoRA)."""

    loaded: LoadedModel
    model: Any
    trained: Trained


@contextmanager
def finetuned(
    loaded: LoadedModel,
    examples: Sequence[Example],
    config: FinetuneConfig,
    template: Template,
    seed: int,
    checkpoints: Path | None = None,
    fitting: Fitting | None = None,
    report_to: str = "none",
    say: Callable[[str], None] = lambda line: None,
    remember: Callable[[Fitting], None] = lambda fitting: None,
    logs: Path | None = None,
    along: Callable[[], float] | None = None,
) -> Iterator[Finetuned]:
    """Finetune on the examples; inside the `with` the model is finetuned, afterwards it is the base again.

    A share `held_out` of the examples decides when to stop: after each epoch the share of held-out answers whose
    every token is the model's first choice is measured, the best weights are kept, and training ends after
    `patience` epochs without better ones. With a folder for `checkpoints`, a stopped training goes on from the
    last one. When memory runs out it goes on from there with less at a time, the batch staying what it is, and
    `remember` is told with what. Of several processes each can only end then: the others wait for it in vain.
    The logger `report_to` writes to the folder `logs`, if it writes files, and names its run after its last two parts.
    After every epoch `along` is asked for the accuracy of the model as it is by then.
    """
    from transformers import set_seed

    with ExitStack() as temporary:
        folder = checkpoints or Path(temporary.enter_context(TemporaryDirectory(prefix="curate-")))
        fitting = fitting or first_fitting(config.batch_size, processes())
        before = _first_logits(loaded, examples[0], template)
        device, sharded = loaded.device, is_sharded(loaded, config)
        while True:
            set_seed(seed)
            undo = ExitStack()
            model = undo.enter_context(trainable(loaded, config))
            with undo:
                try:
                    how = Training(config, fitting, seed, folder.resolve(), report_to, logs, along)
                    trained = _train(model, loaded, examples, template, how)
                except RuntimeError as error:
                    fitting = _smaller(fitting, error, remember, say)
                    continue
                model.eval()
                if sharded:
                    collect(loaded, model, device)
                if is_first():
                    _check_changed(loaded, before, _first_logits(loaded, examples[0], template))
                yield Finetuned(loaded, model, trained)
                return


def split_held_out(examples: Sequence[Example], k: int, seed: int) -> tuple[list[Example], list[Example]]:
    """A seeded split of an arm into what trains and the k examples that decide when to stop."""
    shuffled = list(examples)
    random.Random(seed).shuffle(shuffled)
    return shuffled[k:], shuffled[:k]


def _train(model: Any, loaded: LoadedModel, examples: Sequence[Example], template: Template, how: Training) -> Trained:
    part, held_out = split_held_out(examples, how.config.held_out_rows(len(examples)), how.seed)
    items = training_items(loaded, part, template)
    held_out_items = training_items(loaded, held_out, template) if held_out else []
    try:
        with logging_to(how.report_to, how.logs):
            return train(model, loaded, items, held_out_items, how)
    except OSError as error:
        raise OutputError(
            f"A checkpoint cannot be written to {how.checkpoints}: {error.strerror or error}.",
            expected="a place you may write to, with room on the disk",
            try_next="the same command again, once there is room: it goes on from the last checkpoint",
        ) from error


def _smaller(
    fitting: Fitting, error: RuntimeError, remember: Callable[[Fitting], None], say: Callable[[str], None]
) -> Fitting:
    """What to try next when memory ran out; any other error goes on."""
    import torch

    if not out_of_memory(error):
        raise error
    smaller = fitting.smaller()
    remember(smaller)
    if processes() > 1:
        raise ModelError(
            f"Memory ran out with {fitting} on each process.",
            expected=f"room for them; the next attempt takes {smaller}",
            try_next="the same command again, or torchrun --max-restarts 3, which does so by itself",
        ) from error
    say(f"memory ran out with {fitting}; trying {smaller}")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return smaller


def _first_logits(loaded: LoadedModel, example: Example, template: Template) -> Any:
    import torch

    ids = torch.tensor([loaded.tokenizer(template.zero_shot(example))["input_ids"][-loaded.context :]])
    with torch.inference_mode():
        return loaded.model(input_ids=ids.to(loaded.device)).logits[:, -1].cpu()


def _check_changed(loaded: LoadedModel, before: Any, after: Any) -> None:
    """A finetuned model whose adapter is off would silently repeat the base model's numbers."""
    if bool((before == after).all()):
        raise ModelError(
            f"Finetuning left the outputs of {loaded.name} as they were.",
            expected="outputs that differ from the base model",
            try_next="a larger --learning-rate or more --epochs",
        )
