"""Figures of the simulations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.report.figures import (
    COLOURS,
    GREY,
    Drawing,
    curves_figure,
    figure,
    line_with_band,
    lines_with_bands,
    new_figure,
)
from curate.simulation.settings import Tables
from curate.simulation.summary import SWEPT, Found, in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


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
    moving = [found for found in factors if _moves(found, "memorisation") and _moves(found, column)]
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


def _moves(found: Found, column: str) -> bool:
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
