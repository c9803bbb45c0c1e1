"""Where Trainer's loggers write: a run of its own for every finetuning, apart from its checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TENSORBOARD = "TENSORBOARD_LOGGING_DIR"


@contextmanager
def logging_to(report_to: str, logs: Path | None) -> Iterator[None]:
    """While it lasts TensorBoard writes to `logs`; afterwards the run of W&B is over, so that the next has its own."""
    before = os.environ.get(TENSORBOARD)
    if report_to == "tensorboard" and logs is not None:
        os.environ[TENSORBOARD] = str(logs)
    try:
        yield
    finally:
        os.environ.pop(TENSORBOARD, None)
        if before is not None:
            os.environ[TENSORBOARD] = before
        if report_to == "wandb" and "wandb" in sys.modules:
            sys.modules["wandb"].finish()


def run_name(logs: Path | None) -> str | None:
    """`top/seed-0` for a folder that ends in it."""
    return None if logs is None else "/".join(logs.parts[-2:])
