"""Every figure, in one style. To add one to the report: draw it, add it to `FIGURES`, show it in a template."""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from curate.records import is_untouched
from curate.summary import bin_edges, is_skewed

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Rows = Sequence[Mapping[str, Any]]
P = ParamSpec("P")

INK = "#1b2026"
"""The colour of text and axes in a PNG; in a page they have the colour of its text."""
GREY = "#868c96"

# After Okabe and Ito: told apart without red and green, and readable on white and on black.
COLOURS = {"base": GREY, "top": "#0a9270", "random": "#a667b0", "bottom": "#d55e00", "whole": "#2f7fc9"}
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
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # a relation called $x$ is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "curate",
}


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The PNG's font lacks some scripts; the page's text is set in the reader's own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure in the one style, to be had as a PNG or as SVG: the same every time."""

    figure: Figure

    def _saved(self, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        with _style():
            self.figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()

    def png(self) -> bytes:
        """The bytes of a PNG file."""
        return self._saved("png", metadata={"Software": None})

    def svg(self) -> str:
        """SVG to stand inside a page: no XML prologue, no names, no size of its own, text in the page's colour."""
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        svg = self._saved("svg", transparent=True, metadata=nothing).decode()
        svg = re.sub(r"<svg [^>]*viewBox=\"([^\"]*)\"[^>]*>", r'<svg viewBox="\1">', svg[svg.index("<svg") :])
        svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would apply to the whole page
        svg = re.sub(r'<g id="[^"]*">', "<g>", svg).replace("xlink:href", "href").replace(INK, "currentColor")
        return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)


def figure(make: Callable[P, Figure]) -> Callable[P, Drawing]:
    """Decorates a function that makes a figure: it is made in the one style."""

    @wraps(make)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        with _style():
            return Drawing(make(*args, **kwargs))

    return draw


