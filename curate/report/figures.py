"""Every figure, in one style."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.records import is_untouched
from curate.summary import bin_edges, is_skewed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RunTables:
    """What a run's files hold: all that its report is made from."""

    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]
    predictions: Rows
    attention: Rows = ()
    maps: Rows = ()


def read_tables(folder: Path, manifest: Mapping[str, Any]) -> RunTables:
    """Read a run's summary and tables; what the run does not have is empty."""

    def rows(name: str) -> Rows:
        path = folder / f"{name}.parquet"
        return pq.read_table(path).to_pylist() if path.is_file() else []

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    names = ("predictions", "attention", "attention_maps")
    return RunTables(summary, manifest, *map(rows, names))


P = ParamSpec("P")

INK = "#1b2026"
"""The colour of text and axes in a PNG; in a page they have the colour of its text."""

# After Okabe and Ito: told apart without red and green, and readable on white and on black.
COLOURS = {"base": "#868c96", "top": "#0a9270", "random": "#a667b0", "bottom": "#d55e00", "whole": "#2f7fc9"}
FEW_SHOT = "#5d6570"
"""The untouched model after solved examples."""
_OTHERS = ("#b8860b", "#3b8ea5", "#7a5cc0", "#5f7a2f", "#c2477f")

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # a relation called $x$ is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "curate",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, drawn."""

    png: bytes
    svg: str


def drawn(make: Callable[P, Figure]) -> Callable[P, Drawing]:
    """Decorates a function that makes a figure: its figure comes out drawn in the one style."""

    @wraps(make)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        import matplotlib

        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            # The PNG's font lacks some scripts; the page's text is set in the reader's own fonts.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure = make(*args, **kwargs)
            return Drawing(png(figure), _svg(figure))

    return draw


def new_figure(height: float = 3.1, width: float = 5.0, columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """A figure (inches) and its axes, an array of them if there are several; narrow enough for a phone."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        return figure, figure.subplots(rows, columns)


def colour(arm: str, position: int = 0) -> str:
    """The colour of an arm; that of an arm without one of the paper's names goes by its position among such arms."""
    if is_untouched(arm):
        return COLOURS.get(arm, FEW_SHOT)
    return COLOURS.get(arm) or _OTHERS[position % len(_OTHERS)]


def palette(arms: Sequence[str]) -> dict[str, str]:
    """The colour of every arm, the same in all figures of a run."""
    others = [arm for arm in arms if arm not in COLOURS and not is_untouched(arm)]
    return {arm: colour(arm, others.index(arm) if arm in others else 0) for arm in arms}


def line_style(arm: str) -> str:
    """Dashed for the untouched model."""
    return {"base": "--"}.get(arm, "-.") if is_untouched(arm) else "-"


def marker(arm: str) -> str:
    """A shape for each of the paper's arms, for readers who do not go by colour."""
    return {"base": "x", "top": "^", "random": "s", "bottom": "v", "whole": "D"}.get(
        arm, "+" if is_untouched(arm) else "o"
    )


def label(arm: str) -> str:
    """The paper's name for an arm: FT-Top for `top`."""
    return f"FT-{arm.capitalize()}" if arm in COLOURS and arm != "base" else arm


def short(text: str, longest: int = 28) -> str:
    """Text that fits beside an axis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    """SVG to stand inside a page: no XML prologue, no names, no size of its own, text in the page's colour."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = re.sub(r"<svg [^>]*viewBox=\"([^\"]*)\"[^>]*>", r'<svg viewBox="\1">', svg[svg.index("<svg") :])
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would apply to the whole page
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg).replace("xlink:href", "href").replace(INK, "currentColor")
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)


BINS = 40


def histogram_figure(name: str, scores: NDArray[np.float64], splits: dict[str, NDArray[np.bool_]]) -> bytes:
    """How many rows of all, and of each split, have which score; `scores` (N,) with NaN where there is none."""

    finite = np.isfinite(scores)
    edges: Any = bin_edges(scores[finite], BINS) if finite.any() else np.array([0.0, 1.0])
    figure, axes = new_figure()
    axes.hist(scores[finite], bins=edges, color="#d5d8dc", label="all rows")
    for position, (split, mask) in enumerate(splits.items()):
        values = scores[mask & finite]
        axes.hist(
            values,
            bins=edges,
            histtype="step",
            linewidth=1.5,
            color=colour(split, position),
            label=split,
            zorder=2 + len(splits) - position,  # whole, which comes last, hides none of the others
        )
    if finite.any() and is_skewed(scores[finite]):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"{name} (higher is better known)")
    axes.set_ylabel("rows")
    axes.legend(frameon=False)
    return png(figure)


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


def advantage(said: Mapping[str, Rows], pair: tuple[str, str] | None) -> float:
    """How much more often one arm of a pair is right than the other on one question, over seeds: -1 to 1.

    Below that, questions the arms disagree on at all come before those they agree on.
    """
    shares = {arm: sum(row["correct"] for row in rows) / len(rows) for arm, rows in said.items() if rows}
    lead = shares.get(pair[0], 0) - shares.get(pair[1], 0) if pair else 0
    return lead + 1e-3 * (len(set(shares.values())) > 1)
