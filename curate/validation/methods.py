"""What is trained of a model, LoRA adapters or all its weights, and how it becomes the base again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curate.datasets.write import whole_folder
from curate.lm.load import LoadedModel
from curate.validation.config import FinetuneConfig
from curate.validation.processes import is_first, processes


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
            if loaded.model.is_activation_checkpointing:
                loaded.model.activation_checkpointing_disable()
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
        adapted: Any = get_peft_model(loaded.model, lora)
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
    import torch

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
    import torch

    device, model = loaded.device, _untyped(loaded.model)
    model.to("cpu")
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()} if is_first() else {}
    training = copy.deepcopy(loaded.model)
    training.requires_grad_(True)
    try:
        yield training
    finally:
        if is_first():
            with torch.no_grad():
                model.load_state_dict(before)
        model.to(device)


def _untyped(model: Any) -> Any:
    """For `to`, which transformers' types take for a function without `self`."""
    return model


def collect(loaded: LoadedModel, model: Any, device: Any) -> None:
    """Put together what a copy shared out among GPUs has learned, in the model of the first process, on its device."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if is_first():
        _untyped(loaded.model).load_state_dict(weights)
        _untyped(loaded.model).to(device)


def save_adapter(model: Any, folder: Path) -> None:
    """Save adapters as safetensors, with the config that `PeftModel.from_pretrained` reads."""
    for lora in model.peft_config.values():
        lora.target_modules = sorted(lora.target_modules)  # a set would be saved in another order every time
    with whole_folder(folder, replace=True) as temporary:
        model.save_pretrained(temporary)
