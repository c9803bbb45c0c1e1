"""Several processes (torchrun, accelerate launch): all of them train, the first one does everything else."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from curate.errors import SettingError

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long processes wait for the first one while it evaluates; a process that fails ends the others at once."""


def processes() -> int:
    """How many processes run this command together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that evaluates and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def join(device: str) -> None:
    """Wait for the other processes of this command, each of which gets a GPU of its own if there are GPUs.

    SettingError when that cannot be, as for one of several GPUs by its number: Trainer takes the first it sees.
    """
    if device.startswith("cuda:") and device != "cuda:0":
        raise SettingError(
            f"Finetuning cannot be put on the device {device!r}.",
            expected="auto, cpu, cuda or mps",
            try_next=f"CUDA_VISIBLE_DEVICES={device.removeprefix('cuda:')} before the command, and no --device",
        )
    if processes() == 1:
        return
    import torch

    on_gpus = device != "cpu" and torch.cuda.is_available()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes()))
    if on_gpus and here > torch.cuda.device_count():
        raise SettingError(
            f"{here} processes cannot run on the device {device!r} and {torch.cuda.device_count()} GPUs.",
            expected="a GPU for each process, or --device cpu",
            try_next="--nproc-per-node (or --num_processes) with the number of GPUs, and no --device",
        )
    if on_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=PATIENCE)


def leave() -> None:
    """Part from the other processes, all of them being done."""
    if processes() > 1:
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def by_first(work: Callable[[], T]) -> T:
    """The result of `work`, done by the first process and handed to the others, which wait for it.

    An error in it is raised by the first process; the others end without a word of their own. All part before that:
    threads that still listen to a process that has ended abort this one.
    """
    if processes() == 1:
        return work()
    import torch

    outcome: list[Any] = [None]
    try:
        if is_first():
            outcome = [(work(),)]
    finally:
        torch.distributed.broadcast_object_list(outcome, src=0)
        if outcome[0] is None:
            leave()
    if outcome[0] is None:
        raise SystemExit(1)
    return outcome[0][0]
