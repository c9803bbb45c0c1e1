"""What is in a file, a split or a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.data.columns import Columns
from curate.data.ids import ID_COLUMN
from curate.data.layouts import default_template
from curate.data.sources import check_named
from curate.data.table import QATable, read
from curate.errors import DataError
from curate.estimators.column import score_of_number
from curate.prompts import TEMPLATES, Template, solution
from curate.records import Example
from curate.selection.select import SCORE_PREFIX, score_values
from curate.summary import bin_edges, rank_correlation
from curate.wikipedia.views import MEASURED

SHOWN = 20
STATUS, VIEWS = "pageviews_status", "pageviews_views"
KNOWN_VIEWS = "s_pop"


def describe_views(table: pa.Table, examples: Sequence[Example]) -> dict[str, Any] | None:
    """The report as plain values; None for a table that `pageviews` did not score.

    `quantiles` are of monthly views over examples; `most` and `least` list subjects once each, as (subject, views);
    `unanswered` gives, for each status without a score, the first subjects, or the questions of those without one.
    """
    if STATUS not in table.column_names or VIEWS not in table.column_names:
        return None
    statuses = table[STATUS].to_pylist()
    views = table[VIEWS].to_pylist()
    labels = _labels(table, examples)
    ranked = sorted(
        {label: v for label, v in zip(labels, views, strict=True) if v is not None}.items(), key=lambda x: (-x[1], x[0])
    )
    return {
        "statuses": dict(Counter(statuses).most_common()),
        "quantiles": _quantiles([v for v in views if v is not None]),
        "most": ranked[:SHOWN],
        "least": ranked[::-1][:SHOWN],
        "unanswered": _unanswered(statuses, labels),
        "agreement": _agreement(table, views),
    }


def _labels(table: pa.Table, examples: Sequence[Example]) -> list[str]:
    """What each row is about, in the best words there are."""
    columns = [
        table[name].to_pylist() for name in ("pageviews_title", "pageviews_subject") if name in table.column_names
    ]
    return [
        next((text for text in texts if text), None) or example.subject or example.question
        for example, *texts in zip(examples, *columns, strict=True)
    ]


def _quantiles(views: Sequence[float]) -> dict[str, float]:
    if not views:
        return {}
    values = np.quantile(views, QUANTILES, method="nearest")
    return {f"{q:g}": float(v) for q, v in zip(QUANTILES, values, strict=True)}


def _unanswered(statuses: Sequence[str], labels: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for status, label in zip(statuses, labels, strict=True):
        shown = found.setdefault(status, {})
        if status not in MEASURED and len(shown) < SHOWN:
            shown[label] = None
    return {status: list(shown) for status, shown in found.items() if shown}


def _agreement(table: pa.Table, views: Sequence[float | None]) -> dict[str, Any] | None:
    """Spearman's correlation with the views the data came with; None where it is not defined."""

    if KNOWN_VIEWS not in table.column_names:
        return None
    known = [score_of_number(value, KNOWN_VIEWS).value for value in table[KNOWN_VIEWS].to_pylist()]
    a, b = (np.array([np.nan if v is None else v for v in side], float) for side in (views, known))
    both = int((~(np.isnan(a) | np.isnan(b))).sum())
    correlation = rank_correlation(a, b)
    return {
        "column": KNOWN_VIEWS,
        "examples": both,
        "rank_correlation": None if np.isnan(correlation) else correlation,
    }


QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
BINS = 12
SHOWN_EXAMPLES = 3
LEFT_UNFINISHED = (".parts", "steps.json")
"""What a run, a simulation or a recipe has in its folder from its beginning on."""


def describe(file: str, preset: str | None = None, split: str | None = None) -> dict[str, Any]:
    """What is in a scored file, a split, a folder of splits, any QA dataset, or the folder of a run or a simulation.

    `preset` and `split` are those of `curate.read`.
    """
    check_named(file)
    folder = Path(file)
    if summary := _summary_in(folder):
        return {"kind": "run" if "arms" in summary else "simulation", "file": file, **summary}
    if any((folder / left).exists() for left in LEFT_UNFINISHED):
        raise DataError(
            f"What is made in the folder {file} is not finished.",
            expected="a folder with the summary.json of a run or a simulation",
            try_next="the command that began it, which goes on from where it was",
        )
    if folder.is_dir() and (manifests := sorted(folder.glob("*.manifest.json"))):
        splits = [manifest.with_name(manifest.name.removesuffix(".manifest.json")) for manifest in manifests]
        return {
            "kind": "splits",
            "file": file,
            "splits": [{"split": split.stem, **_describe_table(read(split))} for split in splits],
        }
    data = read(file, preset=preset, split=split)
    manifest = data.manifest
    kind = {"score": "scored file", "select": "split"}.get(manifest.get("command", ""), "dataset")
    return {"kind": kind, "file": file, **_describe_table(data)}


