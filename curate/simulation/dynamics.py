"""How attention to the subject grows in one-layer training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curate.report.figures import label
from curate.simulation.one_layer import (
    OneLayer,
    Triples,
    is_right,
    is_right_among,
    one_epoch,
    pairs,
    questions,
    random_weights,
    repeated,
    rivals,
    sgd_step,
    side_by_side,
    statements,
    subject_attention,
    vocabulary,
    zero_weights,
)
from curate.simulation.settings import OneLayerSettings
from curate.simulation.summary import ARMS, gaps, mean_interval, points, settings_of
from curate.simulation.synthetic import Row, Shown, Tables
from curate.simulation.theorems import fact_counts, salience, salience_constant
from curate.simulation.world import Facts, draw_statements
from curate.summary import rank_correlation

INITIAL_STD = 0.001  # Appendix C.1
EPOCH_STATEMENTS = 4000  # of the epoch of Theorem 4.6
EPOCH_RATE = 1e-4  # small enough that the theorem's constant is close to its limit


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
        "answerable": is_right_among(attentive, known, rivals(facts, known.answers)).double().mean().item(),
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
    rows: list[Row] = []
    right = {}
    for together in _same_size(arms):
        models = repeated(model, len(together))
        training = side_by_side([questions(facts, arms[arm]) for arm in together])
        testing = side_by_side([questions(facts, tested)] * len(together))
        for step in range(settings.finetuning_steps + 1):
            if step in watched_steps(settings.finetuning_steps):
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
    known = statements(facts, np.arange(facts.subjects))
    each = salience(model, known)[0].tolist()
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
    seen = {
        (s, r): (n, value)
        for s, r, n, value in zip(
            subjects, relations, fact_counts(drawn)[0].tolist(), salience(model, drawn)[0].tolist(), strict=True
        )
    }
    return [
        {"training": "epoch", "count": n, "salience": value, "bound": n * constant * EPOCH_RATE}
        for n, value in seen.values()
    ]


def _same_size(arms: Mapping[str, NDArray[np.int64]]) -> list[list[str]]:
    sizes: dict[int, list[str]] = {}
    for arm, subjects in arms.items():
        sizes.setdefault(len(subjects), []).append(arm)
    return list(sizes.values())


def _watch(models: OneLayer, facts: Facts, testing: Triples, arms: Sequence[str], step: int) -> list[Row]:
    measured = {
        "subject_attention": subject_attention(models, testing.subjects, testing.relations),
        "accuracy": is_right(models, testing).float(),
        "accuracy_among": is_right_among(models, testing, rivals(facts, testing.answers)).float(),
        "salience": salience(models, testing),
    }
    means = {name: values.double().mean(dim=1).tolist() for name, values in measured.items()}
    return [
        {"arm": arm, "step": step, **{name: values[place] for name, values in means.items()}}
        for place, arm in enumerate(arms)
    ]


EARLY = 10  # the last step of the first stage in Appendix C.1


def summarise(tables: Tables) -> dict[str, Any]:
    """Theorems over all random worlds; per setting pretraining, arms and gaps; salience against count."""
    theorems = _theorems(tables["theorems"])
    settings = [_setting(tables, setting) for setting in settings_of(tables["results"])]
    summary = {"theorems": theorems, "settings": settings, "salience": _salience(tables["salience"])}
    return {"verdict": verdict(theorems, settings[0]), **summary}


def verdict(theorems: Sequence[Mapping[str, Any]], setting: Mapping[str, Any]) -> str:
    """Whether the theorems hold, and what finetuning does to attention and accuracy at the first setting."""
    inside = [t for t in theorems if t["assumptions_met"]]
    violations, cases = sum(t["violations"] for t in inside), sum(t["cases"] for t in inside)
    top, bottom = setting["arms"]["top"], setting["arms"]["bottom"]
    held = "every theorem holds" if violations == 0 else f"theorems are violated {violations:,} times"
    return (
        f"Under its assumptions {held} in {cases:,} cases. Attention to the subject goes from "
        f"{top['attention_start']:.2f} to {top['attention_end']:.2f} under FT-Top and to {bottom['attention_end']:.2f} "
        f"under FT-Bottom, whose accuracy goes from {100 * bottom['accuracy_best']:.1f}% at its best to "
        f"{100 * bottom['accuracy_end']:.1f}%, while the salience of the test facts goes from "
        f"{bottom['salience_start']:.3f} to {bottom['salience_end']:.3f}."
    )


def shown(summary: Mapping[str, Any]) -> list[Shown]:
    """The theorems, the arms of every setting, the gaps, and what is stored."""
    settings = summary["settings"]
    tables = [_theorem_table(summary["theorems"]), _arm_table(settings), _gap_table(settings)]
    return [*tables, _stored_table(settings), _salience_table(summary["salience"])]


def watched(dynamics: Sequence[Row], arm: str, column: str, **setting: Any) -> dict[int, list[float]]:
    """A column of the dynamics of an arm under a setting: a number a seed, by finetuning step."""
    wanted = {"arm": arm, **setting}
    by_step: dict[int, list[float]] = {}
    for row in dynamics:
        if row.items() >= wanted.items():
            by_step.setdefault(row["step"], []).append(row[column])
    return by_step


def _theorems(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The checks of all seeds added up, in the order they were made."""
    named = ("theorem", "statement", "assumptions", "assumptions_met")
    added: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in named)
        total = added.setdefault(key, {**{name: row[name] for name in named}, "cases": 0, "violations": 0})
        total["cases"] += row["cases"]
        total["violations"] += row["violations"]
    return list(added.values())


