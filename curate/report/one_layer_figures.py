"""Figures of the one-layer experiment, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curate.report.drawing import colour, label, new_figure, png
from curate.simulation.experiment import Row, Tables
from curate.simulation.one_layer.summary import watched
from curate.simulation.synthetic_summary import ARMS, settings_of


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
    import numpy as np

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
