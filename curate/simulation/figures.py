"""Figures of the simulations."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curate.report.figures import COLOURS, colour, curves_figure, label, new_figure, png
from curate.report.page import flat, render
from curate.simulation.dynamics import watched
from curate.simulation.map import spoken
from curate.simulation.summary import ARMS, SWEPT, accuracies, gaps, settings_of
from curate.simulation.synthetic import Row, Shown, Tables


def simulation_page(
    title: str, verdict: str, tables: Sequence[Shown], figures: Mapping[str, bytes], manifest: Mapping[str, Any]
) -> str:
    """One HTML page that needs no network; all text is escaped."""
    return render(
        "simulation.html.j2",
        title=title,
        verdict=verdict,
        tables=tables,
        figures={name: base64.b64encode(png).decode() for name, png in figures.items()},
        experiment=manifest["experiment"],
        settings=list(flat(manifest["settings"])),
        manifest=json.dumps(manifest, indent=2, ensure_ascii=False),
    )


def synthetic_figures(tables: Tables) -> dict[str, bytes]:
    """Accuracy by popularity of the last setting; and of a sweep the gap, and every arm, against what was swept."""
    results = tables["results"]
    settings = settings_of(results)
    figures = {}
    for swept in SWEPT:
        if len({setting[swept] for setting in settings}) > 1:
            other = {k: v for k, v in settings[-1].items() if k != swept}
            line = [setting for setting in settings if setting.items() >= other.items()]
            figures[f"gap-by-{swept}"] = gap_figure(results, line, swept)
            figures[f"accuracy-by-{swept}"] = arms_figure(results, line, swept)
    last = [row for row in results if row.items() >= settings[-1].items()]
    figures["accuracy-by-popularity"] = curves_figure(last).png
    return figures


def gap_figure(results: Sequence[dict[str, Any]], settings: Sequence[dict[str, Any]], swept: str) -> bytes:
    """Accuracy of FT-Top minus FT-Bottom, mean over seeds with a band of one standard error."""
    figure, axes = new_figure()
    _line(axes, settings, swept, [gaps(results, **s) for s in settings], colour("whole"), "FT-Top − FT-Bottom")
    axes.axhline(0, color="#8a8f98", linewidth=1)
    axes.set_xlabel(_axis(swept))
    axes.set_ylabel("FT-Top − FT-Bottom (points)")
    return png(figure)


def arms_figure(results: Sequence[dict[str, Any]], settings: Sequence[dict[str, Any]], swept: str) -> bytes:
    """Accuracy of every arm, mean over seeds with a band of one standard error."""
    figure, axes = new_figure()
    for arm in ARMS:
        by_setting = [list(accuracies(results, arm, **s).values()) for s in settings]
        _line(axes, settings, swept, by_setting, colour(arm), label(arm))
    axes.set_xlabel(_axis(swept))
    axes.set_ylabel("accuracy on unseen subjects (%)")
    axes.legend(frameon=False)
    return png(figure)


def _line(
    axes: Any,
    settings: Sequence[dict[str, Any]],
    swept: str,
    values: Sequence[Sequence[float]],
    line_colour: str,
    name: str,
) -> None:
    x = [setting[swept] for setting in settings]
    y = 100 * np.array(values)  # (settings, seeds)
    mean, seeds = y.mean(axis=1), y.shape[1]
    error = np.std(y, axis=1, ddof=1) / seeds**0.5 if seeds > 1 else np.zeros(len(x))
    axes.plot(x, mean, color=line_colour, label=name, marker="o")
    axes.fill_between(x, mean - error, mean + error, color=line_colour, alpha=0.15, linewidth=0)


def _axis(swept: str) -> str:
    return {"alpha": "Zipf exponent of subject popularity", "steps": "pretraining steps"}[swept]


COLUMNS = 3
GREY = "#8a8f98"
AGAINST = {
    "memorisation": "facts memorised (%)",
    "bottom_exposures": "times a fact of FT-Bottom was met in pretraining, on average",
}


def map_figures(summary: Mapping[str, Any]) -> dict[str, bytes]:
    """The gap along every factor; against how much is memorised; and against how often FT-Bottom's facts were met."""
    factors = summary["factors"]
    return {
        "gap-by-factor": factors_figure(factors),
        "gap-by-memorisation": against_figure(factors, "memorisation"),
        "gap-by-exposures": against_figure(factors, "bottom_exposures"),
    }


