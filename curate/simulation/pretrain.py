"""Pretraining on statements `(s, r, a)`, drawn i.i.d. at every step, and what of them the model then knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from curate.simulation.facts import Facts, draw_statements
from curate.simulation.synthetic_settings import SyntheticSettings
from curate.simulation.train import is_right, make_optimizer, train_step
from curate.simulation.transformer import Shape, Transformers

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pretrain(facts: Facts, settings: SyntheticSettings, rng: np.random.Generator) -> Iterator[tuple[int, Transformers]]:
    """The model after each number of `settings.steps`, fewest first.

    The learning rate is constant, so what is given is the same as if pretraining had ended there.
    """
    shape = Shape(facts.tokens, facts.n_answers, settings.width, settings.layers, settings.heads)
    model = Transformers(shape, 1, torch.Generator().manual_seed(int(rng.integers(2**63))))
    optimizer = make_optimizer(model, settings.learning_rate)
    for step in range(1, max(settings.steps) + 1):
        subjects, relations, answers = draw_statements(facts, settings.batch_size, rng)
        train_step(model, optimizer, facts.statements(subjects, relations)[None], answers[None])
        if step in settings.steps:
            yield step, model


def memorised(model: Transformers, facts: Facts) -> NDArray[np.bool_]:
    """Which facts the model completes in pretraining form. -> (subjects, relations)"""
    subjects, relations = facts.every_relation_of(np.arange(facts.subjects))
    right = is_right(model, facts.statements(subjects, relations), facts.answers[subjects, relations])
    return right[0].reshape(facts.answers.shape)
