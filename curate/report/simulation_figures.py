"""Figures of the experiments on synthetic facts, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.report.drawing import colour, label, new_figure, png
from curate.report.figures import curves_figure
from curate.simulation.experiment import Tables
from curate.simulation.synthetic_summary import ARMS, SWEPT, accuracies, gaps, settings_of


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
    import numpy as np

    x = [setting[swept] for setting in settings]
    y = 100 * np.array(values)  # (settings, seeds)
    mean, seeds = y.mean(axis=1), y.shape[1]
    error = np.std(y, axis=1, ddof=1) / seeds**0.5 if seeds > 1 else np.zeros(len(x))
    axes.plot(x, mean, color=line_colour, label=name, marker="o")
    axes.fill_between(x, mean - error, mean + error, color=line_colour, alpha=0.15, linewidth=0)


def _axis(swept: str) -> str:
    return {"alpha": "Zipf exponent of subject popularity", "steps": "pretraining steps"}[swept]
