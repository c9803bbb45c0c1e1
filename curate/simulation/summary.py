"""The experiments summed up: numbers for summary.json, the sentence that says them, tables and figures for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate.display import percent
from curate.report.figures import (
    COLOURS,
    GREY,
    Drawing,
    curves_figure,
    figure,
    label,
    line_with_band,
    lines_with_bands,
    new_figure,
)
from curate.simulation.settings import EXPOSURES_KEPT, Tables
from curate.summary import rank_correlation

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series


FloatArray = NDArray[np.float64]
Found = Mapping[str, Any]
"""What was found: a summary, or a part of one."""

ARMS = ("top", "random", "bottom", "whole")
SWEPT = ("alpha", "steps")


@dataclass(frozen=True)
class Table:
    """A table for a person, printed and put in the report; its cells are text."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


def table(title: str, rows: Sequence[Mapping[str, str]]) -> Table:
    """The table of some rows, cells by header; there is one row at least."""
    return Table(title, [*rows[0]], [[*row.values()] for row in rows])


def of_arm(results: DataFrame, arm: str, column: str = "accuracy") -> Series[float]:
    """A column of the rows of an arm, by seed; `accuracy_at_last` is that without early stopping."""
    return results[results["arm"] == arm].set_index("seed")[column]


def gap(results: DataFrame, other: str = "bottom", column: str = "accuracy") -> FloatArray:
    """FT-Top minus another arm, a number a seed."""
    return (of_arm(results, "top", column) - of_arm(results, other, column)).to_numpy()


def mean(values: Series[float]) -> float:
    """The mean, summed up in order: the same digits as ever."""
    return float(sum(values) / len(values))


def mean_interval(values: Any, name: str = "mean") -> dict[str, Any]:
    """The mean over seeds, under a name, with Student's 95% interval; no interval for a single seed."""
    from scipy.stats import t as student

    values = np.asarray(values)
    middle = float(values.mean())
    if len(values) < 2:
        return {name: middle, "low": None, "high": None}
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return {name: middle, "low": middle - half, "high": middle + half}


SHUFFLES = 20_000


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
    found = mean_interval(each, "spearman")
    clipped = {name: value if value is None else max(-1.0, min(1.0, value)) for name, value in found.items()}
    return {**clipped, "p": float((1 + as_strong.sum()) / (1 + SHUFFLES))}


def moves(found: Found) -> str:
    """What the gap does along a trend, as far as it is clear: more than one seed, and p below 0.05."""
    if found["low"] is None or found["p"] >= 0.05:
        return "does not clearly move"
    return "grows" if found["spearman"] > 0 else "shrinks"


def correlation(found: Found) -> str:
    """A trend in text."""
    if found["low"] is None:
        return f"Spearman {found['spearman']:+.2f}, one seed, no interval"
    interval = f"95% interval {found['low']:+.2f} to {found['high']:+.2f}"
    return f"Spearman {found['spearman']:+.2f}, {interval}, p = {found['p']:.2g}"


def points(found: Found, sign: str = "+") -> str:
    """An interval in points of accuracy."""
    if found["low"] is None:
        return "no interval from one seed"
    return f"{100 * found['low']:{sign}.1f} to {100 * found['high']:{sign}.1f}"


def in_points(found: Found, name: str = "difference", sign: str = "+") -> str:
    """A number with its interval, in points of accuracy."""
    return f"{100 * found[name]:{sign}.1f} ({points(found, sign)})"


# facts, zipf and steps


