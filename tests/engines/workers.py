"""Workers without a model: the result of a row is the row as a number; some rows kill them or make them fail."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.errors import ModelError

Work = Callable[[Sequence[int]], Iterator[float]]


def slow(trouble: Sequence[Any], seconds: float, device: str) -> tuple[Any, Work]:
    """`trouble`: rows that end the process; "no model", "never" or "other", for workers that cannot be made."""
    if "no model" in trouble:
        raise ModelError("There is no model.", expected="a model")
    if "never" in trouble:
        os._exit(1)

    def work(rows: Sequence[int]) -> Iterator[float]:
        time.sleep(seconds)
        if set(trouble) & set(rows):
            os._exit(1)
        return map(float, rows)

    return {"estimator": "slow", "number": os.getpid() if "other" in trouble else 0}, work


def fails(device: str) -> tuple[None, Callable[[Sequence[int]], list[str]]]:
    """A worker that says on which device it is, and fails with what has no result."""

    def work(rows: Sequence[int]) -> list[str]:
        print("something that a library says")
        return [f"{n // n} on {device}" for n in rows]

    return None, work


def dies_once(mark: Path, device: str) -> tuple[None, Work]:
    """A worker that is killed over its first rows, and never again."""

    def work(rows: Sequence[int]) -> Iterator[float]:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return map(float, rows)

    return None, work


def tells(folder: Path, seconds: float, device: str) -> tuple[None, Work]:
    """A worker that leaves a file named by its process when it begins to work."""

    def work(rows: Sequence[int]) -> Iterator[float]:
        (folder / str(os.getpid())).touch()
        time.sleep(seconds)
        return map(float, rows)

    return None, work
