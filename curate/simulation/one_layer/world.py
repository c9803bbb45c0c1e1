"""Synthetic facts as the one-layer transformer's tokens: subjects, relations and prompts, then the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from curate.simulation.facts import Facts
from curate.simulation.one_layer.model import Triples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def vocabulary(facts: Facts) -> int:
    """T, the number of tokens: input tokens and answers."""
    return facts.tokens + facts.n_answers


def statements(facts: Facts, subjects: NDArray[np.int64]) -> Triples:
    """`(s, r, a)` for every relation of the subjects, subject by subject, for one model. -> (1, N)"""
    about, relations = facts.every_relation_of(subjects)
    return pairs(facts, facts.statements(about, relations), facts.answers[about, relations])


def questions(facts: Facts, subjects: NDArray[np.int64]) -> Triples:
    """`(s, p_r, a)` for every relation of the subjects, subject by subject, for one model. -> (1, N)"""
    about, relations = facts.every_relation_of(subjects)
    return pairs(facts, facts.questions(about, relations), facts.answers[about, relations])


def pairs(facts: Facts, inputs: NDArray[np.int64], answers: NDArray[np.int64]) -> Triples:
    """Facts given as inputs (N, 2) and answers (N,) counted from 0, for one model. -> (1, N)"""
    tokens = torch.from_numpy(inputs).unsqueeze(0)
    return Triples(tokens[..., 0], tokens[..., 1], torch.from_numpy(answers + facts.tokens).unsqueeze(0))


def side_by_side(parts: Sequence[Triples]) -> Triples:
    """Facts of as many for every model, for the models side by side. (1, N) each -> (M, N)"""
    return Triples(
        torch.cat([part.subjects for part in parts]),
        torch.cat([part.relations for part in parts]),
        torch.cat([part.answers for part in parts]),
    )


def rivals(facts: Facts, answers: Tensor) -> Tensor:
    """A^r: all answers of the relation that each answer belongs to. (M, N) -> (M, N, K)"""
    each = facts.n_answers // facts.relations
    first = facts.tokens + (answers - facts.tokens) // each * each
    return first.unsqueeze(-1) + torch.arange(each)