def summarise_sweep(tables: Tables) -> dict[str, Any]:
    """Per setting: memorisation, accuracy by arm, differences. Over settings: the trend of the gap. And the verdict."""
    import pandas as pd

    results, pretraining = (pd.DataFrame(tables[name]) for name in ("results", "pretraining"))
    pretrained = pretraining.groupby([*SWEPT], sort=False)["memorisation"]
    settings, gaps = [], []
    for swept, rows in results.groupby([*SWEPT], sort=False):
        settings.append(_sweep_setting(swept, rows, pretrained.get_group(swept)))
        gaps.append(gap(rows[rows["top_percent"] == 100]))
    along = {name: np.array([setting[name] for setting in settings], dtype=float) for name in SWEPT}
    trends = {name: trend(x, np.array(gaps).T) for name, x in along.items() if len(set(x)) > 1}
    return {"verdict": sweep_verdict(settings, trends), "settings": settings, "trends": trends}


def _sweep_setting(swept: tuple[float, int], results: DataFrame, memorisation: Series[float]) -> dict[str, Any]:
    whole = results[results["top_percent"] == 100]
    arms = {arm: mean_interval(of_arm(whole, arm), "accuracy") for arm in ARMS}
    differences = {other: mean_interval(gap(whole, other), "difference") for other in ARMS[1:]}
    popular = {share: mean_interval(gap(rows), "difference") for share, rows in results.groupby("top_percent")}
    return {
        **dict(zip(SWEPT, swept, strict=True)),
        "seeds": len(memorisation),
        "memorisation": mean_interval(memorisation, "share"),
        "arms": [{"arm": arm, **found} for arm, found in arms.items()],
        "differences": [{"a": "top", "b": other, **found} for other, found in differences.items()],
        "gap_at_last": mean_interval(gap(whole, column="accuracy_at_last"), "difference"),
        "gap_by_popularity": [{"top_percent": share, **found} for share, found in popular.items()],
    }


def sweep_verdict(settings: Sequence[Found], trends: Mapping[str, Found]) -> str:
    """How the gap moves where something was swept, else how large it is; read off the intervals."""
    if trends:
        return " ".join(
            f"The gap between FT-Top and FT-Bottom {moves(found)} with {swept} ({correlation(found)})."
            for swept, found in trends.items()
        )
    (setting,) = settings
    bottom, whole = (next(row for row in setting["differences"] if row["b"] == arm) for arm in ("bottom", "whole"))
    sure = bottom["low"] is None or bottom["low"] > 0 or bottom["high"] < 0
    return (
        f"With {percent(setting['memorisation']['share'])}% of all facts memorised, finetuning on the most popular "
        f"subjects instead of the least popular changes accuracy by {100 * bottom['difference']:+.1f} points "
        f"({'95% interval ' if bottom['low'] is not None else ''}{points(bottom)})"
        f"{'' if sure else ', no clear difference'}; instead of all of them, by {in_points(whole)}."
    )


SHOWN_PERCENTS = (5, 10, 20, 50, 100)


def sweep_tables(summary: Found) -> list[Table]:
    """Accuracy by arm, the differences, and the gap by popularity, a row a setting."""
    settings = summary["settings"]
    swept = [name for name in SWEPT if len({s[name] for s in settings}) > 1]
    accuracies, differences, popular = [], [], []
    for s in settings:
        front = {name: f"{s[name]:g}" for name in swept} | {"memorised %": percent(s["memorisation"]["share"])}
        accuracies.append({**front, **{label(row["arm"]): percent(row["accuracy"]) for row in s["arms"]}})
        others = {f"− {label(row['b'])}": in_points(row) for row in s["differences"]}
        differences.append({**front, **others, "− FT-Bottom, after the last step": in_points(s["gap_at_last"])})
        shown = [row for row in s["gap_by_popularity"] if row["top_percent"] in SHOWN_PERCENTS]
        popular.append({**front, **{f"{row['top_percent']}%": in_points(row) for row in shown}})
    seeds = settings[0]["seeds"]
    return [
        table(f"Accuracy on questions about other subjects (%), mean of {seeds} seeds", accuracies),
        table("FT-Top minus the others, in points, with 95% intervals over seeds", differences),
        table("FT-Top minus FT-Bottom in points, on the most popular x% of the test subjects", popular),
    ]


