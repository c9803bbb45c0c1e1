"""The report: one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.data.files import whole_file, write_text
from curate.records import contrast, is_untouched
from curate.report.figures import (
    Drawing,
    Rows,
    RunTables,
    accuracy_figure,
    advantage,
    attention_figure,
    curves_figure,
    heatmap_figure,
    held_out_figure,
    label,
    palette,
    popularity_figure,
    quintiles_figure,
    read_tables,
    relations_figure,
    telling_maps,
    test_accuracy_figure,
    training_loss_figure,
)


def render(template: str, script: str | None = None, **context: Any) -> str:
    """A template with the page's style and, where it has one, a script: the only one the page will run."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("curate.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: "" if share is None else f"{100 * share:.1f}"
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}".replace("-", "−")
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["place"] = lambda share, reach: f"{50 + 50 * max(-1, min(1, share / reach)):.2f}%"
    environment.filters["label"] = label
    code = _source(environment, script) if script else ""
    return environment.get_template(template).render(
        style=Markup(_source(environment, "style.css")),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        **context,
    )


def _source(environment: Any, name: str) -> str:
    text, _, _ = environment.loader.get_source(environment, name)
    return str(text)


def task_table(rows: Rows, arms: Sequence[str]) -> list[dict[str, Any]]:
    """A row a metric: `task`, `metric`, `n` questions, and for each arm `values` (mean, standard error).

    The error is that over seeds where there are several, else the one lm-eval gives, over the task's questions.
    Arms that were not asked have no value.
    """
    found: dict[tuple[str, str], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["task"], row["metric"]][row["arm"]].append(row)
    return [
        {
            "task": task,
            "metric": metric,
            "n": next(iter(by_arm.values()))[0]["n"],
            "higher_is_better": next(iter(by_arm.values()))[0]["higher_is_better"],
            "values": [_over_seeds(by_arm[arm]) if arm in by_arm else None for arm in arms],
        }
        for (task, metric), by_arm in found.items()
    ]


def _over_seeds(rows: Rows) -> tuple[float, float | None]:
    values = [float(row["value"]) for row in rows]  # an infinite perplexity is the text "inf" in summary.json
    if len(values) == 1:
        return values[0], None if rows[0]["stderr"] is None else float(rows[0]["stderr"])
    with np.errstate(invalid="ignore"):
        return float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5


BUDGET = 2_000_000
"""Bytes of a page that questions and answers may take; those beyond it are left to predictions.parquet."""
LONGEST = 600
"""Characters shown of a question, or of an answer."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The table's data as JSON that can stand in a script element, and how many questions it has and lacks."""

    json: str
    shown: int
    left_out: int


def answers_table(predictions: Rows, arms: Sequence[str], budget: int = BUDGET) -> Answers:
    """Every test question with every arm's answers, as the page's script reads them.

    First come questions that the first arm of the `contrast` gets right with more seeds than the second.
    """
    by_id: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in predictions:
        by_id[row["id"]][row["arm"]].append(row)
    ordered = sorted(by_id.values(), key=lambda said: -advantage(said, contrast(arms)))
    lines: list[str] = []
    used = 0
    for said in ordered:
        line = _json(_question(said, arms))
        used += len(line.encode()) + 1
        if used > budget:
            break
        lines.append(line)
    seeds = {arm: max(len(said[arm]) for said in ordered) for arm in arms}
    about = _json([{"label": label(arm), "seeds": seeds[arm]} for arm in arms])
    return Answers(f'{{"arms":{about},"rows":[{",".join(lines)}]}}', len(lines), len(ordered) - len(lines))


def _question(said: Mapping[str, Rows], arms: Sequence[str]) -> list[Any]:
    """[question, accepted, percentile, relation, subject, answers], where answers are [text, right, seeds] per arm."""
    first = said[arms[0]][0]
    percentile = first["popularity_percentile"]
    return [
        _clip(first["question"]),
        _clip(", ".join(first["answers"])),
        None if percentile is None else round(percentile),
        first["relation"],
        first["subject"],
        [_distinct(said[arm]) for arm in arms],
    ]


def _distinct(rows: Rows) -> list[list[Any]]:
    counted = Counter((_clip(row["prediction"].strip()), int(row["correct"])) for row in rows)
    return [[text, right, seeds] for (text, right), seeds in counted.most_common()]


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _json(content: Any) -> str:
    """JSON without `<`, so that no text in it can end the script element it stands in."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


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
