"""The figures of a run, from the rows of its tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.report.drawing import colour as colour
from curate.report.drawing import drawn, label, line_style, marker, new_figure, palette, short
from curate.report.drawing import png as png
from curate.report.tables import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@drawn
def accuracy_figure(arms: Rows) -> Figure:
    """A bar an arm, with the standard error over seeds; `arms` are the rows of summary.json."""
    figure, axes = new_figure()
    names = [row["arm"] for row in arms]
    bars = axes.bar(
        [short(label(name), 14) for name in names],
        [100 * row["accuracy"] for row in arms],
        yerr=[100 * (row["stderr"] or 0) for row in arms],
        error_kw={"elinewidth": 1.2, "capsize": 4},
        color=list(palette(names).values()),
    )
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_ylabel("accuracy on the test set (%)")
    axes.margins(y=0.15)
    return figure


@drawn
def curves_figure(curves: Rows) -> Figure:
    """Accuracy on the top-x% most popular test examples, one line an arm (paper, Figures 6 and 7).

    The band is the rows' 95% interval where they have one; else one standard error over the rows of several seeds.
    """
    figure, axes = new_figure()
    _lines_with_bands(axes, curves, x="top_percent", y="accuracy", scale=100)
    axes.set_xlabel("test questions, the most popular x%")
    axes.set_ylabel("accuracy (%)")
    axes.legend(fontsize=8.5)
    return figure


@drawn
def attention_figure(attention: Rows) -> Figure:
    """Mean attention to the subject per layer, a line an arm, with one standard error over seeds (paper, Figure 5)."""
    figure, axes = new_figure()
    _lines_with_bands(axes, attention, x="layer", y="subject_attention", scale=1, markers=True)
    axes.set_xlabel("layer")
    axes.set_ylabel("attention to the subject")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8.5)
    return figure


def _lines_with_bands(axes: Any, rows: Rows, x: str, y: str, scale: float, markers: bool = False) -> None:
    grouped: dict[str, dict[float, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        grouped[row["arm"]][row[x]].append(row)
    colours = palette(list(grouped))
    for arm, points in grouped.items():
        places = sorted(points)
        middle, low, high = zip(*(_with_band(points[place], y) for place in places), strict=True)
        look = {"linestyle": line_style(arm), "marker": marker(arm) if markers else None}
        axes.plot(places, [scale * v for v in middle], color=colours[arm], label=label(arm), **look)
        band = [scale * v for v in low], [scale * v for v in high]
        axes.fill_between(places, *band, color=colours[arm], alpha=0.16, linewidth=0)


def _with_band(rows: Rows, y: str) -> tuple[float, float, float]:
    """The mean, and where the band around it begins and ends."""
    import numpy as np

    if "low" in rows[0]:
        return rows[0][y], rows[0]["low"], rows[0]["high"]
    values = [row[y] for row in rows]
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
    return mean, mean - error, mean + error


@drawn
def relations_figure(relations: Rows) -> Figure:
    """Accuracy per relation, a mark an arm with its 95% interval; at most 20, those with most test questions."""
    names = list(dict.fromkeys(row["relation"] for row in sorted(relations, key=lambda row: -row["n"])))[:20]
    figure, axes = new_figure(height=1.4 + 0.42 * len(names))
    _marks(axes, relations, "relation", names, vertical=False)
    n = {row["relation"]: row["n"] for row in relations}
    axes.set_yticks(range(len(names)), [f"{short(name)} ({n[name]})" for name in names])
    axes.set_xlabel("accuracy (%)")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.2)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8.5)
    return figure


@drawn
def quintiles_figure(quintiles: Rows) -> Figure:
    """Accuracy on each fifth of the test questions by popularity, a mark an arm with its 95% interval."""
    names = sorted({row["quintile"] for row in quintiles})
    figure, axes = new_figure()
    _marks(axes, quintiles, "quintile", names, vertical=True)
    axes.set_xticks(range(len(names)), [_fifth(name, names) for name in names])
    axes.set_xlabel("test questions by popularity, in fifths")
    axes.set_ylabel("accuracy (%)")
    axes.grid(axis="y", alpha=0.2)
    axes.legend(fontsize=8.5)
    return figure


def _fifth(quintile: int, quintiles: Sequence[int]) -> str:
    if quintile == quintiles[0]:
        return f"{quintile}\nmost popular"
    return f"{quintile}\nleast popular" if quintile == quintiles[-1] else str(quintile)


def _marks(axes: Any, rows: Rows, key: str, places: Sequence[Any], vertical: bool) -> None:
    """A mark with its interval for every arm and place, the arms of one place side by side."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    colours = palette(arms)
    for number, arm in enumerate(arms):
        chosen = [row for row in rows if row["arm"] == arm and row[key] in places]
        at = [places.index(row[key]) + 0.14 * (number - (len(arms) - 1) / 2) for row in chosen]
        values = [100 * row["accuracy"] for row in chosen]
        errors = [
            [100 * max(0, row["accuracy"] - row["low"]) for row in chosen],
            [100 * max(0, row["high"] - row["accuracy"]) for row in chosen],
        ]
        look = {"color": colours[arm], "label": label(arm), "fmt": marker(arm), "elinewidth": 1.1}
        if vertical:
            axes.errorbar(at, values, yerr=errors, **look)
        else:
            axes.errorbar(values, at, xerr=errors, **look)


