"""Results of the synthetic experiments, summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.report.figures import label
from curate.simulation.synthetic import Row, Shown, Tables

FloatArray = NDArray[np.float64]

ARMS = ("top", "random", "bottom", "whole")
SWEPT = ("alpha", "steps")
SHUFFLES = 20_000
SHOWN_PERCENTS = (5, 10, 20, 50, 100)


def accuracies(
    results: Sequence[Row], arm: str, top_percent: int = 100, column: str = "accuracy", **setting: Any
) -> dict[int, float]:
    """Accuracy by seed of an arm under a setting; `accuracy_at_last` is that without early stopping."""
    wanted = {"arm": arm, "top_percent": top_percent, **setting}
    return {row["seed"]: row[column] for row in results if row.items() >= wanted.items()}


def settings_of(results: Sequence[Row]) -> list[dict[str, Any]]:
    """The different settings of the rows, in order of appearance."""
    found = dict.fromkeys((row["alpha"], row["steps"]) for row in results)
    return [{"alpha": alpha, "steps": steps} for alpha, steps in found]


def gaps(results: Sequence[Row], other: str = "bottom", top_percent: int = 100, **setting: Any) -> list[float]:
    """Accuracy of top minus that of another arm, a number a seed; arguments are those of `accuracies`."""
    top = accuracies(results, "top", top_percent, **setting)
    compared = accuracies(results, other, top_percent, **setting)
    return [top[seed] - compared[seed] for seed in top]


def mean_interval(values: Sequence[float], name: str = "mean") -> dict[str, Any]:
    """The mean over seeds, under a name, with Student's 95% interval; no interval for a single seed."""
    from scipy.stats import t as student

    mean = float(np.mean(values))
    if len(values) < 2:
        return {name: mean, "low": None, "high": None}
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return {name: mean, "low": mean - half, "high": mean + half}


def trend(x: FloatArray, gap: FloatArray) -> dict[str, Any]:
    """Spearman correlation of the gap with what was swept, inside each seed; mean and interval over seeds. (P,), (S, P)

    The points of a seed share their facts and finetuning subjects, so seeds are compared with themselves only.
    `p` is how often a mean correlation at least as strong comes of shuffling the gaps inside each seed: it also says
    something where all seeds have the same correlation, and the interval no width.
    """
    from scipy.stats import rankdata

    def standard(ranks: FloatArray) -> FloatArray:
        spread = ranks.std(axis=-1, keepdims=True)
        return (ranks - ranks.mean(axis=-1, keepdims=True)) / np.where(spread > 0, spread, 1)

    against = standard(rankdata(x)) / len(x)
    ranks = standard(rankdata(gap, axis=-1))
    each = ranks @ against  # (S,)
    shuffled = np.random.default_rng(0).permuted(np.tile(ranks, (SHUFFLES, 1, 1)), axis=-1) @ against
    as_strong = np.abs(shuffled.mean(axis=-1)) >= abs(each.mean()) - 1e-9
    found = mean_interval(each.tolist(), "spearman")
    clipped = {name: value if value is None else max(-1.0, min(1.0, value)) for name, value in found.items()}
    return {**clipped, "p": float((1 + as_strong.sum()) / (1 + SHUFFLES))}


def moves(found: Mapping[str, Any]) -> str:
    """What the gap does along a trend, as far as it is clear: more than one seed, and p below 0.05."""
    if found["low"] is None or found["p"] >= 0.05:
        return "does not clearly move"
    return "grows" if found["spearman"] > 0 else "shrinks"


def correlation(found: Mapping[str, Any]) -> str:
    """A trend in text."""
    if found["low"] is None:
        return f"Spearman {found['spearman']:+.2f}, one seed, no interval"
    interval = f"95% interval {found['low']:+.2f} to {found['high']:+.2f}"
    return f"Spearman {found['spearman']:+.2f}, {interval}, p = {found['p']:.2g}"


def summarise(tables: Tables) -> dict[str, Any]:
    """Per setting: memorisation, accuracy by arm, differences. Over settings: the trend of the gap. And the verdict."""

    results = tables["results"]
    settings = [_summary_of(setting, tables) for setting in settings_of(results)]
    trends = {}
    for swept in SWEPT:
        if len({setting[swept] for setting in settings}) > 1:
            gap = np.array([gaps(results, alpha=s["alpha"], steps=s["steps"]) for s in settings]).T
            trends[swept] = trend(np.array([setting[swept] for setting in settings], dtype=float), gap)
    return {"verdict": verdict(settings, trends), "settings": settings, "trends": trends}


