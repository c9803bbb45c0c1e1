"""The experiment `one-layer`: the theorems checked; pretraining and finetuning watched step by step (Appendix C.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from curate.simulation.one_layer import (
    OneLayer,
    Triples,
    is_right,
    one_epoch,
    pairs,
    questions,
    random_weights,
    repeated,
    rivals,
    salience,
    sgd_step,
    side_by_side,
    statements,
    subject_attention,
    vocabulary,
    zero_weights,
)
from curate.simulation.settings import OneLayerSettings, Row, Tables
from curate.simulation.theorems import THEOREMS, fact_counts, salience_constant
from curate.simulation.world import Facts, draw_statements, make_arms, make_facts, partition, top_rows

WORLDS = 20  # random worlds a seed for every theorem
INITIAL_STD = 0.001  # Appendix C.1
EPOCH_STATEMENTS = 4000  # of the epoch of Theorem 4.6
EPOCH_RATE = 1e-4  # small enough that the theorem's constant is close to its limit


def run_one_layer(point: OneLayerSettings, seed: int) -> Tables:
    """Check the theorems; pretrain, and at every checkpoint finetune and watch all arms."""
    tables: Tables = {"results": [], "dynamics": [], "pretraining": [], "salience": [], "theorems": []}
    tables["theorems"] += [theorem.check(WORLDS, seed) for theorem in THEOREMS]

    rng = np.random.default_rng(seed)
    (alpha,) = point.alpha
    facts = make_facts(point.subjects, point.relations, point.answers, alpha, point.answer_alpha, rng)
    parts = partition(point.subjects, point.finetuning_subjects, 0, rng)
    arms = make_arms(parts.finetuning, point.share, rng)
    tables["salience"] += [{"alpha": alpha, "steps": None, **row} for row in salience_after_epoch(facts, rng)]
    for steps, model, counts in pretrain(facts, point, rng):
        columns = {"alpha": alpha, "steps": steps}
        tables["pretraining"].append({**columns, **stored(model, facts, parts.evaluation)})
        tables["salience"] += [{**columns, **row} for row in salience_by_count(facts, model, counts)]
        watched, right = finetune(model, facts, arms, parts.evaluation, point)
        tables["dynamics"] += [{**columns, **row} for row in watched]
        for arm, answered in right.items():
            size = {"n_train": len(arms[arm]) * facts.relations}
            tables["results"] += [{"arm": arm, **columns, **size, **row} for row in top_rows(answered)]
    return tables


def pretrain(
    facts: Facts, settings: OneLayerSettings, rng: np.random.Generator
) -> Iterator[tuple[int, OneLayer, NDArray[np.int64]]]:
    """The model after each number of `settings.steps`, fewest first, and how often it had seen each fact, (S, R)."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    model = random_weights(1, vocabulary(facts), INITIAL_STD, generator, torch.float32)
    counts = np.zeros(facts.answers.shape, dtype=np.int64)
    for step in range(1, max(settings.steps) + 1):
        subjects, relations, answers = draw_statements(facts, settings.batch_size, rng)
        np.add.at(counts, (subjects, relations), 1)
        sgd_step(model, pairs(facts, facts.statements(subjects, relations), answers), settings.learning_rate)
        if step in settings.steps:
            yield step, model, counts.copy()


def stored(model: OneLayer, facts: Facts, subjects: NDArray[np.int64]) -> Row:
    """What is in the model in (s, r) form: answered, answerable by some attention, attention paid, salience."""
    known = statements(facts, subjects)
    attentive = OneLayer(model.values, torch.zeros_like(model.attention))
    attentive.attention[:, : facts.subjects, :] = 50.0  # all attention to the subject
    return {
        "memorisation": is_right(model, known).double().mean().item(),
        "answerable": is_right(attentive, known, rivals(facts, known.answers)).double().mean().item(),
        "subject_attention": subject_attention(model, known.subjects, known.relations).mean().item(),
        "salience": salience(model, known).mean().item(),
    }


def finetune(
    model: OneLayer,
    facts: Facts,
    arms: Mapping[str, NDArray[np.int64]],
    tested: NDArray[np.int64],
    settings: OneLayerSettings,
) -> tuple[list[Row], dict[str, NDArray[np.bool_]]]:
    """Every arm step by step on the questions of the tested subjects, and which it answers at the end, (S, R).

    Each step is on all questions of the arm. Arms of one size are trained side by side.
    """
    watched = watched_steps(settings.finetuning_steps)
    rows: list[Row] = []
    right = {}
    sizes: dict[int, list[str]] = {}
    for arm, subjects in arms.items():
        sizes.setdefault(len(subjects), []).append(arm)
    for together in sizes.values():
        models = repeated(model, len(together))
        training = side_by_side([questions(facts, arms[arm]) for arm in together])
        testing = side_by_side([questions(facts, tested)] * len(together))
        for step in range(settings.finetuning_steps + 1):
            if step in watched:
                rows += _watch(models, facts, testing, together, step)
            if step < settings.finetuning_steps:
                sgd_step(models, training, settings.finetuning_learning_rate)
        for arm, answered in zip(together, is_right(models, testing).numpy(), strict=True):
            right[arm] = answered.reshape(len(tested), facts.relations)
    return rows, right


def watched_steps(last: int) -> list[int]:
    """Every step at first, every tenth after the twentieth, and the last."""
    return sorted({*range(min(20, last)), *range(20, last, 10), last})


def salience_by_count(facts: Facts, model: OneLayer, counts: NDArray[np.int64]) -> list[Row]:
    """Count and salience of every fact of a pretrained model."""
    each = salience(model, statements(facts))[0].tolist()
    return [
        {"training": "pretraining", "count": int(n), "salience": s, "bound": None}
        for n, s in zip(counts.flatten(), each, strict=True)
    ]


def salience_after_epoch(facts: Facts, rng: np.random.Generator) -> list[Row]:
    """Count, salience and the lower bound of Theorem 4.6 for every fact seen in one epoch from zero."""
    subjects, relations, answers = draw_statements(facts, EPOCH_STATEMENTS, rng)
    drawn = pairs(facts, facts.statements(subjects, relations), answers)
    model = zero_weights(1, vocabulary(facts))
    one_epoch(model, drawn, EPOCH_RATE)
    constant = salience_constant(drawn, vocabulary(facts), EPOCH_RATE)
    measured = zip(fact_counts(drawn)[0].tolist(), salience(model, drawn)[0].tolist(), strict=True)
    seen = dict(zip(zip(subjects, relations, strict=True), measured, strict=True))  # each fact once
    return [
        {"training": "epoch", "count": n, "salience": value, "bound": n * constant * EPOCH_RATE}
        for n, value in seen.values()
    ]


def _watch(models: OneLayer, facts: Facts, testing: Triples, arms: Sequence[str], step: int) -> list[Row]:
    measured = {
        "subject_attention": subject_attention(models, testing.subjects, testing.relations),
        "accuracy": is_right(models, testing).float(),
        "accuracy_among": is_right(models, testing, rivals(facts, testing.answers)).float(),
        "salience": salience(models, testing),
    }
    means = {name: values.double().mean(dim=1).tolist() for name, values in measured.items()}
    return [
        {"arm": arm, "step": step, **{name: values[place] for name, values in means.items()}}
        for place, arm in enumerate(arms)
    ]