# map


def summarise_map(tables: Tables) -> dict[str, Any]:
    """Every factor with its places, in order of its value, and the trend of the gap; and the verdict."""
    import pandas as pd

    results, pretraining = (pd.DataFrame(tables[name]) for name in ("results", "pretraining"))
    whole = results[results["top_percent"] == 100]
    pretrained = pretraining.groupby("factor")
    factors = [_factor(name, rows, pretrained.get_group(name)) for name, rows in whole.groupby("factor", sort=False)]
    return {"verdict": map_verdict(factors), "factors": factors}


def _factor(name: str, results: DataFrame, pretraining: DataFrame) -> dict[str, Any]:
    places = dict(iter(results.groupby("value")))
    pretrained = dict(iter(pretraining.groupby("value")))
    gaps = {value: gap(rows.sort_values("seed")) for value, rows in places.items()}
    at_last = {value: gap(rows.sort_values("seed"), column="accuracy_at_last") for value, rows in places.items()}
    middle = next(value for value, rows in places.items() if rows["middle"].all())
    found = [
        {
            "value": value,
            "middle": value == middle,
            "seeds": len(pretrained[value]),
            **{column: mean(pretrained[value][column]) for column in ("memorisation", "bottom_exposures")},
            "arms": {arm: mean(of_arm(rows, arm)) for arm in ARMS},
            "gap": mean_interval(gaps[value], "difference"),
            "change": mean_interval(gaps[value] - gaps[middle], "difference"),
            "gap_at_last": mean_interval(at_last[value], "difference"),
        }
        for value, rows in places.items()
    ]
    return {"factor": name, "places": found, "trend": trend(np.array([*gaps]), np.array([*gaps.values()]).T)}


def map_verdict(factors: Sequence[Found]) -> str:
    """The gap in the middle, and the factors along which it grows, shrinks, or neither."""
    middle = next(place for place in factors[0]["places"] if place["middle"])
    named: dict[str, list[str]] = {"grows": [], "shrinks": [], "does not clearly move": []}
    for found in factors:
        named[moves(found["trend"])].append(in_words(found["factor"]))
    along = "; ".join(f"{does} with {', '.join(names)}" for does, names in named.items() if names)
    return (
        f"In the middle of the map FT-Top minus FT-Bottom is {100 * middle['gap']['difference']:+.1f} points with "
        f"{percent(middle['memorisation'])}% of all facts memorised. The gap {along}."
    )


def in_words(factor: str) -> str:
    """A factor in words."""
    words = {
        "alpha": "skew of popularity",
        "answer_alpha": "skew of answers",
        EXPOSURES_KEPT: "relations at equal exposures",
    }
    return words.get(factor, factor.replace("_", " "))


def map_tables(summary: Found) -> list[Table]:
    """The trends, all places, and how they compare with the default."""
    trends, gaps, accuracies = [], [], []
    for found in summary["factors"]:
        factor, along = in_words(found["factor"]), found["trend"]
        trends.append({"with": factor, "it": moves(along), "over seeds": correlation(along)})
        for place in found["places"]:
            front = {"factor": factor, "value": f"{place['value']:g}{' *' if place['middle'] else ''}"}
            gaps.append(
                {
                    **front,
                    "memorised %": percent(place["memorisation"]),
                    "exposures": f"{place['bottom_exposures']:.0f}",
                    "gap": f"{100 * place['gap']['difference']:+.1f}",
                    "95% interval": points(place["gap"]),
                }
            )
            accuracies.append(
                {
                    **front,
                    **{label(arm): percent(place["arms"][arm]) for arm in ("top", "bottom")},
                    "minus the default's": "" if place["middle"] else in_points(place["change"]),
                    "after the last step": in_points(place["gap_at_last"]),
                }
            )
    seeds = summary["factors"][0]["places"][0]["seeds"]
    return [
        table("How the gap between FT-Top and FT-Bottom moves", trends),
        table(
            f"The gap in points, one factor at a time, mean of {seeds} seeds; exposures: how often a fact "
            "of FT-Bottom was met in pretraining; *: the default",
            gaps,
        ),
        table(
            "Accuracy (%), the gap minus that of the default in the same seed, and the gap without early stopping",
            accuracies,
        ),
    ]