def new_figure(height: float = 3.1, width: float = 5.0, columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """A figure (inches) and its axes, an array of them if there are several; narrow enough for a phone."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=150, layout="constrained")
    return made, made.subplots(rows, columns)


def palette(arms: Sequence[str]) -> dict[str, str]:
    """The colour of every arm, the same in all figures of a run; those without one of the paper's names take turns."""
    others = [arm for arm in arms if arm not in COLOURS and not is_untouched(arm)]
    turns = {arm: _OTHERS[number % len(_OTHERS)] for number, arm in enumerate(others)}
    return {arm: COLOURS.get(arm) or turns.get(arm, FEW_SHOT) for arm in arms}


def marker(arm: str) -> str:
    """A shape for each of the paper's arms, for readers who do not go by colour."""
    shapes = {"base": "x", "top": "^", "random": "s", "bottom": "v", "whole": "D"}
    return shapes.get(arm, "+" if is_untouched(arm) else "o")


def label(arm: str) -> str:
    """The paper's name for an arm: FT-Top for `top`."""
    return f"FT-{arm.capitalize()}" if arm in COLOURS and arm != "base" else arm


def short(text: str, longest: int = 28) -> str:
    """Text that fits beside an axis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def lines_with_bands(axes: Any, rows: Rows, x: str, y: str, scale: float = 1.0, markers: bool = False) -> None:
    """A line an arm over `x`: `y`, mean of the rows of one `x`, times `scale`, with a band around it.

    The band is the rows' 95% interval where they have one; else one standard error over the rows of several seeds.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    colours = palette(frame["arm"].unique())
    for arm, of_arm in frame.groupby("arm", sort=False):
        line = ("--" if arm == "base" else "-.") if is_untouched(arm) else "-"
        look = {"linestyle": line, "marker": marker(arm) if markers else None, "label": label(arm)}
        line_with_band(axes, of_arm, x, y, scale, color=colours[arm], **look)


def line_with_band(axes: Any, rows: DataFrame, x: str, y: str, scale: float = 1.0, **look: Any) -> None:
    """One such line."""
    by_x = rows.groupby(x)
    mean, error = by_x[y].mean(), by_x[y].sem().fillna(0)
    low, high = (by_x["low"].first(), by_x["high"].first()) if "low" in rows else (mean - error, mean + error)
    axes.plot(mean.index, scale * mean, **look)
    axes.fill_between(mean.index, scale * low, scale * high, color=look["color"], alpha=0.16, linewidth=0)


@figure
def accuracy_figure(arms: Rows) -> Figure:
    """A bar an arm, with the standard error over seeds; `arms` are the rows of summary.json."""
    made, axes = new_figure()
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
    return made


def ladders(arms: Rows) -> list[dict[str, Any]]:
    """The arms that `select --sizes` made, `top-60` and `top-240`, and the `top` they lie within, by its name.

    Empty where no two arms are of one ladder.
    """
    found = []
    names = {row["arm"] for row in arms}
    for row in arms:
        name, _, size = row["arm"].rpartition("-")
        rung = bool(name) and size.isdigit() and row["n_train"] <= int(size)
        if rung or any(other.startswith(f"{row['arm']}-") for other in names):
            error = row["stderr"] or 0
            ends = {"low": row["accuracy"] - error, "high": row["accuracy"] + error}
            found.append({"arm": name if rung else row["arm"], **{k: row[k] for k in ("n_train", "accuracy")}, **ends})
    several = Counter(row["arm"] for row in found)
    return [row for row in found if several[row["arm"]] > 1]


@figure
def sizes_figure(rungs: Rows) -> Figure:
    """Accuracy against the size of the finetuning set, a line a ladder, with one standard error over seeds."""
    made, axes = new_figure()
    lines_with_bands(axes, rungs, x="n_train", y="accuracy", scale=100, markers=True)
    axes.set_xscale("log")
    sizes = sorted({row["n_train"] for row in rungs})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("finetuning examples")
    axes.set_ylabel("accuracy (%)")
    axes.legend()
    return made


@figure
def search_figure(standings: Rows, last: Rows, seen: Sequence[int]) -> Figure:
    """Accuracy of every candidate of a search over the rungs, and, where it came to, against its size.

    `standings` are those of summary.json, `last` the last of each with its `rows`, `seen` the examples that a candidate
    may have seen at each rung.
    """
    import pandas as pd

    made, (left, right) = new_figure(width=8.0, columns=2)
    frame, colours = pd.DataFrame(standings), palette([row["candidate"] for row in last])
    for row in last:
        name = row["candidate"]
        own = frame[frame["candidate"] == name]
        look = {"color": colours[name], "marker": marker(name), "alpha": 0.5 if row["dropped"] else 1}
        left.plot([seen[rung - 1] for rung in own["rung"]], 100 * own["accuracy"], **look)
        right.plot(row["rows"], 100 * row["accuracy"], linestyle="", **look)
        if not row["dropped"]:
            right.annotate(short(name, 16), (row["rows"], 100 * row["accuracy"]), fontsize=6)
    left.set(xlabel="examples seen in training", ylabel="accuracy (%)")
    right.set(xlabel="finetuning examples", xscale="log")
    return made


@figure
def curves_figure(curves: Rows) -> Figure:
    """Accuracy on the top-x% most popular test examples, a line an arm (paper, Figures 6 and 7)."""
    made, axes = new_figure()
    lines_with_bands(axes, curves, x="top_percent", y="accuracy", scale=100)
    _percent(axes.yaxis)
    axes.set_xlabel("test questions, the most popular x%")
    axes.legend()
    return made


@figure
def attention_figure(attention: Rows) -> Figure:
    """Mean attention to the subject per layer, a line an arm, with one standard error over seeds (paper, Figure 5)."""
    made, axes = new_figure()
    lines_with_bands(axes, attention, x="layer", y="subject_attention", markers=True)
    axes.set_xlabel("layer")
    axes.set_ylabel("attention to the subject")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    axes.legend()
    return made


@figure
def relations_figure(relations: Rows) -> Figure:
    """Accuracy per relation, a mark an arm with its 95% interval; at most 20, those with most test questions."""
    names = list(dict.fromkeys(row["relation"] for row in sorted(relations, key=lambda row: -row["n"])))[:20]
    made, axes = new_figure(height=1.4 + 0.42 * len(names))
    _marks(axes, relations, "relation", names, vertical=False)
    n = {row["relation"]: row["n"] for row in relations}
    axes.set_yticks(range(len(names)), [f"{short(name)} ({n[name]})" for name in names])
    _percent(axes.xaxis)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.2)
    made.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return made


@figure
def answers_figure(answers: Rows) -> Figure:
    """Accuracy by how often the right answer occurs in what trains, a mark an arm with its 95% interval."""
    said = {row["answer"]: f"{row['answer']}\n({row['n']})" for row in answers}
    return _parts(answers, "answer", said, "how often the right answer occurs in training")


