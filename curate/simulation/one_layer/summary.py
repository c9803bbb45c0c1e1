"""What the runs of `one-layer` show together: the theorems, every arm before and after, what stayed stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curate.agreement import rank_correlation
from curate.report.figures import label
from curate.simulation.experiment import Row, Shown, Tables
from curate.simulation.synthetic_summary import ARMS, gaps, mean_interval, points, settings_of

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
    import numpy as np

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
