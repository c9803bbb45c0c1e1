"""The report: one HTML page that needs no network, all text from the data escaped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curate.arm_names import contrast, is_untouched
from curate.datasets.write import whole_file, write_text
from curate.report.answers import answers_table
from curate.report.drawing import Drawing, label, palette
from curate.report.figures import (
    accuracy_figure,
    attention_figure,
    curves_figure,
    held_out_figure,
    popularity_figure,
    quintiles_figure,
    relations_figure,
    test_accuracy_figure,
    training_loss_figure,
)
from curate.report.heatmaps import heatmap_figure, telling_maps
from curate.report.render import render
from curate.report.tables import Rows, RunTables, read_tables
from curate.report.tasks import task_table

TITLES = {
    "accuracy": "Accuracy",
    "differences": "Differences",
    "popularity": "By popularity",
    "relations": "By relation",
    "attention": "Attention to the subject",
    "tasks": "Other tasks",
    "training": "Training",
    "answers": "Every question, every answer",
    "leakage": "Shared with the training sets",
    "configuration": "Configuration",
}


def write_report(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Draw a run's figures and write its page, from the files in its folder."""
    tables = read_tables(folder, manifest)
    figures = draw_figures(tables)
    heatmaps = draw_heatmaps(tables)
    _write_pictures(figures | {shown["figure"]: shown["drawing"] for shown in heatmaps}, folder / "figures")
    write_text(report_page(tables, figures, heatmaps), folder / "report.html")


def _write_pictures(drawings: Mapping[str, Drawing], folder: Path) -> None:
    """One PNG a drawing; those that an earlier run left and this one does not have are removed."""
    earlier = {path.stem for path in folder.glob("heatmap-*.png")} | set(FIGURES)
    for name in earlier - set(drawings):
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, drawing in drawings.items():
        with whole_file(folder / f"{name}.png") as temporary:
            temporary.write_bytes(drawing.png)


def draw_figures(tables: RunTables) -> dict[str, Drawing]:
    """Every figure the run has data for."""
    found = {name: (draw, rows_of(tables)) for name, (draw, rows_of) in FIGURES.items()}
    return {name: draw(rows) for name, (draw, rows) in found.items() if rows}


def _with(tables: RunTables, column: str) -> Rows:
    return [row for row in tables.summary.get("training", ()) if row.get(column) is not None]


FIGURES: dict[str, tuple[Callable[[Any], Drawing], Callable[[RunTables], Any]]] = {
    "accuracy": (accuracy_figure, lambda tables: tables.summary["arms"]),
    "curves": (curves_figure, lambda tables: tables.summary.get("curves")),
    "quintiles": (quintiles_figure, lambda tables: tables.summary.get("quintiles")),
    "popularity": (popularity_figure, lambda tables: tables.summary.get("popularity")),
    "relations": (relations_figure, lambda tables: tables.summary.get("relations")),
    "attention": (attention_figure, lambda tables: tables.attention),
    "training-loss": (training_loss_figure, lambda tables: _with(tables, "train_loss")),
    "held-out-accuracy": (held_out_figure, lambda tables: _with(tables, "held_out_accuracy")),
    "test-accuracy": (test_accuracy_figure, lambda tables: _with(tables, "test_accuracy")),
}
"""Every figure there can be: what draws it, and from what of a run."""


def draw_heatmaps(tables: RunTables) -> list[dict[str, Any]]:
    """Heat maps of a few questions, with what the two arms answered."""
    pair = contrast([row["arm"] for row in tables.summary["arms"]])
    if pair is None or not tables.maps:
        return []
    shown = telling_maps(tables.maps, tables.predictions, pair)
    return [
        {"figure": f"heatmap-{n}", "drawing": heatmap_figure(one["layers"]), **one} for n, one in enumerate(shown, 1)
    ]


def report_page(tables: RunTables, figures: Mapping[str, Drawing], heatmaps: Rows = ()) -> str:
    """The page of a run."""
    from markupsafe import Markup

    summary = tables.summary
    arms = [row["arm"] for row in summary["arms"]]
    answers = answers_table(tables.predictions, arms)
    drawings = dict(figures) | {shown["figure"]: shown["drawing"] for shown in heatmaps}
    has = {"relations": "relations" in figures, "attention": "attention" in figures}
    has |= {"training": bool({"training-loss", "held-out-accuracy", "test-accuracy"} & set(figures))}
    has |= {"popularity": bool({"curves", "quintiles", "popularity"} & set(figures))}
    has |= {"differences": bool(summary["differences"]), "leakage": bool(summary["leakage"])}
    has |= {"tasks": bool(summary.get("lm_eval"))}
    return render(
        "report.html.j2",
        script="answers.js",
        summary=summary,
        sections=[{"id": id, "title": title} for id, title in TITLES.items() if has.get(id, True)],
        # SVG as the drawing module made it, and JSON that cannot end its element: nothing else is trusted.
        figures={name: Markup(drawing.svg) for name, drawing in drawings.items()},
        answers=Markup(answers.json),
        answers_shown=answers.shown,
        answers_left_out=answers.left_out,
        answers_order=_order(contrast(arms)),
        heatmaps=heatmaps,
        arms=arms,
        tasks=task_table(summary.get("lm_eval", ()), arms),
        colours=palette(arms),
        highest=max(row["accuracy"] for row in summary["arms"]) or 1,
        reach=reach(summary["differences"]),
        seeds=max(row["seeds"] for row in summary["arms"]),
        settings=list(flat(summary["config"])),
        manifest=json.dumps(tables.manifest, indent=2, ensure_ascii=False, default=str),
    )


def reach(differences: Rows) -> float:
    """How far from 0 the axis of differences goes: as far as the intervals between finetuned arms.

    The untouched model is often so far below all of them that its differences would press the others flat.
    """
    finetuned = [d for d in differences if not (is_untouched(d["a"]) or is_untouched(d["b"]))] or differences
    return max((abs(d[side]) for d in finetuned for side in ("low", "high")), default=0) or 1


def _order(pair: tuple[str, str] | None) -> str:
    if pair is None:
        return "Every test question with its answers."
    first, second = map(label, pair)
    return f"Questions that {first} gets right and {second} wrong come first."


def flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (name, value) pairs, names joined by dots."""
    pairs = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)))
    return pairs
