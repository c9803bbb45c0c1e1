"""Adapters added to the weights for a while: each layer is then one product instead of three."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curate.lm.load import LoadedModel

MOST_WEIGHTS = 1_000_000_000
"""A model with more weights stays as it is: a second copy of them might not fit in memory."""


@contextmanager
def folded(loaded: LoadedModel) -> Iterator[None]:
    """While it lasts, LoRA adapters in the model are part of its weights; afterwards every bit is as before.

    Only in float32, where what is added is not rounded away, and only of a model that is small enough for a copy.
    """
    layers = _adapted_layers(loaded)
    if not layers or str(loaded.model.dtype) != "torch.float32" or loaded.model.num_parameters() > MOST_WEIGHTS:
        yield
        return
    # Taking the adapters out again would leave rounding errors, and the next arm would start from another model.
    before = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    try:
        for layer in layers:
            layer.merge()
        yield
    finally:
        for layer, weight in zip(layers, before, strict=True):
            if layer.merged:
                layer.unmerge()
            layer.get_base_layer().weight.data.copy_(weight)


def _adapted_layers(loaded: LoadedModel) -> list[Any]:
    if not hasattr(loaded.model, "peft_config"):
        return []
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [
        module for module in loaded.model.modules() if isinstance(module, LoraLayer) and not module.merged
    ]
    # Weights of 4 bits (QLoRA) would be rounded anew.
    return layers if all(layer.get_base_layer().weight.is_floating_point() for layer in layers) else []