# one-layer

EARLY = 10  # the last step of the first stage in Appendix C.1


def summarise_one_layer(tables: Tables) -> dict[str, Any]:
    """Theorems over all random worlds; per setting pretraining, arms and gaps; salience against count."""
    import pandas as pd

    checks, results, dynamics, pretraining, salience = (
        pd.DataFrame(tables[name]) for name in ("theorems", "results", "dynamics", "pretraining", "salience")
    )
    named = ["theorem", "statement", "assumptions", "assumptions_met"]
    theorems = checks.groupby(named, sort=False)[["cases", "violations"]].sum().reset_index().to_dict("records")
    pretrained, watched = (frame.groupby([*SWEPT], sort=False) for frame in (pretraining, dynamics))
    settings = []
    for swept, rows in results[results["top_percent"] == 100].groupby([*SWEPT], sort=False):
        known = pretrained.get_group(swept)
        by_arm = watched.get_group(swept).groupby("arm")
        settings.append(
            {
                **dict(zip(SWEPT, swept, strict=True)),
                "seeds": len(known),
                "memorisation": mean_interval(known["memorisation"]),
                "answerable": mean_interval(known["answerable"]),
                "arms": {arm: _arm(by_arm.get_group(arm)) for arm in ARMS},
                "gaps": {f"top - {other}": mean_interval(gap(rows, other)) for other in ARMS[1:]},
            }
        )
    summary = {"theorems": theorems, "settings": settings, "salience": _salience(salience)}
    return {"verdict": one_layer_verdict(theorems, settings[0]), **summary}


def _arm(dynamics: DataFrame) -> dict[str, float]:
    """Means over seeds; `best` is the best of the mean, so it is a step that all seeds share."""
    columns = ["subject_attention", "accuracy", "accuracy_among", "salience"]
    means = dynamics.groupby("step")[columns].agg(mean)  # by step
    last = means.index[-1]
    accuracy, attention = means["accuracy"], means["subject_attention"]
    found = {
        "attention_start": attention[0],
        "attention_early": attention[min(EARLY, last)],
        "attention_end": attention[last],
        "accuracy_best": accuracy.max(),
        "best_step": accuracy.idxmax(),
        "accuracy_end": accuracy[last],
        "accuracy_among_end": means["accuracy_among"][last],
        "salience_start": means["salience"][0],
        "salience_end": means["salience"][last],
    }
    return {name: number.item() for name, number in found.items()}


def _salience(facts: DataFrame) -> dict[str, Any]:
    """Rank correlation of salience with count in either training, and how the bound of Theorem 4.6 fares."""
    epoch, pretraining = (facts[facts["training"] == training] for training in ("epoch", "pretraining"))

    def correlation(rows: DataFrame) -> float:
        return rank_correlation(rows["count"].to_numpy(float), rows["salience"].to_numpy())

    return {
        "epoch_rank_correlation": correlation(epoch),
        "pretraining_rank_correlation": correlation(pretraining),
        "bound_cases": len(epoch),
        "bound_violations": int((epoch["salience"] < epoch["bound"]).sum()),
        "salience_over_bound": float(np.mean((epoch["salience"] / epoch["bound"]).to_numpy())),
    }


