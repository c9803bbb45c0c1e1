"""The one-layer transformer of Section 4, exactly: M models of one vocabulary side by side, and plain SGD on them.

    f(s, r) = softmax(W_V X softmax(X^T W_KQ phi(r))),   X = [phi(s) phi(r)]

The embeddings phi are orthonormal and fixed: token i is the i-th unit vector, so phi(a)^T W phi(b) is W[a, b]. The
output head is the identity. W_V and W_KQ are all there is to learn. Tokens are the input tokens of `Facts`, then the
answers.

Shapes throughout: M models, N facts a model, T tokens in the vocabulary, K answers of a relation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.simulation.world import Facts


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

    def at(self, positions: slice) -> Triples:
        """Some of the facts. -> (M, n)"""
        return Triples(self.subjects[:, positions], self.relations[:, positions], self.answers[:, positions])


def vocabulary(facts: Facts) -> int:
    """T, the number of tokens: input tokens and answers."""
    return facts.tokens + facts.n_answers


def statements(facts: Facts, subjects: NDArray[np.int64] | None = None) -> Triples:
    """`(s, r, a)` for every relation of the subjects (or all), subject by subject, for one model. -> (1, N)"""
    about, relations = facts.every_relation_of(subjects)
    return pairs(facts, facts.statements(about, relations), facts.answers[about, relations])


def questions(facts: Facts, subjects: NDArray[np.int64] | None = None) -> Triples:
    """`(s, p_r, a)` for every relation of the subjects (or all), subject by subject, for one model. -> (1, N)"""
    about, relations = facts.every_relation_of(subjects)
    return pairs(facts, facts.questions(about, relations), facts.answers[about, relations])


def pairs(facts: Facts, inputs: NDArray[np.int64], answers: NDArray[np.int64]) -> Triples:
    """Facts given as inputs (N, 2) and answers (N,) counted from 0, for one model. -> (1, N)"""
    tokens = torch.from_numpy(inputs).unsqueeze(0)
    return Triples(tokens[..., 0], tokens[..., 1], torch.from_numpy(answers + facts.tokens).unsqueeze(0))


def side_by_side(parts: Sequence[Triples]) -> Triples:
    """Facts of as many for every model, for the models side by side. (1, N) each -> (M, N)"""
    tokens = ([part.subjects, part.relations, part.answers] for part in parts)
    return Triples(*(torch.cat(each) for each in zip(*tokens, strict=True)))


def rivals(facts: Facts, answers: Tensor) -> Tensor:
    """A^r: all answers of the relation that each answer belongs to. (M, N) -> (M, N, K)"""
    each = facts.n_answers // facts.relations
    first = facts.tokens + (answers - facts.tokens) // each * each
    return first.unsqueeze(-1) + torch.arange(each)


def zero_weights(models: int, tokens: int, dtype: torch.dtype = torch.float64) -> OneLayer:
    """Weights that are all 0, where Theorem 4.6 starts."""
    # Columns are what training reads and writes, so they are what lies together in memory.
    values, attention = torch.zeros(2, models, tokens, tokens, dtype=dtype)
    return OneLayer(values.mT, attention)


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
    return OneLayer(model.values.mT.repeat(models, 1, 1).mT, model.attention.repeat(models, 1, 1))


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


def is_right(model: OneLayer, facts: Triples, among: Tensor | None = None) -> Tensor:
    """Whether the answer is more likely than every other token, or than the others `among` (M, N, K). (M, N), boolean

    A tie is wrong.
    """
    scores = logits(model, facts.subjects, facts.relations)
    right = scores.gather(-1, facts.answers.unsqueeze(-1))
    return ((scores if among is None else scores.gather(-1, among)) >= right).sum(dim=-1) == 1


def loss(model: OneLayer, facts: Triples) -> Tensor:
    """-log f(s, r)_a of each fact. (M, N)"""
    logs = torch.log_softmax(logits(model, facts.subjects, facts.relations), dim=-1)
    return -logs.gather(-1, facts.answers.unsqueeze(-1)).squeeze(-1)


def salience(model: OneLayer, facts: Triples) -> Tensor:
    """S(s, r, a) = phi(a)^T W_V phi(s): how strongly the subject alone speaks for the answer (Definition 4.1)."""
    return entries(model.values, facts.answers, facts.subjects)


def error(model: OneLayer, facts: Triples) -> Tensor:
    """phi(a) - f(s, r): the descent direction of the loss in the logits. (M, N, T)"""
    wrong = -probabilities(model, facts.subjects, facts.relations)
    answers = facts.answers.unsqueeze(-1)
    return wrong.scatter(-1, answers, wrong.gather(-1, answers) + 1)


def subject_relevance(model: OneLayer, facts: Triples) -> Tensor:
    """s_rel = (phi(a) - f(s, p_r))^T W_V phi(s): how much reading the subject would help (Definition 4.3)."""
    return (error(model, facts) * columns(model.values, facts.subjects)).sum(dim=-1)


def prompt_relevance(model: OneLayer, facts: Triples) -> Tensor:
    """p_rel = (phi(a) - f(s, p_r))^T W_V phi(p_r): how much reading the prompt token would help (Definition 4.4)."""
    return (error(model, facts) * columns(model.values, facts.relations)).sum(dim=-1)


def attention_push(model: OneLayer, facts: Triples) -> Tensor:
    """Att_s Att_r (s_rel - p_rel): the size and sign of a gradient step on W_KQ.

    For one fact, -dL/dW_KQ is this number times phi(s) phi(r)^T - phi(r) phi(r)^T (Section 4).
    """
    attended = subject_attention(model, facts.subjects, facts.relations)
    relevance = subject_relevance(model, facts) - prompt_relevance(model, facts)
    return attended * (1 - attended) * relevance


def _each_model(tokens: Tensor) -> Tensor:
    return torch.arange(len(tokens)).unsqueeze(-1)


def sgd_step(model: OneLayer, facts: Triples, rate: float) -> None:
    """One step, in place, on the mean loss of each model's own facts.

    -dL/dW_V  is (phi(a) - f)(Att_s phi(s) + Att_r phi(r))^T,
    -dL/dW_KQ is Att_s Att_r (s_rel - p_rel)(phi(s) phi(r)^T - phi(r) phi(r)^T), each summed over facts.
    """
    step = rate / facts.answers.shape[1]
    wrong = error(model, facts)
    attended = subject_attention(model, facts.subjects, facts.relations)
    by_subject, by_relation = columns(model.values, facts.subjects), columns(model.values, facts.relations)
    push = attended * (1 - attended) * (wrong * (by_subject - by_relation)).sum(dim=-1)

    _add_to_columns(model.values, facts.subjects, step * attended.unsqueeze(-1) * wrong)
    _add_to_columns(model.values, facts.relations, step * (1 - attended).unsqueeze(-1) * wrong)
    models = torch.arange(len(push)).unsqueeze(-1)
    model.attention.index_put_((models, facts.subjects, facts.relations), step * push, accumulate=True)
    model.attention.index_put_((models, facts.relations, facts.relations), -step * push, accumulate=True)


def one_epoch(model: OneLayer, facts: Triples, rate: float) -> None:
    """Every fact once, in order, one at a time, in place: the training of Theorem 4.6."""
    for position in range(facts.answers.shape[1]):
        sgd_step(model, facts.at(slice(position, position + 1)), rate)


def _add_to_columns(weights: Tensor, tokens: Tensor, amounts: Tensor) -> None:
    """Add (M, N, T) to the columns of (M, T, T) at tokens (M, N); tokens may repeat."""
    models, size = len(tokens), weights.shape[-1]
    rows = weights.mT.view(models * size, size)
    offsets = size * torch.arange(models).unsqueeze(-1)
    rows.index_add_(0, (tokens + offsets).flatten(), amounts.flatten(0, 1))