def _summary_of(setting: Mapping[str, Any], tables: Tables) -> dict[str, Any]:
    results = tables["results"]
    known = [row["memorisation"] for row in tables["pretraining"] if row.items() >= setting.items()]
    return {
        **setting,
        "seeds": len(known),
        "memorisation": mean_interval(known, "share"),
        "arms": [
            {"arm": arm, **mean_interval(list(accuracies(results, arm, **setting).values()), "accuracy")}
            for arm in ARMS
        ],
        "differences": [
            {"a": "top", "b": other, **mean_interval(gaps(results, other, **setting), "difference")}
            for other in ARMS[1:]
        ],
        "gap_at_last": mean_interval(gaps(results, column="accuracy_at_last", **setting), "difference"),
        "gap_by_popularity": [
            {
                "top_percent": percent,
                **mean_interval(gaps(results, top_percent=percent, **setting), "difference"),
            }
            for percent in dict.fromkeys(row["top_percent"] for row in results)
        ],
    }


def verdict(settings: Sequence[Mapping[str, Any]], trends: Mapping[str, Mapping[str, Any]]) -> str:
    """How the gap moves where something was swept, else how large it is; read off the intervals."""
    if trends:
        return " ".join(_trend_sentence(swept, found) for swept, found in trends.items())
    (setting,) = settings
    gap = next(row for row in setting["differences"] if row["b"] == "bottom")
    whole = next(row for row in setting["differences"] if row["b"] == "whole")
    sure = gap["low"] is None or gap["low"] > 0 or gap["high"] < 0
    return (
        f"With {100 * setting['memorisation']['share']:.1f}% of all facts memorised, finetuning on the most popular "
        f"subjects instead of the least popular changes accuracy by {100 * gap['difference']:+.1f} points "
        f"({'95% interval ' if gap['low'] is not None else ''}{points(gap)})"
        f"{'' if sure else ', no clear difference'}; instead of all of them, by "
        f"{100 * whole['difference']:+.1f} ({points(whole)})."
    )


def _trend_sentence(swept: str, found: Mapping[str, Any]) -> str:
    return f"The gap between FT-Top and FT-Bottom {moves(found)} with {swept} ({correlation(found)})."


def shown(summary: Mapping[str, Any]) -> list[Shown]:
    """Two tables: accuracy by arm, and the differences, a row a setting."""
    settings = summary["settings"]
    swept = [name for name in SWEPT if len({s[name] for s in settings}) > 1]
    headers = [*swept, "memorised %"]
    front = [[*(f"{s[name]:g}" for name in swept), f"{100 * s['memorisation']['share']:.1f}"] for s in settings]
    arms = [[f"{100 * row['accuracy']:.1f}" for row in s["arms"]] for s in settings]
    differences = [[in_points(row) for row in (*s["differences"], s["gap_at_last"])] for s in settings]
    by_popularity = [
        [in_points(row) for row in s["gap_by_popularity"] if row["top_percent"] in SHOWN_PERCENTS] for s in settings
    ]
    return [
        Shown(
            f"Accuracy on questions about other subjects (%), mean of {settings[0]['seeds']} seeds",
            [*headers, *(label(arm) for arm in ARMS)],
            [[*a, *b] for a, b in zip(front, arms, strict=True)],
        ),
        Shown(
            "FT-Top minus the others, in points, with 95% intervals over seeds",
            [*headers, *(f"− {label(arm)}" for arm in ARMS[1:]), "− FT-Bottom, after the last step"],
            [[*a, *b] for a, b in zip(front, differences, strict=True)],
        ),
        Shown(
            "FT-Top minus FT-Bottom in points, on the most popular x% of the test subjects",
            [*headers, *(f"{percent}%" for percent in SHOWN_PERCENTS)],
            [[*a, *b] for a, b in zip(front, by_popularity, strict=True)],
        ),
    ]


def in_points(row: Mapping[str, Any]) -> str:
    """A difference with its interval, in points of accuracy."""
    return f"{100 * row['difference']:+.1f} ({points(row)})"


def points(row: Mapping[str, Any], signed: bool = True) -> str:
    """The interval of a row in points of accuracy."""
    if row["low"] is None:
        return "no interval from one seed"
    low, high = (f"{100 * row[end]:{'+' if signed else ''}.1f}" for end in ("low", "high"))
    return f"{low} to {high}"