def _summary_in(folder: Path) -> dict[str, Any] | None:
    """The summary.json that curate left in a folder; None if there is none, or somebody else's."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(summary, dict) and "verdict" in summary and ("arms" in summary or "experiment" in summary)
    return summary if ours else None


def compare_files(files: list[str]) -> dict[str, Any]:
    """Two splits or more side by side; DataError for fewer."""
    from curate.selection.explain import compare

    if len(files) < 2:
        raise DataError(
            f"There is nothing to compare {files[0]} with.",
            expected="two files or more",
            try_next=f"curate show --compare {files[0]} OTHER.parquet",
        )
    return compare(files)


def read_scores(file: Path) -> pa.Table:
    """The score columns of a Parquet file."""

    names = pq.read_schema(file).names
    return pq.read_table(file, columns=[name for name in names if name.startswith(SCORE_PREFIX)])


def score_summaries(table: pa.Table) -> dict[str, dict[str, Any]]:
    """For every score column of numbers: rows measured, coverage, quantiles and a histogram."""

    names = [n for n in table.column_names if n.startswith(SCORE_PREFIX)]
    numeric = [n for n in names if pa.types.is_floating(t := table.schema.field(n).type) or pa.types.is_integer(t)]
    return {name.removeprefix(SCORE_PREFIX): _score_summary(table, name) for name in numeric}


def _score_summary(table: pa.Table, column: str) -> dict[str, Any]:
    values = score_values(table, column)
    values = values[~np.isnan(values)]
    finite = values[np.isfinite(values)]
    summary: dict[str, Any] = {
        "measured": len(values),
        "coverage": len(values) / max(1, table.num_rows),
        "quantiles": {},
        "histogram": {"counts": [], "edges": []},
    }
    if len(values):
        summary["quantiles"] = {
            f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES, method="nearest"), strict=True)
        }
    if len(finite):
        counts, edges = np.histogram(finite, bins=bin_edges(finite, BINS))
        summary["histogram"] = {"counts": counts.tolist(), "edges": edges.tolist()}
    return summary


def _describe_table(data: QATable) -> dict[str, Any]:
    examples = list(data.examples_of(data.table, _ids(data)))
    manifest = data.manifest
    template = _template(manifest, data.roles)
    relations = {example.relation for example in examples if example.relation}
    return {
        "rows": len(data),
        "columns": data.roles.as_dict(),
        "subjects": len({example.subject for example in examples if example.subject}),
        "relations": len(relations),
        "without_answer": sum(not example.answers for example in examples),
        "blank_answers": data.blank_answers(),
        "scores": score_summaries(data.table),
        "pageviews": describe_views(data.table, examples),
        "selection": manifest.get("selection"),
        "examples": [
            {
                "id": e.id,
                "prompt": template.head(e) + template.ask(e),
                "completion": None if (answer := solution(template, e)) is None else template.render_completion(answer),
                "answers": list(e.answers),
                "subject": e.subject,
                "relation": e.relation,
            }
            for e in examples[:SHOWN_EXAMPLES]
        ],
    }


def _ids(data: QATable) -> list[str]:
    """The ids as they are: what is shown may have been put together or changed by hand since they were made."""
    if ID_COLUMN in data.table.column_names:
        return [str(cell) for cell in data.table[ID_COLUMN].to_pylist()]
    return data.ids


def _template(manifest: dict[str, Any], columns: Columns) -> Template:
    """The template the losses in the file were made with; without any, the one that would be taken."""
    used = [estimator["template"] for estimator in manifest.get("estimators", []) if "template" in estimator]
    return Template(**used[-1]) if used else TEMPLATES[default_template(columns)]
