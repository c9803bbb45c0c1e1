"""Where Trainer's loggers write: a run of its own for every finetuning, apart from its checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.errors import SettingError

TENSORBOARD = "TENSORBOARD_LOGGING_DIR"


def check_logger(report_to: str) -> None:
    """SettingError now, before anything is trained, for a logger that Trainer does not know or that is not here."""
    if report_to == "none":
        return
    from transformers.integrations import get_available_reporting_integrations

    there = get_available_reporting_integrations()
    if report_to not in there:
        raise SettingError(
            f"There is no logger {report_to!r} here.",
            expected=f"--report-to with one of: {', '.join(['none', *there])}",
            try_next=f"pip install {report_to}, if it is one that Trainer knows: tensorboard, wandb, trackio",
        )


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
