"""Heat maps of attention: two arms side by side on one question, the subject's tokens marked (paper, Figure 10)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.report.answers import advantage
from curate.report.drawing import INK, drawn, label, new_figure, short
from curate.report.tables import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 3
LONGEST = 30
"""The last tokens of a prompt that a heat map has room for."""
MARK = "#d55e00"


def telling_maps(maps: Rows, predictions: Rows, pair: tuple[str, str]) -> list[dict[str, Any]]:
    """The questions to show: those of the maps on which the first arm is right most and the second wrong most often.

    Each with its question, what the two arms answered (at the seed of the map), and their maps' rows by layer.
    """
    by_id: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in maps:
        if row["arm"] in pair:
            by_id[row["id"]][row["arm"]].append(row)
    said: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in predictions:
        if row["id"] in by_id and row["arm"] in pair:
            said[row["id"]][row["arm"]].append(row)
    order = sorted(by_id, key=lambda id: -advantage(said[id], pair))
    return [
        {
            "question": said[id][pair[0]][0]["question"],
            "said": [_same_seed(said[id][arm], by_id[id][arm][0]["seed"]) for arm in pair],
            "layers": [sorted(by_id[id][arm], key=lambda row: row["layer"]) for arm in pair],
        }
        for id in order[:SHOWN]
    ]


def _same_seed(predictions: Rows, seed: int) -> Mapping[str, Any]:
    return next(row for row in predictions if row["seed"] == seed)


@drawn
def heatmap_figure(layers: Sequence[Rows]) -> Figure:
    """One panel an arm: layers down, tokens across, attention from the last token as colour, one scale for both.

    Darkest is the largest weight on any token but the first, where a model's attention rests when it looks at nothing.
    """
    import numpy as np

    weights = [np.array([row["attention"][-LONGEST:] for row in rows]) for rows in layers]  # (L, T) each
    tokens = layers[0][0]["tokens"][-LONGEST:]
    subject = layers[0][0]["subject"][-LONGEST:]
    numbers = [row["layer"] for row in layers[0]]
    figure, panels = new_figure(height=1.4 + min(4.0, 0.28 * len(numbers)), width=2.2 + 0.36 * len(tokens), columns=2)
    most = max(float(w[:, 1:].max(initial=0.01)) for w in weights)
    for axes, panel, rows in zip(panels, weights, layers, strict=True):
        image = axes.imshow(panel, aspect="auto", interpolation="none", cmap="viridis", vmin=0, vmax=most)
        image.set_extent((-0.5, len(tokens) - 0.5, numbers[-1] + 0.5, numbers[0] - 0.5))
        axes.set_title(label(rows[0]["arm"]), fontsize=10)
        axes.set_xticks(range(len(tokens)), [short(_visible(token), 12) for token in tokens], rotation=90, fontsize=8)
        axes.tick_params(length=0)
        for tick, marked in zip(axes.get_xticklabels(), subject, strict=True):
            tick.set(color=MARK if marked else INK, fontweight="bold" if marked else "normal")
        for position in np.flatnonzero(subject):
            axes.axvspan(position - 0.5, position + 0.5, fill=False, edgecolor=MARK, linewidth=1.2)
        axes.yaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel("layer")
    figure.colorbar(image, ax=panels, label="attention", extend="max", aspect=14, shrink=0.9)
    return figure


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").strip() or "␣"
