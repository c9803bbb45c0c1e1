"""Finetuning on questions `(s, p_r, a)`: all arms side by side, each stopped at its best step on validation facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.simulation.facts import Facts, Partition
from curate.simulation.synthetic_settings import SyntheticSettings
from curate.simulation.train import is_right, make_optimizer, train_step
from curate.simulation.transformer import Transformers

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKS = 10
"""How often accuracy on the validation facts is looked at."""


@dataclass(frozen=True)
class FinetunedArm:
    """What a finetuned model answers right at its best step, and at the last. (evaluation subjects, relations) each"""

    name: str
    step: int
    right: NDArray[np.bool_]
    right_at_last: NDArray[np.bool_]


def finetune(
    pretrained: Transformers,
    facts: Facts,
    parts: Partition,
    arms: Mapping[str, NDArray[np.int64]],
    settings: SyntheticSettings,
    rng: np.random.Generator,
) -> Iterator[FinetunedArm]:
    """Finetune a copy of the model on every arm: same number of steps, batches drawn from the arm's own facts.

    Every `finetuning_steps / CHECKS` steps accuracy on the validation subjects is taken; an arm is tested as it was
    at its best. The validation subjects are drawn like the test subjects and are the same for all arms.
    """
    models = pretrained.repeated(len(arms))
    optimizer = make_optimizer(models, settings.finetuning_learning_rate)
    pools = [facts.every_relation_of(subjects) for subjects in arms.values()]
    every = max(1, settings.finetuning_steps // CHECKS)
    best = {name: weight.clone() for name, weight in models.state_dict().items()}
    best_accuracy = np.full(len(arms), -1.0)
    best_step = np.zeros(len(arms), dtype=int)
    for step in range(1, settings.finetuning_steps + 1):
        drawn = [rng.integers(len(pool[0]), size=settings.finetuning_batch_size) for pool in pools]
        subjects = np.stack([pool[0][rows] for pool, rows in zip(pools, drawn, strict=True)])
        relations = np.stack([pool[1][rows] for pool, rows in zip(pools, drawn, strict=True)])
        train_step(models, optimizer, facts.questions(subjects, relations), facts.answers[subjects, relations])
        if step % every == 0:
            accuracy = answered(models, facts, parts.validation).mean(axis=(1, 2))
            better = accuracy > best_accuracy
            best_accuracy[better], best_step[better] = accuracy[better], step
            for name, weight in models.state_dict().items():
                best[name][better] = weight[better]
    right_at_last = answered(models, facts, parts.evaluation)
    models.load_state_dict(best)
    right = answered(models, facts, parts.evaluation)
    for position, name in enumerate(arms):
        yield FinetunedArm(name, int(best_step[position]), right[position], right_at_last[position])


def answered(models: Transformers, facts: Facts, subjects: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which questions about the subjects every model answers right. -> (M, subjects, relations)"""
    s, r = facts.every_relation_of(subjects)
    right = is_right(models, facts.questions(s, r), facts.answers[s, r])
    return right.reshape(-1, len(subjects), facts.relations)
