"""Plain SGD on the one-layer transformer, with the gradient written out."""

from __future__ import annotations

import torch
from torch import Tensor

from curate.simulation.one_layer.model import OneLayer, Triples, columns, subject_attention
from curate.simulation.one_layer.salience import error


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
        one = slice(position, position + 1)
        fact = Triples(facts.subjects[:, one], facts.relations[:, one], facts.answers[:, one])
        sgd_step(model, fact, rate)


def _add_to_columns(weights: Tensor, tokens: Tensor, amounts: Tensor) -> None:
    """Add (M, N, T) to the columns of (M, T, T) at tokens (M, N); tokens may repeat."""
    models, size = len(tokens), weights.shape[-1]
    rows = weights.mT.view(models * size, size)
    offsets = size * torch.arange(models).unsqueeze(-1)
    rows.index_add_(0, (tokens + offsets).flatten(), amounts.flatten(0, 1))
