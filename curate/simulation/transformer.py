"""A small causal transformer, several of one shape side by side so that they train as one batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LENGTH = 2  # a subject and a relation; the answer is predicted at the second
EMBEDDING_STD = 0.02


@dataclass(frozen=True)
class Shape:
    """The sizes of one transformer."""

    tokens: int
    answers: int
    width: int
    layers: int
    heads: int


class Transformers(nn.Module):
    """M transformers of one shape: pre-norm, no biases; every parameter has a first dimension of M.

    The output head covers the answer tokens, the only ones a loss is ever taken on.
    """

    def __init__(self, shape: Shape, models: int, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        self.count = models
        self.embedding = _weight(models, shape.tokens, shape.width, EMBEDDING_STD, generator)
        self.position = _weight(models, LENGTH, shape.width, EMBEDDING_STD, generator)
        self.blocks = nn.ModuleList(Block(shape, models, generator) for _ in range(shape.layers))
        self.head = _weight(models, shape.width, shape.answers, shape.width**-0.5, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of the answer at the last position. (M, B, 2) -> (M, B, answers)"""
        offsets = self.shape.tokens * torch.arange(self.count).view(-1, 1, 1)
        x = F.embedding(inputs + offsets, self.embedding.flatten(0, 1)) + self.position[:, None]
        for number, block in enumerate(self.blocks, start=1):
            # What follows the last block reads the last position only.
            x = block(x, kept=1 if number == len(self.blocks) else LENGTH)
        return torch.bmm(_norm(x[:, :, -1]), self.head)

    def repeated(self, models: int) -> Transformers:
        """That many copies of a single transformer (M = 1), to be trained apart."""
        copies = Transformers(self.shape, models, torch.Generator())
        copies.load_state_dict({name: w.expand(models, *w.shape[1:]) for name, w in self.state_dict().items()})
        return copies


class Block(nn.Module):
    """Attention, then a GELU network four times as wide."""

    def __init__(self, shape: Shape, models: int, generator: torch.Generator) -> None:
        super().__init__()
        d = shape.width
        self.heads = shape.heads
        self.query = _weight(models, d, d, d**-0.5, generator)
        self.key = _weight(models, d, d, d**-0.5, generator)
        self.value = _weight(models, d, d, d**-0.5, generator)
        self.out = _weight(models, d, d, d**-0.5, generator)
        self.up = _weight(models, d, 4 * d, d**-0.5, generator)
        self.down = _weight(models, 4 * d, d, (4 * d) ** -0.5, generator)

    def forward(self, x: Tensor, kept: int) -> Tensor:
        """The last `kept` positions after attending to those up to them. (M, B, T, d) -> (M, B, kept, d)"""
        y = _norm(x)
        query, key, value = (
            self._project(y[:, :, -kept:], self.query),
            self._project(y, self.key),
            self._project(y, self.value),
        )
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=kept > 1)
        x = x[:, :, -kept:]
        x = x + torch.bmm(attended.transpose(1, 2).reshape(x.flatten(1, 2).shape), self.out).view_as(x)
        hidden = F.gelu(torch.bmm(_norm(x).flatten(1, 2), self.up))
        return x + torch.bmm(hidden, self.down).view_as(x)

    def _project(self, x: Tensor, weight: Tensor) -> Tensor:
        """A projection split into heads. (M, B, t, d) -> (M·B, heads, t, d / heads)"""
        models, batch, length, d = x.shape
        y = torch.bmm(x.flatten(1, 2), weight).view(models * batch, length, self.heads, d // self.heads)
        return y.transpose(1, 2)


def _weight(models: int, rows: int, columns: int, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(models, rows, columns, generator=generator) * std)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