def one_layer_verdict(theorems: Sequence[Found], setting: Found) -> str:
    """Whether the theorems hold, and what finetuning does to attention and accuracy at the first setting."""
    inside = [t for t in theorems if t["assumptions_met"]]
    violations, cases = sum(t["violations"] for t in inside), sum(t["cases"] for t in inside)
    top, bottom = setting["arms"]["top"], setting["arms"]["bottom"]
    held = "every theorem holds" if violations == 0 else f"theorems are violated {violations:,} times"
    return (
        f"Under its assumptions {held} in {cases:,} cases. Attention to the subject goes from "
        f"{top['attention_start']:.2f} to {top['attention_end']:.2f} under FT-Top and to {bottom['attention_end']:.2f} "
        f"under FT-Bottom, whose accuracy goes from {percent(bottom['accuracy_best'])}% at its best to "
        f"{percent(bottom['accuracy_end'])}%, while the salience of the test facts goes from "
        f"{bottom['salience_start']:.3f} to {bottom['salience_end']:.3f}."
    )


def one_layer_tables(summary: Found) -> list[Table]:
    """The theorems, the arms of every setting, the gaps, what is stored, and salience against count."""
    settings, salience = summary["settings"], summary["salience"]
    theorems = [
        {
            **{name: t[name] for name in ("theorem", "statement", "assumptions")},
            **{name: f"{t[name]:,}" for name in ("cases", "violations")},
        }
        for t in summary["theorems"]
    ]
    watched, gaps, stored = [], [], []
    for s in settings:
        front = {"steps": f"{s['steps']:,}"} if len(settings) > 1 else {}
        for name in ARMS:
            arm = s["arms"][name]
            watched.append(
                {
                    **front,
                    "arm": label(name),
                    "Att at 0": f"{arm['attention_start']:.3f}",
                    f"at {EARLY}": f"{arm['attention_early']:.3f}",
                    "at end": f"{arm['attention_end']:.3f}",
                    "best %": percent(arm["accuracy_best"]),
                    "at step": str(arm["best_step"]),
                    "end %": percent(arm["accuracy_end"]),
                    "among %": percent(arm["accuracy_among_end"]),
                }
            )
        gaps.append({**front, **{f"− {label(arm)}": in_points(s["gaps"][f"top - {arm}"], "mean") for arm in ARMS[1:]}})
        stored.append(
            {
                **front,
                "answered as (s, r), %": in_points(s["memorisation"], "mean", sign=""),
                "by the subject alone, %": percent(s["answerable"]["mean"]),
                "salience before": f"{s['arms']['bottom']['salience_start']:.3f}",
                "after FT-Bottom": f"{s['arms']['bottom']['salience_end']:.3f}",
            }
        )
    epoch = {
        "training": "one epoch from zero",
        "rank correlation": f"{salience['epoch_rank_correlation']:.2f}",
        "facts": f"{salience['bound_cases']:,}",
        "below n c1 eps": f"{salience['bound_violations']:,}",
        "salience / bound, mean": f"{salience['salience_over_bound']:.2f}",
    }
    later = {"training": "pretraining", "rank correlation": f"{salience['pretraining_rank_correlation']:.2f}"}
    return [
        table("Theorems on random worlds", theorems),
        table(
            f"Attention to the subject (Att) and accuracy (%) on unseen subjects by finetuning step, "
            f"mean of {settings[0]['seeds']} seeds",
            watched,
        ),
        table("FT-Top minus the others at the end in points, 95% interval over seeds", gaps),
        table("What is stored about the test subjects", stored),
        table("Salience against the number of times a fact was seen", [epoch, dict.fromkeys(epoch, "") | later]),
    ]


# figures


def sweep_figures(tables: Tables, _: Found) -> dict[str, Drawing]:
    """Accuracy by popularity of the last setting; and of a sweep the gap, and every arm, against what was swept."""
    import pandas as pd

    results = pd.DataFrame(tables["results"])
    last = results.iloc[-1]
    figures = {}
    for swept in SWEPT:
        if results[swept].nunique() > 1:
            others = [name for name in SWEPT if name != swept]
            line = results[(results[others] == last[others]).all(axis=1) & (results["top_percent"] == 100)]
            figures[f"gap-by-{swept}"] = gap_figure(line, swept)
            figures[f"accuracy-by-{swept}"] = arms_figure(line, swept)
    figures["accuracy-by-popularity"] = curves_figure(results[(results[[*SWEPT]] == last[[*SWEPT]]).all(axis=1)])
    return figures