def factors_figure(factors: Sequence[Mapping[str, Any]]) -> bytes:
    """A panel a factor: FT-Top minus FT-Bottom at each of its values, with 95% intervals; the default is filled."""
    rows = -(-len(factors) // COLUMNS)
    figure, axes = new_figure(height=1.8 * rows, width=7.5, columns=COLUMNS, rows=rows)
    panels = axes.flatten()
    for panel, found in zip(panels, factors, strict=False):
        places = found["places"]
        x = range(len(places))
        gap, error = _gap_and_error(places)
        panel.axhline(0, color=GREY, linewidth=1)
        panel.errorbar(x, gap, yerr=error, color=COLOURS["whole"], marker="o", markerfacecolor="white", capsize=2)
        middle = next(number for number, place in enumerate(places) if place["middle"])
        panel.plot(middle, gap[middle], marker="o", color=COLOURS["bottom"], zorder=3)
        panel.set_xticks(x, [f"{place['value']:g}" for place in places])
        panel.tick_params(labelsize=7.5)
        panel.set_title(spoken(found["factor"]), fontsize=9)
    limits = [panel.get_ylim() for panel in panels[: len(factors)]]
    for panel in panels[: len(factors)]:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for panel in panels[len(factors) :]:
        panel.set_axis_off()
    figure.supylabel("FT-Top − FT-Bottom (points)", fontsize=9)
    return png(figure)


def against_figure(factors: Sequence[Mapping[str, Any]], column: str) -> bytes:
    """FT-Top minus FT-Bottom against a column of the places, a line for every factor of pretraining that moves it."""
    import matplotlib

    figure, axes = new_figure(height=4.0, width=6.5)
    axes.axhline(0, color=GREY, linewidth=1)
    colours = matplotlib.color_sequences["tab10"]
    moving = [found for found in factors if _moves(found, "memorisation") and _moves(found, column)]
    scale = 100 if column == "memorisation" else 1
    for number, found in enumerate(moving):
        places = found["places"]
        gap, error = _gap_and_error(places)
        x = [scale * place[column] for place in places]
        look = {"color": colours[number % 10], "marker": "osD^v<>P*X"[number % 10], "markersize": 5}
        axes.errorbar(x, gap, yerr=error, label=spoken(found["factor"]), elinewidth=0.5, alpha=0.8, **look)
        for place, across, up in zip(places, x, gap, strict=True):
            if not place["middle"]:
                axes.annotate(f"  {place['value']:g}", (across, up), fontsize=7, color=colours[number % 10])
    if column == "bottom_exposures":
        axes.set_xscale("log")
        axes.set_xticks([2, 5, 10, 20, 50, 100], minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(AGAINST[column])
    axes.set_ylabel("FT-Top − FT-Bottom (points)")
    axes.legend(frameon=False, fontsize=8)
    return png(figure)


def _moves(found: Mapping[str, Any], column: str) -> bool:
    """Whether a factor changes a column by more than its arms, drawn anew, do by chance."""
    values = [place[column] for place in found["places"]]
    return max(values) > min(values) * (1.2 if column == "bottom_exposures" else 1)


def _gap_and_error(places: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Points of accuracy, and how far their intervals reach; no interval from one seed."""
    gaps = [place["gap"] for place in places]
    return [100 * gap["difference"] for gap in gaps], [
        0.0 if gap["low"] is None else 100 * (gap["high"] - gap["difference"]) for gap in gaps
    ]


def one_layer_figures(tables: Tables) -> dict[str, bytes]:
    """Attention and accuracy over finetuning steps for every setting, then salience against count."""
    settings = settings_of(tables["results"])
    figures = {}
    for setting in settings:
        suffix = "" if len(settings) == 1 else f"-alpha-{setting['alpha']:g}-steps-{setting['steps']}"
        for column, (axis, percent) in _WATCHED.items():
            name = column.replace("_", "-")
            figures[f"{name}{suffix}"] = steps_figure(tables["dynamics"], setting, column, axis, percent)
    epoch = [row for row in tables["salience"] if row["training"] == "epoch"]
    pretrained = [row for row in tables["salience"] if row["steps"] == settings[-1]["steps"]]
    figures["salience-by-count-in-one-epoch"] = salience_figure(epoch)
    figures["salience-by-count-in-pretraining"] = salience_figure(pretrained)
    return figures


_WATCHED = {
    "subject_attention": ("attention to the subject", False),
    "accuracy": ("accuracy on unseen subjects (%)", True),
}


def steps_figure(dynamics: Sequence[Row], setting: Mapping[str, Any], column: str, axis: str, percent: bool) -> bytes:
    """A column over finetuning steps, a line an arm, with a band of one standard error over seeds (C.1's figure)."""

    figure, axes = new_figure()
    for arm in ARMS:
        by_step = watched(dynamics, arm, column, **setting)
        y = np.array(list(by_step.values())) * (100 if percent else 1)  # (steps, seeds)
        mean, seeds = y.mean(axis=1), y.shape[1]
        error = np.std(y, axis=1, ddof=1) / seeds**0.5 if seeds > 1 else np.zeros(len(mean))
        axes.plot(list(by_step), mean, color=colour(arm), label=label(arm))
        axes.fill_between(list(by_step), mean - error, mean + error, color=colour(arm), alpha=0.15, linewidth=0)
    # Both stages are seen on an axis that gives the first ten steps as much room as the next hundred.
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("finetuning steps")
    axes.set_ylabel(axis)
    axes.legend(frameon=False)
    return png(figure)


def salience_figure(rows: Sequence[Row]) -> bytes:
    """Salience of every fact of every seed against how often it was seen, with Theorem 4.6's bound where it holds."""
    figure, axes = new_figure()
    axes.scatter([r["count"] for r in rows], [r["salience"] for r in rows], s=8, alpha=0.3, color=colour("whole"))
    bounds = [row["bound"] / row["count"] for row in rows if row["bound"] is not None]
    if bounds:
        ends = [min(row["count"] for row in rows), max(row["count"] for row in rows)]
        line = [n * min(bounds) for n in ends]  # with the smallest c1 of all seeds
        axes.plot(ends, line, color=colour("bottom"), label="n c1 ε (Theorem 4.6)")
        axes.legend(frameon=False)
        axes.set_yscale("log")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0 if min(r["count"] for r in rows) == 0 else 0.8)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("times the fact was seen, n")
    axes.set_ylabel("salience S(s, r, a)")
    return png(figure)
