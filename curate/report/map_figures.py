"""Figures of the map of the gap, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curate.report.drawing import COLOURS, new_figure, png
from curate.simulation.map_summary import spoken

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
