"""Adapters that a finished arm left in the run's folder: told by their content, and put back into the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curate.datasets.sources import file_fingerprint
from curate.lm.load import LoadedModel
from curate.validation.config import FinetuneConfig
from curate.validation.methods import trainable

WEIGHTS = "adapter_model.safetensors"


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
