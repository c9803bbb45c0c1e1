"""Several processes (torchrun, accelerate launch): all of them train, the first one does everything else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def processes() -> int:
    """How many processes run this command together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that evaluates and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def by_first(work: Callable[[], T]) -> T:
    """The result of `work`, done by the first process and handed to the others, which wait for it."""
    if processes() == 1:
        return work()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState()  # joins the processes, if they are not yet
    return broadcast_object_list([work() if is_first() else None])[0]