def _setting(tables: Tables, setting: Mapping[str, Any]) -> dict[str, Any]:
    pretrained = [row for row in tables["pretraining"] if row.items() >= setting.items()]
    results = tables["results"]
    return {
        **setting,
        "seeds": len(pretrained),
        "memorisation": mean_interval([row["memorisation"] for row in pretrained]),
        "answerable": mean_interval([row["answerable"] for row in pretrained]),
        "arms": {arm: _arm(tables["dynamics"], arm, setting) for arm in ARMS},
        "gaps": {f"top - {other}": mean_interval(gaps(results, other, **setting)) for other in ARMS[1:]},
    }


def _arm(dynamics: Sequence[Row], arm: str, setting: Mapping[str, Any]) -> dict[str, float]:
    """Means over seeds; `best` is the best of the mean, so it is a step that all seeds share."""

    def mean_by_step(column: str) -> dict[int, float]:
        return {step: sum(v) / len(v) for step, v in watched(dynamics, arm, column, **setting).items()}

    attention, accuracy = mean_by_step("subject_attention"), mean_by_step("accuracy")
    among, salience = mean_by_step("accuracy_among"), mean_by_step("salience")
    last = max(attention)
    return {
        "attention_start": attention[0],
        "attention_early": attention[min(EARLY, last)],
        "attention_end": attention[last],
        "accuracy_best": max(accuracy.values()),
        "best_step": max(accuracy, key=lambda step: accuracy[step]),
        "accuracy_end": accuracy[last],
        "accuracy_among_end": among[last],
        "salience_start": salience[0],
        "salience_end": salience[last],
    }


def _salience(rows: Sequence[Row]) -> dict[str, Any]:
    """Rank correlation of salience with count in either training, and how the bound of Theorem 4.6 fares."""

    def correlation(training: str) -> float:
        chosen = [row for row in rows if row["training"] == training]
        return rank_correlation(
            np.array([row["count"] for row in chosen], dtype=float), np.array([row["salience"] for row in chosen])
        )

    epoch = [row for row in rows if row["training"] == "epoch"]
    return {
        "epoch_rank_correlation": correlation("epoch"),
        "pretraining_rank_correlation": correlation("pretraining"),
        "bound_cases": len(epoch),
        "bound_violations": sum(row["salience"] < row["bound"] for row in epoch),
        "salience_over_bound": float(np.mean([row["salience"] / row["bound"] for row in epoch])),
    }


def _theorem_table(theorems: Sequence[Mapping[str, Any]]) -> Shown:
    return Shown(
        "Theorems on random worlds",
        ["theorem", "statement", "assumptions", "cases", "violations"],
        [[t["theorem"], t["statement"], t["assumptions"], f"{t['cases']:,}", f"{t['violations']:,}"] for t in theorems],
    )


def _arm_table(settings: Sequence[Mapping[str, Any]]) -> Shown:
    named, front = _steps(settings)
    return Shown(
        f"Attention to the subject (Att) and accuracy (%) on unseen subjects by finetuning step, "
        f"mean of {settings[0]['seeds']} seeds",
        [*named, "arm", "Att at 0", f"at {EARLY}", "at end", "best %", "at step", "end %", "among %"],
        [
            [
                *begin,
                label(name),
                f"{arm['attention_start']:.3f}",
                f"{arm['attention_early']:.3f}",
                f"{arm['attention_end']:.3f}",
                f"{100 * arm['accuracy_best']:.1f}",
                str(arm["best_step"]),
                f"{100 * arm['accuracy_end']:.1f}",
                f"{100 * arm['accuracy_among_end']:.1f}",
            ]
            for begin, setting in zip(front, settings, strict=True)
            for name, arm in ((name, setting["arms"][name]) for name in ARMS)
        ],
    )


def _gap_table(settings: Sequence[Mapping[str, Any]]) -> Shown:
    named, front = _steps(settings)
    return Shown(
        "FT-Top minus the others at the end in points, 95% interval over seeds",
        [*named, *(f"− {label(arm)}" for arm in ARMS[1:])],
        [
            [
                *begin,
                *(f"{100 * gap['mean']:+.1f} ({points(gap)})" for gap in (s["gaps"][f"top - {a}"] for a in ARMS[1:])),
            ]
            for begin, s in zip(front, settings, strict=True)
        ],
    )


def _stored_table(settings: Sequence[Mapping[str, Any]]) -> Shown:
    named, front = _steps(settings)
    headers = ("answered as (s, r), %", "by the subject alone, %", "salience before", "after FT-Bottom")
    return Shown(
        "What is stored about the test subjects",
        [*named, *headers],
        [
            [
                *begin,
                f"{100 * s['memorisation']['mean']:.1f} ({points(s['memorisation'], signed=False)})",
                f"{100 * s['answerable']['mean']:.1f}",
                f"{s['arms']['bottom']['salience_start']:.3f}",
                f"{s['arms']['bottom']['salience_end']:.3f}",
            ]
            for begin, s in zip(front, settings, strict=True)
        ],
    )


def _steps(settings: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A column of pretraining steps, header and cells, where there are several; else none."""
    if len(settings) == 1:
        return [], [[]]
    return ["steps"], [[f"{setting['steps']:,}"] for setting in settings]


def _salience_table(found: Mapping[str, Any]) -> Shown:
    return Shown(
        "Salience against the number of times a fact was seen",
        ["training", "rank correlation", "facts", "below n c1 eps", "salience / bound, mean"],
        [
            [
                "one epoch from zero",
                f"{found['epoch_rank_correlation']:.2f}",
                f"{found['bound_cases']:,}",
                f"{found['bound_violations']:,}",
                f"{found['salience_over_bound']:.2f}",
            ],
            ["pretraining", f"{found['pretraining_rank_correlation']:.2f}", "", "", ""],
        ],
    )