@figure
def quintiles_figure(quintiles: Rows) -> Figure:
    """Accuracy on each fifth of the test questions by popularity, a mark an arm with its 95% interval."""
    said = {fifth: str(fifth) for fifth in sorted({row["quintile"] for row in quintiles})}
    ends = {max(said): "\nleast popular", min(said): "\nmost popular"}
    said = {fifth: text + ends.get(fifth, "") for fifth, text in said.items()}
    return _parts(quintiles, "quintile", said, "test questions by popularity, in fifths")


def _parts(rows: Rows, part: str, said: Mapping[Any, str], axis: str) -> Figure:
    """Accuracy on parts of the test set, a mark an arm with its 95% interval; `said` names the parts."""
    made, axes = new_figure()
    _marks(axes, rows, part, list(said), vertical=True)
    axes.set_xticks(range(len(said)), [*said.values()])
    _percent(axes.yaxis)
    axes.set_xlabel(axis)
    axes.grid(axis="y", alpha=0.2)
    axes.legend()
    return made


def _percent(axis: Any) -> None:
    """An axis of accuracies: it ends at 0 and 100%, wherever the intervals of a few questions and seeds do."""
    low, high = axis.get_view_interval()
    axis.set_view_interval(max(low, -3), min(high, 103), ignore=True)
    axis.set_label_text("accuracy (%)")


def _marks(axes: Any, rows: Rows, key: str, places: Sequence[Any], vertical: bool) -> None:
    """A mark with its interval for every arm and place, the arms of one place side by side."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    for number, (arm, colour) in enumerate(palette(arms).items()):
        chosen = [row for row in rows if row["arm"] == arm and row[key] in places]
        at = [places.index(row[key]) + 0.14 * (number - (len(arms) - 1) / 2) for row in chosen]
        accuracy, low, high = (np.array([row[name] for row in chosen]) for name in ("accuracy", "low", "high"))
        errors = 100 * np.maximum(0, [accuracy - low, high - accuracy])
        across, up, error = (at, 100 * accuracy, "yerr") if vertical else (100 * accuracy, at, "xerr")
        look = {"color": colour, "label": label(arm), "fmt": marker(arm), "elinewidth": 1.1}
        axes.errorbar(across, up, **{error: errors}, **look)


TRAINING = {
    "training-loss": ("train_loss", 1, "training loss (nats per token)"),
    "held-out-accuracy": ("held_out_accuracy", 100, "held-out accuracy (%)"),
    "fitted": ("fitted", 100, "training examples fitted (%)"),
    "test-accuracy": ("test_accuracy", 100, "test accuracy (%)"),
}
"""What is watched along training, by the name of its figure: the column, a factor, the name of the axis."""


@figure
def training_figure(training: Rows, name: str) -> Figure:
    """One of `TRAINING` along training, a thin line each arm and seed."""
    import pandas as pd

    column, scale, axis = TRAINING[name]
    frame = pd.DataFrame(training)
    made, axes = new_figure()
    for arm, colour in palette(frame["arm"].unique()).items():
        for number, (_, run) in enumerate(frame[frame["arm"] == arm].groupby("seed", sort=False)):
            named = None if number else label(arm)
            axes.plot(run["step"], scale * run[column], color=colour, label=named, linewidth=1.1, alpha=0.85)
    axes.set_xlabel("step")
    axes.set_ylabel(axis)
    axes.legend()
    return made


@figure
def popularity_figure(popularity: Mapping[str, Any]) -> Figure:
    """How popular the examples of every arm and of the test set are: shares per bin, as steps.

    `popularity` is that of summary.json: bin edges (E+1), and for each arm E shares; the axis may be a log one.
    """
    made, axes = new_figure()
    shares = {arm: 100 * np.array(each) for arm, each in popularity["shares"].items()}
    _histogram(
        axes, shares, popularity["edges"], popularity["log"], lambda arm: "test set" if arm == "test" else label(arm)
    )
    axes.set_xlabel(short(popularity["column"], 40))
    axes.set_ylabel("share of examples (%)")
    axes.legend()
    return made


BINS = 40


@figure
def histogram_figure(name: str, scores: NDArray[np.float64], splits: Mapping[str, NDArray[np.bool_]]) -> Figure:
    """How many rows of all, and of each split, have which score; `scores` (N,) with NaN where there is none."""
    finite = np.isfinite(scores)
    measured = scores[finite]
    edges = bin_edges(measured, BINS) if len(measured) else np.array([0.0, 1.0])
    made, axes = new_figure()
    axes.stairs(np.histogram(measured, edges)[0], edges, fill=True, color="#d5d8dc", label="all rows")
    counts = {split: np.histogram(scores[mask & finite], edges)[0] for split, mask in splits.items()}
    _histogram(axes, counts, edges, bool(len(measured)) and is_skewed(measured), str)
    axes.set_xlabel(f"{name} (higher is better known)")
    axes.set_ylabel("rows")
    axes.legend(**({"fontsize": 7, "ncols": 2} if len(counts) > 6 else {}))
    return made


def _histogram(axes: Any, heights: Mapping[str, Any], edges: Any, log: bool, named: Callable[[str], str]) -> None:
    """The heights (E,) of every arm over the bins between the edges (E+1,), as steps; the test set's are dotted."""
    from matplotlib.ticker import EngFormatter

    colours = palette(list(heights)) | {"test": GREY}
    for position, (arm, steps) in enumerate(heights.items()):
        look = {"color": colours[arm], "linestyle": ":" if arm == "test" else "-", "label": named(arm)}
        above = len(heights) - position if arm != "test" else len(heights) + 1  # neither whole nor dots hide another
        axes.stairs(steps, edges, linewidth=1.8, **look, zorder=2 + above)
    if log:
        axes.set_xscale("symlog", linthresh=1)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1k for 1,000 and 1M for 1,000,000


