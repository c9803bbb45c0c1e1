"""Finetuning with LoRA, QLoRA or all weights, and back to the base model afterwards."""

from __future__ import annotations

import copy
import json
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from curate.data.files import whole_folder, write_json, writing
from curate.data.stores import file_fingerprint
from curate.engines import is_first, processes
from curate.errors import ModelError, setting
from curate.lm.model import LoadedModel
from curate.lm.packing import items_of, training_items
from curate.prompts import Template
from curate.records import Example
from curate.settings import FinetuneConfig
from curate.validation.trainer import WATCHED, MicroBatches, Trained, Training, train

WEIGHTS = "adapter_model.safetensors"
GOES_ON = "the same command again, once there is room: it goes on from the last checkpoint"


@contextmanager
def finetuned(
    loaded: LoadedModel,
    examples: Sequence[Example],
    template: Template,
    how: Training,
    *,
    batches: MicroBatches | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Trained]:
    """Finetune on the examples; inside the `with` the model is finetuned, afterwards it is the base again.

    A share `held_out` of the examples decides when to stop: after each epoch the share of held-out answers whose
    every token is the model's first choice is measured, the best weights are kept, and training ends after
    `patience` epochs without better ones. A stopped training goes on from the last checkpoint. When memory runs out it
    goes on from there with smaller micro-batches, the batch staying what it is, and a file beside the checkpoints
    tells the next training. Of several processes each can only end then: the others wait for it in vain.
    """
    from accelerate.utils.memory import should_reduce_batch_size
    from transformers import set_seed

    config, how = how.config, replace(how, checkpoints=how.checkpoints.resolve())
    remembered = how.checkpoints.parent / f"batches-{config.method}-{config.batch_size}-of-{processes()}.json"
    if batches is None:
        with suppress(OSError, ValueError, TypeError):  # without it, or if it is damaged, the first try is the whole
            batches = MicroBatches(**json.loads(remembered.read_text()))
    batches = batches or MicroBatches.whole(config.batch_size)
    sharded = is_sharded(loaded, config)
    part, held_out = split_held_out(examples, config.held_out_rows(len(examples)), how.seed)
    if config.order != "shuffled":
        place = {id(example): n for n, example in enumerate(examples)}
        part = sorted(part, key=lambda example: place[id(example)])
    items = training_items(loaded, part, template)
    held_out_items = training_items(loaded, held_out, template) if held_out else []
    if how.last_said is not None:  # a training that is to be reported, and no trial
        how = replace(how, watched=items_of(loaded, watched_examples(examples, config, how.seed), template))
    before, device = _first_logits(loaded, examples[0], template), loaded.device
    while True:
        set_seed(how.seed)
        with trainable(loaded, config) as model:
            try:
                with writing(how.checkpoints, GOES_ON):
                    trained = train(model, loaded, items, held_out_items, how, batches, sharded)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                batches = _halved(batches, error, remembered, say)
                continue
            model.eval()
            if sharded:
                collect(loaded, model, device)
            if is_first():
                _check_changed(loaded, before, _first_logits(loaded, examples[0], template))
            yield trained
            return


def split_held_out(examples: Sequence[Example], k: int, seed: int) -> tuple[list[Example], list[Example]]:
    """A seeded split of an arm into what trains and the k examples that decide when to stop."""
    shuffled = list(examples)
    random.Random(seed).shuffle(shuffled)
    return shuffled[k:], shuffled[:k]


def watched_examples(examples: Sequence[Example], config: FinetuneConfig, seed: int) -> list[Example]:
    """Those of an arm's training examples that are watched: the first of a seeded order."""
    return split_held_out(examples, config.held_out_rows(len(examples)), seed)[0][:WATCHED]


def _halved(batches: MicroBatches, error: RuntimeError, remembered: Path, say: Callable[[str], None]) -> MicroBatches:
    """What to try next now that memory ran out; where the next training begins, also that of another command."""
    smaller = batches.halved()
    write_json(asdict(smaller), remembered)
    if processes() > 1:
        raise ModelError(
            f"Memory ran out with {batches} on each process.",
            expected=f"room for them; the next attempt takes {smaller}",
            try_next="the same command again, or torchrun --max-restarts 3, which does so by itself",
        ) from error
    say(f"memory ran out with {batches}; trying {smaller}")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return smaller


def _first_logits(loaded: LoadedModel, example: Example, template: Template) -> Any:
    ids = torch.tensor([loaded.tokenize(template.zero_shot(example))["input_ids"][-loaded.context :]])
    with torch.inference_mode():
        return loaded.model(input_ids=ids.to(loaded.device)).logits[:, -1].cpu()


