"""What is in a file: counts, quantiles and a histogram of every score, as plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.bins import bin_edges
from curate.datasets.columns import Columns
from curate.datasets.ids import ID_COLUMN
from curate.datasets.read import QATable, manifest_in, read
from curate.datasets.sources import check_named
from curate.errors import DataError
from curate.prompts import TEMPLATES, Template, default_template
from curate.selecting import SCORE_PREFIX, score_values
from curate.shots import solution
from curate.views_report import describe_views

if TYPE_CHECKING:
    import pyarrow as pa

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
    manifest = manifest_in(data.table)
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
    from curate.rules.comparing import compare

    if len(files) < 2:
        raise DataError(
            f"There is nothing to compare {files[0]} with.",
            expected="two files or more",
            try_next=f"curate show --compare {files[0]} OTHER.parquet",
        )
    return compare(files)


def read_scores(file: Path) -> pa.Table:
    """The score columns of a Parquet file."""
    import pyarrow.parquet as pq

    names = pq.read_schema(file).names
    return pq.read_table(file, columns=[name for name in names if name.startswith(SCORE_PREFIX)])


def score_summaries(table: pa.Table) -> dict[str, dict[str, Any]]:
    """For every score column of numbers: rows measured, coverage, quantiles and a histogram."""
    import pyarrow as pa

    names = [n for n in table.column_names if n.startswith(SCORE_PREFIX)]
    numeric = [n for n in names if pa.types.is_floating(t := table.schema.field(n).type) or pa.types.is_integer(t)]
    return {name.removeprefix(SCORE_PREFIX): _score_summary(table, name) for name in numeric}


def _score_summary(table: pa.Table, column: str) -> dict[str, Any]:
    import numpy as np

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
    examples = list(data.iterate(_ids(data)))
    manifest = manifest_in(data.table)
    template = _template(manifest, data.columns)
    relations = {example.relation for example in examples if example.relation}
    return {
        "rows": len(data),
        "columns": data.columns.as_dict(),
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
