"""One pretraining, and all that is finetuned from it: the variants of settings that share a pretrained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.simulation.experiment import Row, Tables
from curate.simulation.facts import Facts, make_arms, make_facts, partition
from curate.simulation.finetune import finetune
from curate.simulation.pretrain import memorised, pretrain
from curate.simulation.synthetic_settings import SyntheticSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP_PERCENTS = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


@dataclass(frozen=True)
class Variant:
    """Settings, and the columns that tell their rows from those of other variants."""

    settings: SyntheticSettings
    columns: Mapping[str, Any]


def run_variants(variants: Sequence[Variant], seed: int) -> Tables:
    """Pretrain once, and at each variant's checkpoints finetune and test all its arms.

    The variants have the same settings of the world, the transformer and its pretraining, but for its steps.
    """
    # Streams of their own: every alpha has the same facts and arms, every variant the same finetuning batches.
    world, pretraining = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    shared = variants[0].settings
    (alpha,) = shared.alpha
    facts = make_facts(shared.subjects, shared.relations, shared.answers, alpha, shared.answer_alpha, world)
    tables: Tables = {"results": [], "pretraining": []}
    checkpoints = {steps for variant in variants for steps in variant.settings.steps}
    for steps, model in pretrain(facts, replace(shared, steps=tuple(sorted(checkpoints))), pretraining):
        known = memorised(model, facts)
        for variant in variants:
            chosen = variant.settings
            if steps not in chosen.steps:
                continue
            drawn = deepcopy(world)
            parts = partition(chosen.subjects, chosen.finetuning_subjects, chosen.validation_subjects, drawn)
            arms = make_arms(parts.finetuning, chosen.share, drawn)
            setting = {**variant.columns, "alpha": alpha, "steps": steps}
            seen = exposures(facts, arms["bottom"], steps * chosen.batch_size)
            tables["pretraining"].append({**setting, "memorisation": float(known.mean()), "bottom_exposures": seen})
            for arm in finetune(model, facts, parts, arms, chosen, np.random.default_rng([seed, 2])):
                sizes = {"n_train": len(arms[arm.name]) * facts.relations, "best_step": arm.step}
                rows = zip(top_rows(arm.right), top_rows(arm.right_at_last), strict=True)
                tables["results"] += [
                    {"arm": arm.name, **setting, **sizes, **best, "accuracy_at_last": last["accuracy"]}
                    for best, last in rows
                ]
    return tables


def exposures(facts: Facts, subjects: NDArray[np.int64], sequences: int) -> float:
    """How often a fact about the subjects is met on average in so many pretraining sequences."""
    return float(facts.popularity[subjects].mean() * sequences / facts.relations)


def top_rows(right: NDArray[np.bool_]) -> list[Row]:
    """Accuracy on the facts of the most popular x% of test subjects. (subjects by popularity, relations) -> rows"""
    rows = []
    for percent in TOP_PERCENTS:
        n = max(1, round(len(right) * percent / 100))
        rows.append({"top_percent": percent, "accuracy": float(right[:n].mean()), "n": right[:n].size})
    return rows
