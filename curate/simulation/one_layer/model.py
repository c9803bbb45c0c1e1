"""The one-layer transformer of Section 4, exactly, several of one vocabulary side by side.

    f(s, r) = softmax(W_V X softmax(X^T W_KQ phi(r))),   X = [phi(s) phi(r)]

The embeddings phi are orthonormal and fixed: token i is the i-th unit vector, so phi(a)^T W phi(b) is W[a, b]. The
output head is the identity. W_V and W_KQ are all there is to learn.

Shapes throughout: M models, N facts a model, T tokens in the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class OneLayer:
    """M one-layer transformers."""

    values: Tensor  # W_V, (M, T, T): row for the token that is answered, column for the token that is read
    attention: Tensor  # W_KQ, (M, T, T): row for the token that is attended to, column for the last token


@dataclass(frozen=True)
class Triples:
    """N facts for each of M models, as tokens. (M, N) each"""

    subjects: Tensor
    relations: Tensor  # or the prompt tokens that stand for them
    answers: Tensor


def zero_weights(models: int, tokens: int, dtype: torch.dtype = torch.float64) -> OneLayer:
    """Weights that are all 0, where Theorem 4.6 starts."""
    # Columns are what training reads and writes, so they are what lies together in memory.
    return OneLayer(
        torch.zeros(models, tokens, tokens, dtype=dtype).mT, torch.zeros(models, tokens, tokens, dtype=dtype)
    )


def random_weights(
    models: int, tokens: int, std: float, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> OneLayer:
    """Normal weights with a standard deviation of `std`, which is 0.001 in Appendix C.1."""
    weights = zero_weights(models, tokens, dtype)
    weights.values.normal_(std=std, generator=generator)
    weights.attention.normal_(std=std, generator=generator)
    return weights


def repeated(model: OneLayer, models: int) -> OneLayer:
    """That many copies of a single model, to be trained apart. M must be 1."""
    # A clone of the transpose keeps columns together in memory.
    return OneLayer(
        model.values.mT.repeat(models, 1, 1).mT,
        model.attention.repeat(models, 1, 1),
    )


def columns(weights: Tensor, tokens: Tensor) -> Tensor:
    """The columns of a (M, T, T) matrix at some tokens: what each of them reads out. (M, N) -> (M, N, T)"""
    return weights.mT[_each_model(tokens), tokens]


def entries(weights: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """phi(row)^T W phi(column) for pairs of tokens. (M, N), (M, N) -> (M, N)"""
    return weights[_each_model(rows), rows, columns]


def subject_attention(model: OneLayer, subjects: Tensor, relations: Tensor) -> Tensor:
    """Att_s: how much the last token attends to the subject, in [0, 1]; the rest, Att_r, goes to itself. (M, N)"""
    return torch.sigmoid(log_odds(model, subjects, relations))


def log_odds(model: OneLayer, subjects: Tensor, relations: Tensor) -> Tensor:
    """c = log(Att_s / Att_r) = phi(s)^T W_KQ phi(r) - phi(r)^T W_KQ phi(r). (M, N)"""
    return entries(model.attention, subjects, relations) - entries(model.attention, relations, relations)


def logits(model: OneLayer, subjects: Tensor, relations: Tensor) -> Tensor:
    """Of every token as the answer: Att_s W_V phi(s) + Att_r W_V phi(r). (M, N) -> (M, N, T)"""
    attended = subject_attention(model, subjects, relations).unsqueeze(-1)
    return torch.lerp(columns(model.values, relations), columns(model.values, subjects), attended)


def probabilities(model: OneLayer, subjects: Tensor, relations: Tensor) -> Tensor:
    """f(s, r). (M, N) -> (M, N, T)"""
    return torch.softmax(logits(model, subjects, relations), dim=-1)


def is_right(model: OneLayer, facts: Triples) -> Tensor:
    """Whether the answer is more likely than every other token of the vocabulary; a tie is wrong. (M, N), boolean"""
    scores = logits(model, facts.subjects, facts.relations)
    right = scores.gather(-1, facts.answers.unsqueeze(-1))
    return (scores >= right).sum(dim=-1) == 1


def is_right_among(model: OneLayer, facts: Triples, rivals: Tensor) -> Tensor:
    """Whether the answer is more likely than the other rivals, (M, N, K), the answers of its relation. (M, N)"""
    scores = logits(model, facts.subjects, facts.relations)
    right = scores.gather(-1, facts.answers.unsqueeze(-1))
    return (scores.gather(-1, rivals) >= right).sum(dim=-1) == 1


def loss(model: OneLayer, facts: Triples) -> Tensor:
    """-log f(s, r)_a of each fact. (M, N)"""
    logs = torch.log_softmax(logits(model, facts.subjects, facts.relations), dim=-1)
    return -logs.gather(-1, facts.answers.unsqueeze(-1)).squeeze(-1)


def _each_model(tokens: Tensor) -> Tensor:
    return torch.arange(len(tokens)).unsqueeze(-1)
