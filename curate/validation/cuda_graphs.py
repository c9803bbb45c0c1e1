"""Training steps on a GPU, recorded once for each shape of batch and launched as one.

A step over short questions is thousands of small kernels: launching them one by one from Python takes several times as
long as the GPU needs for them. A CUDA graph launches a recorded step at once. It repeats the very kernels on the very
memory of the recording, so a batch is copied into the recorded one's place, its shape is rounded up so that few shapes
come (`collate`), and gradients stay where they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch

Inputs = dict[str, torch.Tensor]
Shape = tuple[torch.Size, ...]
Step = Callable[[Inputs], torch.Tensor]
"""Adds the gradients of a batch to the parameters' and gives its loss, ()."""
Record = Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], None], torch.Tensor]]
"""From a step over fixed memory: what repeats it, and where its loss is found."""

MOST_GRAPHS = 32
"""Shapes that are recorded at most."""
APART = 0.02
"""How far gradients of a recorded step may be from those of the same step as it is, relative: bfloat16 rounds."""


class RecordedSteps:
    """Does what `step` does. A shape of batch is computed as it is the first time, and recorded the second.

    Where that fails (a model that asks the GPU for a number to decide what comes next, no memory for it), or where what
    is recorded gives other gradients for that batch, every batch is computed as it is from then on.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], step: Step, record: Record | None = None) -> None:
        self.step = step
        self.record = record or on_cuda()
        self.most = MOST_GRAPHS
        self.seen: set[Shape] = set()
        self.recorded: dict[Shape, tuple[Inputs, Callable[[], None], torch.Tensor]] = {}
        by_type: dict[torch.dtype, list[torch.Tensor]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                by_type.setdefault(parameter.dtype, []).append(parameter)
        # One block of memory for all gradients of a type, so that they are set to zero at once.
        self.blocks = [group[0].new_zeros(sum(p.numel() for p in group)) for group in by_type.values()]
        self.gradients = [
            (parameter, part.view_as(parameter))
            for block, group in zip(self.blocks, by_type.values(), strict=True)
            for parameter, part in zip(group, block.split([p.numel() for p in group]), strict=True)
        ]

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """The loss of a batch, (); its gradients are added to the parameters'."""
        first, of_first = self.gradients[0]
        if first.grad is not of_first:  # Trainer takes them away after every step
            for block in self.blocks:
                block.zero_()
            for parameter, gradient in self.gradients:
                parameter.grad = gradient
        shape = tuple(tensor.shape for tensor in inputs.values())
        if shape in self.recorded:
            return self._repeated(shape, inputs)
        if shape in self.seen and len(self.recorded) < self.most:
            return self._record(shape, inputs)
        self.seen.add(shape)
        return self.step(inputs)

    def _repeated(self, shape: Shape, inputs: Inputs) -> torch.Tensor:
        batch, repeat, loss = self.recorded[shape]
        for name, tensor in inputs.items():
            batch[name].copy_(tensor, non_blocking=True)
        repeat()
        return loss.clone()  # the next step writes over it

    def _record(self, shape: Shape, inputs: Inputs) -> torch.Tensor:
        """Computes a batch as it is and records it; the gradients of both must agree."""
        before = [block.clone() for block in self.blocks]
        loss = self.step(inputs)
        right = [block.clone() for block in self.blocks]
        for block, start in zip(self.blocks, before, strict=True):
            block.copy_(start)
        batch = {name: tensor.clone() for name, tensor in inputs.items()}
        try:
            self.recorded[shape] = (batch, *self.record(lambda: self.step(batch)))
            self._repeated(shape, inputs)
            pairs = zip(self.blocks, right, strict=True)
            if not all((block - own).norm() <= APART * own.norm() for block, own in pairs):
                raise RuntimeError("what is recorded gives other gradients")
        except RuntimeError as error:
            self.most = 0
            self.recorded.clear()
            logging.getLogger(__name__).warning("training steps are not recorded: %s", str(error).split("\n")[0])
        for block, own in zip(self.blocks, right, strict=True):
            block.copy_(own)
        return loss


def on_cuda() -> Record:
    """Records CUDA graphs, which share the memory of their intermediate results."""
    pool = torch.cuda.graph_pool_handle()

    def record(step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        # The thread that pins the memory of the next batches may go on meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            loss = step()
        return graph.replay, loss

    return record