_AXES = {"alpha": "Zipf exponent of subject popularity", "steps": "pretraining steps"}
_GAP = "FT-Top − FT-Bottom (points)"


@figure
def gap_figure(results: DataFrame, swept: str) -> Figure:
    """Accuracy of FT-Top minus FT-Bottom, mean over seeds with a band of one standard error."""
    made, axes = new_figure()
    by_arm = results.pivot(index=[swept, "seed"], columns="arm", values="accuracy")
    gap = (100 * (by_arm["top"] - by_arm["bottom"])).rename("gap").reset_index()
    line_with_band(axes, gap, swept, "gap", color=COLOURS["whole"], marker="o")
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set(xlabel=_AXES[swept], ylabel=_GAP)
    return made


@figure
def arms_figure(results: DataFrame, swept: str) -> Figure:
    """Accuracy of every arm, mean over seeds with a band of one standard error."""
    made, axes = new_figure()
    lines_with_bands(axes, results, x=swept, y="accuracy", scale=100, markers=True)
    axes.set(xlabel=_AXES[swept], ylabel="accuracy on unseen subjects (%)")
    axes.legend()
    return made


COLUMNS = 3
AGAINST = {
    "memorisation": "facts memorised (%)",
    "bottom_exposures": "times a fact of FT-Bottom was met in pretraining, on average",
}


def map_figures(_: Tables, summary: Found) -> dict[str, Drawing]:
    """The gap along every factor; against how much is memorised; and against how often FT-Bottom's facts were met."""
    factors = summary["factors"]
    return {
        "gap-by-factor": factors_figure(factors),
        "gap-by-memorisation": against_figure(factors, "memorisation"),
        "gap-by-exposures": against_figure(factors, "bottom_exposures"),
    }


