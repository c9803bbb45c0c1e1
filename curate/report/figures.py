"""Figures as PNG bytes."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"base": "#8a8f98", "top": "#1a7f5a", "random": "#b8860b", "bottom": "#b3362b", "whole": "#2b5fb3"}
_OTHERS = ("#7a4fb3", "#3b8ea5", "#a5673b", "#5a6b2f")


def colour(arm: str, position: int = 0) -> str:
    """The colour of an arm, the same in every figure."""
    return COLOURS.get(arm, _OTHERS[position % len(_OTHERS)])


def label(arm: str) -> str:
    """The paper's name for an arm: FT-Top for `top`."""
    return f"FT-{arm.capitalize()}" if arm in COLOURS and arm != "base" else arm


def accuracy_figure(arms: Sequence[Mapping[str, Any]]) -> bytes:
    """A bar an arm, with the standard error over seeds; `arms` are the rows of summary.json."""
    figure, axes = _figure()
    names = [row["arm"] for row in arms]
    heights = [100 * row["accuracy"] for row in arms]
    errors = [100 * (row["stderr"] or 0) for row in arms]
    bars = axes.bar(
        [label(n) for n in names],
        heights,
        yerr=errors,
        capsize=4,
        color=[colour(n, i) for i, n in enumerate(names)],
    )
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_ylabel("accuracy on the test set (%)")
    axes.margins(y=0.15)
    return _png(figure)


def curves_figure(curves: Sequence[Mapping[str, Any]]) -> bytes:
    """Accuracy on the top-x% most popular test examples, one line an arm (paper, Figures 6 and 7).

    The line is the mean over seeds and the band one standard error either side.
    """
    import numpy as np

    figure, axes = _figure()
    grouped: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in curves:
        grouped[row["arm"]][row["top_percent"]].append(100 * row["accuracy"])
    for position, (arm, points) in enumerate(grouped.items()):
        x = sorted(points)
        mean = np.array([np.mean(points[p]) for p in x])
        error = np.array([np.std(points[p], ddof=1) / len(points[p]) ** 0.5 if len(points[p]) > 1 else 0 for p in x])
        axes.plot(x, mean, color=colour(arm, position), label=label(arm), linestyle="--" if arm == "base" else "-")
        axes.fill_between(x, mean - error, mean + error, color=colour(arm, position), alpha=0.15, linewidth=0)
    axes.set_xlabel("test questions, the most popular x%")
    axes.set_ylabel("accuracy (%)")
    axes.legend(frameon=False)
    return _png(figure)


def _figure() -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