@drawn
def popularity_figure(popularity: Mapping[str, Any]) -> Figure:
    """How popular the examples of every arm and of the test set are: shares per bin, as steps.

    `popularity` is that of summary.json: bin edges (E+1), and for each arm E shares; the axis may be a log one.
    """
    figure, axes = new_figure()
    arms = list(popularity["shares"])
    colours = palette(arms)
    for arm in arms:
        shares = [100 * share for share in popularity["shares"][arm]]
        look = {"color": "#868c96", "linestyle": ":"} if arm == "test" else {"color": colours[arm]}
        axes.stairs(
            shares, popularity["edges"], label="test set" if arm == "test" else label(arm), linewidth=1.8, **look
        )
    if popularity["log"]:
        axes.set_xscale("symlog", linthresh=1)
        axes.xaxis.set_major_formatter(_magnitude)
    axes.set_xlabel(short(popularity["column"], 40))
    axes.set_ylabel("share of examples (%)")
    axes.legend(fontsize=8.5)
    return figure


def _magnitude(value: float, _: int | None = None) -> str:
    """1k for 1,000 and 1M for 1,000,000."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"


@drawn
def training_loss_figure(training: Rows) -> Figure:
    """Loss along training, a thin line each seed."""
    return _along_training(training, "train_loss", 1, "training loss (nats per token)")


@drawn
def held_out_figure(training: Rows) -> Figure:
    """Accuracy on the arm's held-out part along training, a thin line each seed."""
    return _along_training(training, "held_out_accuracy", 100, "held-out accuracy (%)")


@drawn
def test_accuracy_figure(training: Rows) -> Figure:
    """Accuracy on some test questions along training, a thin line each seed."""
    return _along_training(training, "test_accuracy", 100, "test accuracy (%)")


def _along_training(training: Rows, column: str, scale: float, name: str) -> Figure:
    figure, axes = new_figure()
    runs: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for row in training:
        runs[row["arm"], row["seed"]].append((row["step"], scale * row[column]))
    colours = palette([arm for arm, _ in runs])
    named: set[str] = set()
    for (arm, _), points in runs.items():
        first = None if arm in named else label(arm)
        axes.plot(*zip(*points, strict=True), color=colours[arm], label=first, linewidth=1.1, alpha=0.85)
        named.add(arm)
    axes.set_xlabel("step")
    axes.set_ylabel(name)
    axes.legend(fontsize=8.5)
    return figure