def _check_changed(loaded: LoadedModel, before: Any, after: Any) -> None:
    """A finetuned model whose adapter is off would silently repeat the base model's numbers."""
    if bool((before == after).all()):
        raise ModelError(
            f"Finetuning left the outputs of {loaded.name} as they were.",
            expected="outputs that differ from the base model",
            try_next=f"a larger {setting('learning_rate')} or more {setting('epochs')}",
        )


@contextmanager
def trainable(loaded: LoadedModel, config: FinetuneConfig) -> Iterator[Any]:
    """Gives what Trainer trains: the model itself, or adapters in it; afterwards the model is the base again."""
    if config.method != "full":
        making = _adapters(loaded, config)
    elif is_sharded(loaded, config):
        making = _copy_of_all_weights(loaded)
    else:
        making = _all_weights(loaded)
    with making as model:
        try:
            yield model
        finally:
            if any(getattr(module, "gradient_checkpointing", False) for module in loaded.model.modules()):
                model_: Any = loaded.model  # older versions of transformers know another name only
                getattr(model_, "activation_checkpointing_disable", model_.gradient_checkpointing_disable)()
            loaded.model.eval()


def is_sharded(loaded: LoadedModel, config: FinetuneConfig) -> bool:
    """Whether the weights that train are shared out among GPUs (FSDP): all of them, and several processes to do so."""
    return config.method == "full" and processes() > 1 and loaded.device.type != "cpu"


@contextmanager
def _adapters(loaded: LoadedModel, config: FinetuneConfig) -> Iterator[Any]:
    """LoRA on all linear layers but the output head."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft still asks transformers by an older name
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # peft sets what GPT-2 needs by itself
        if config.method == "qlora":
            prepare_model_for_kbit_training(loaded.model, use_gradient_checkpointing=False)
        try:
            adapted: Any = get_peft_model(loaded.model, lora)
        except ValueError as error:  # peft knows layers that may have none, as in Mamba
            raise ModelError(
                f"{loaded.name!r} cannot be finetuned with adapters: {str(error).split('. ')[0]}.",
                expected="a model with linear layers on which peft puts adapters",
                try_next=setting("method", "full"),
            ) from error
    adapted.eval()  # as what is inside; new, it says that it trains, and training would not switch the layers over
    try:
        yield adapted
    finally:
        adapted.unload()
        # peft leaves its config on the base model, where it would be taken for an adapter that is still on.
        if hasattr(loaded.model, "peft_config"):
            del loaded.model.peft_config


@contextmanager
def _all_weights(loaded: LoadedModel) -> Iterator[Any]:
    """Every weight; a copy in main memory brings them back."""
    before = {name: weight.detach().to("cpu", copy=True) for name, weight in loaded.model.state_dict().items()}
    learned = {name: weight.requires_grad for name, weight in loaded.model.named_parameters()}
    loaded.model.requires_grad_(True)
    try:
        yield loaded.model
    finally:
        loaded.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            loaded.model.load_state_dict(before)
        for name, weight in loaded.model.named_parameters():
            weight.requires_grad_(learned[name])


@contextmanager
def _copy_of_all_weights(loaded: LoadedModel) -> Iterator[Any]:
    """A copy to be shared out among the GPUs; meanwhile the model waits in main memory."""
    model: Any = loaded.model  # transformers' types take `to` for a function without `self`
    device = loaded.device
    model.to("cpu")
    before = {name: weight.clone() for name, weight in model.state_dict().items()} if is_first() else {}
    training = copy.deepcopy(model)
    training.requires_grad_(True)
    try:
        yield training
    finally:
        if is_first():
            with torch.no_grad():
                model.load_state_dict(before)
        model.to(device)


def collect(loaded: LoadedModel, model: Any, device: Any) -> None:
    """Put together what a copy shared out among GPUs has learned, in the model of the first process, on its device."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    whole: Any = loaded.model
    if is_first():
        whole.load_state_dict(weights)
        whole.to(device)


def save_adapter(model: Any, folder: Path) -> None:
    """Save adapters as safetensors, with the config that `PeftModel.from_pretrained` reads."""
    for lora in model.peft_config.values():
        lora.target_modules = sorted(lora.target_modules)  # a set would be saved in another order every time
    with whole_folder(folder, replace=True) as temporary:
        model.save_pretrained(temporary)


def adapter_fingerprint(folder: Path) -> str | None:
    """A hash of the saved adapter's weights; None if there is none."""
    return file_fingerprint([folder / WEIGHTS]) if (folder / WEIGHTS).is_file() else None


@contextmanager
def reloaded(loaded: LoadedModel, config: FinetuneConfig, folder: Path) -> Iterator[Any]:
    """Inside the `with` the model answers as it did when the adapter was saved, afterwards it is the base again."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    with trainable(loaded, config) as model:
        set_peft_model_state_dict(model, load_file(folder / WEIGHTS))
        model.eval()
        yield model
