"""Training the small transformers: steps of AdamW on batches of (input, answer), and what they answer right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from curate.simulation.transformer import Transformers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEST_BATCH = 4096


def make_optimizer(models: Transformers, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW without weight decay, so that tokens that do not occur stay as they were."""
    return torch.optim.AdamW(models.parameters(), lr=learning_rate, weight_decay=0.0, fused=True)


def train_step(
    models: Transformers, optimizer: torch.optim.Optimizer, inputs: NDArray[np.int64], answers: NDArray[np.int64]
) -> None:
    """One step of every model on a batch of its own; the loss is on the answer only. (M, B, 2), (M, B)"""
    targets = torch.from_numpy(answers)
    # Summed over models, so that each gets the gradient of its own mean loss.
    loss = F.cross_entropy(models(torch.from_numpy(inputs)).flatten(0, 1), targets.flatten(), reduction="sum")
    optimizer.zero_grad()
    (loss / targets.shape[1]).backward()
    optimizer.step()


@torch.no_grad()
def is_right(models: Transformers, inputs: NDArray[np.int64], answers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the most likely answer is the right one; every model gets the same inputs. (N, 2), (N,) -> (M, N)"""
    batches = zip(torch.from_numpy(inputs).split(TEST_BATCH), torch.from_numpy(answers).split(TEST_BATCH), strict=True)
    right = [models(batch.expand(models.count, -1, -1)).argmax(-1) == answer for batch, answer in batches]
    return torch.cat(right, dim=1).numpy()