@figure
def factors_figure(factors: Sequence[Found]) -> Figure:
    """A panel a factor: FT-Top minus FT-Bottom at each of its values, with 95% intervals; the default is filled."""
    rows = -(-len(factors) // COLUMNS)
    made, axes = new_figure(height=1.8 * rows, width=7.5, columns=COLUMNS, rows=rows)
    panels, unused = axes.flatten()[: len(factors)], axes.flatten()[len(factors) :]
    for panel, found in zip(panels, factors, strict=True):
        places = found["places"]
        x = range(len(places))
        gap, error = _gap_and_error(places)
        panel.axhline(0, color=GREY, linewidth=1)
        panel.errorbar(x, gap, yerr=error, color=COLOURS["whole"], marker="o", markerfacecolor="white", capsize=2)
        middle = next(number for number, place in enumerate(places) if place["middle"])
        panel.plot(middle, gap[middle], marker="o", color=COLOURS["bottom"], zorder=3)
        panel.set_xticks(x, [f"{place['value']:g}" for place in places])
        panel.tick_params(labelsize=7.5)
        panel.set_title(in_words(found["factor"]), fontsize=9)
    limits = [panel.get_ylim() for panel in panels]
    for panel in panels:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for panel in unused:
        panel.set_axis_off()
    made.supylabel(_GAP, fontsize=9)
    return made


@figure
def against_figure(factors: Sequence[Found], column: str) -> Figure:
    """FT-Top minus FT-Bottom against a column of the places, a line for every factor of pretraining that moves it."""
    import matplotlib

    made, axes = new_figure(height=4.0, width=6.5)
    axes.axhline(0, color=GREY, linewidth=1)
    moving = [found for found in factors if _is_moved(found, "memorisation") and _is_moved(found, column)]
    scale = 100 if column == "memorisation" else 1
    for number, found in enumerate(moving):
        places = found["places"]
        gap, error = _gap_and_error(places)
        x = [scale * place[column] for place in places]
        colour, shape = matplotlib.color_sequences["tab10"][number % 10], "osD^v<>P*X"[number % 10]
        look = {"color": colour, "marker": shape, "markersize": 5, "label": in_words(found["factor"])}
        axes.errorbar(x, gap, yerr=error, elinewidth=0.5, alpha=0.8, **look)
        for place, across, up in zip(places, x, gap, strict=True):
            if not place["middle"]:
                axes.annotate(f"  {place['value']:g}", (across, up), fontsize=7, color=colour)
    if column == "bottom_exposures":
        axes.set_xscale("log")
        axes.set_xticks([2, 5, 10, 20, 50, 100], minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=AGAINST[column], ylabel=_GAP)
    if moving:
        axes.legend()
    return made


def _is_moved(found: Found, column: str) -> bool:
    """Whether a factor changes a column by more than its arms, drawn anew, do by chance."""
    values = [place[column] for place in found["places"]]
    return max(values) > min(values) * (1.2 if column == "bottom_exposures" else 1)


def _gap_and_error(places: Sequence[Found]) -> tuple[list[float], list[float]]:
    """Points of accuracy, and how far their intervals reach; no interval from one seed."""
    gaps = [place["gap"] for place in places]
    errors = [0.0 if gap["low"] is None else 100 * (gap["high"] - gap["difference"]) for gap in gaps]
    return [100 * gap["difference"] for gap in gaps], errors


WATCHED = {
    "subject_attention": ("attention to the subject", 1),
    "accuracy": ("accuracy on unseen subjects (%)", 100),
}


def one_layer_figures(tables: Tables, _: Found) -> dict[str, Drawing]:
    """Attention and accuracy over finetuning steps for every setting, then salience against count."""
    import pandas as pd

    figures = {}
    dynamics, salience = pd.DataFrame(tables["dynamics"]), pd.DataFrame(tables["salience"])
    settings = dynamics.groupby([*SWEPT], sort=False)
    for (alpha, steps), rows in settings:
        suffix = f"-alpha-{alpha:g}-steps-{steps}" if len(settings) > 1 else ""
        for column in WATCHED:
            figures[f"{column.replace('_', '-')}{suffix}"] = steps_figure(rows, column)
    pretrained = salience[salience["steps"] == dynamics["steps"].iloc[-1]]
    figures["salience-by-count-in-one-epoch"] = salience_figure(salience[salience["training"] == "epoch"])
    figures["salience-by-count-in-pretraining"] = salience_figure(pretrained)
    return figures


@figure
def steps_figure(dynamics: DataFrame, column: str) -> Figure:
    """A column over finetuning steps, a line an arm, with a band of one standard error over seeds (C.1's figure)."""
    made, axes = new_figure()
    axis, scale = WATCHED[column]
    lines_with_bands(axes, dynamics, x="step", y=column, scale=scale)
    # Both stages are seen on an axis that gives the first ten steps as much room as the next hundred.
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="finetuning steps", ylabel=axis)
    axes.legend()
    return made


@figure
def salience_figure(facts: DataFrame) -> Figure:
    """Salience of every fact of every seed against how often it was seen, with Theorem 4.6's bound where it holds."""
    made, axes = new_figure()
    least, most = facts["count"].min(), facts["count"].max()
    axes.scatter(facts["count"], facts["salience"], s=8, alpha=0.3, color=COLOURS["whole"])
    slope = (facts["bound"] / facts["count"]).min()  # with the smallest c1 of all seeds; none after pretraining
    if slope == slope:
        axes.plot([least, most], [least * slope, most * slope], color=COLOURS["bottom"], label="n c1 ε (Theorem 4.6)")
        axes.legend()
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0 if least == 0 else 0.8)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="times the fact was seen, n", ylabel="salience S(s, r, a)")
    return made