LONGEST = 30
"""The last tokens of a prompt that a heat map has room for."""
MARK = COLOURS["bottom"]


@figure
def heatmap_figure(layers: Sequence[Rows]) -> Figure:
    """One panel an arm: layers down, tokens across, attention from the last token as colour, one scale for both.

    Darkest is the largest weight on any token but the first, where a model's attention rests when it looks at nothing.
    """
    weights = [np.array([row["attention"][-LONGEST:] for row in rows]) for rows in layers]  # (L, T) each
    tokens = layers[0][0]["tokens"][-LONGEST:]
    subject = layers[0][0]["subject"][-LONGEST:]
    numbers = [row["layer"] for row in layers[0]]
    made, panels = new_figure(height=1.4 + min(4.0, 0.28 * len(numbers)), width=2.2 + 0.36 * len(tokens), columns=2)
    most = max(float(w[:, 1:].max(initial=0.01)) for w in weights)
    for axes, panel, rows in zip(panels, weights, layers, strict=True):
        image = axes.imshow(panel, aspect="auto", interpolation="none", cmap="viridis", vmin=0, vmax=most)
        image.set_extent((-0.5, len(tokens) - 0.5, numbers[-1] + 0.5, numbers[0] - 0.5))
        axes.set_title(label(rows[0]["arm"]), fontsize=10)
        axes.set_xticks(
            range(len(tokens)),
            [short(token.replace("\n", "⏎").strip() or "␣", 12) for token in tokens],
            rotation=90,
            fontsize=8,
        )
        axes.tick_params(length=0)
        for tick, marked in zip(axes.get_xticklabels(), subject, strict=True):
            tick.set(color=MARK if marked else INK, fontweight="bold" if marked else "normal")
        for position in np.flatnonzero(subject):
            axes.axvspan(position - 0.5, position + 0.5, fill=False, edgecolor=MARK, linewidth=1.2)
        axes.yaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel("layer")
    made.colorbar(image, ax=panels, label="attention", extend="max", aspect=14, shrink=0.9)
    return made


def _along_training(summary: Mapping[str, Any], attention: Rows, name: str) -> Rows:
    """The rows along training that have the column of a figure of `TRAINING`."""
    return [row for row in summary.get("training", ()) if row.get(TRAINING[name][0]) is not None]


FIGURES: dict[str, tuple[Callable[..., Drawing], Callable[[Mapping[str, Any], Rows], Any]]] = {
    "accuracy": (accuracy_figure, lambda summary, _: summary["arms"]),
    "sizes": (sizes_figure, lambda summary, _: ladders(summary["arms"])),
    "by-answer": (answers_figure, lambda summary, _: summary.get("by_answer")),
    "curves": (curves_figure, lambda summary, _: summary.get("curves")),
    "quintiles": (quintiles_figure, lambda summary, _: summary.get("quintiles")),
    "popularity": (popularity_figure, lambda summary, _: summary.get("popularity")),
    "relations": (relations_figure, lambda summary, _: summary.get("relations")),
    "attention": (attention_figure, lambda _, attention: attention),
    **{name: (partial(training_figure, name=name), partial(_along_training, name=name)) for name in TRAINING},
}
"""Every figure of a report but for the heat maps, by the name of its file: what draws it, and from what of a run (its
summary, its rows of attention). A template in `templates/parts` shows it."""
