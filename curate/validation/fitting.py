"""Training within the memory there is: smaller parts of the same batch, and less kept of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from curate.errors import ModelError


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a batch goes through the model: in `accumulation` parts of `micro_batch` examples on each process.

    With `checkpointing` activations are computed again instead of kept.
    """

    micro_batch: int
    accumulation: int = 1
    checkpointing: bool = False

    def smaller(self) -> Fitting:
        """The next thing to try when memory ran out; the batch stays what it is. ModelError when nothing is left."""
        if not self.checkpointing:
            return replace(self, checkpointing=True)
        parts = next((n for n in range(2, self.micro_batch + 1) if self.micro_batch % n == 0), None)
        if parts is None:
            raise ModelError(
                "One example alone does not fit in memory while this model is finetuned.",
                expected="memory for the model, its adapters and one example",
                try_next="--method qlora, --dtype bfloat16, a smaller --lora-rank, or another --device",
            )
        return replace(self, micro_batch=self.micro_batch // parts, accumulation=self.accumulation * parts)

    def __str__(self) -> str:
        parts = f"{self.accumulation} × {self.micro_batch} examples a step"
        return f"{parts}, activations computed again" if self.checkpointing else parts


def first_fitting(batch_size: int, processes: int = 1) -> Fitting:
    """The whole batch at once, shared among the processes."""
    if batch_size % processes:
        raise ModelError(
            f"A batch of {batch_size} cannot be shared equally by {processes} processes.",
            try_next=f"--batch-size {processes * max(1, batch_size // processes)}",
        )
    return Fitting(batch_size // processes)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch means that memory ran out."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
