"""What is in a file, a split, a run or a simulation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.ids import ID_COLUMN
from curate.data.sources import check_named
from curate.data.stores import open_parquet_file
from curate.data.table import QATable, asked_in, read_with
from curate.errors import DataError
from curate.estimators.base import score_of_number
from curate.prompts import Template, solution
from curate.records import Example
from curate.report.page import flat
from curate.selection.agreement import agreement
from curate.selection.explain import compare
from curate.selection.ranking import SCORE_PREFIX, as_float, is_number
from curate.settings import ReadSettings
from curate.summary import bin_edges, quantiles, rank_correlation
from curate.wikipedia.views import MEASURED

BINS = 12
SHOWN_EXAMPLES = 3
SHOWN_SUBJECTS = 20
LEFT_UNFINISHED = (".parts", "steps.json")
"""What a run, a simulation or a recipe has in its folder from its beginning on."""

KINDS = {"score": "scored file", "select": "split"}
"""What a file is called, by the command that wrote it; others are datasets."""

KNOWN_VIEWS = "s_pop"
"""The column of page views that PopQA came with."""


def describe(file: str, **options: Any) -> dict[str, Any]:
    """What is in a scored file, a split, a folder of splits, any QA dataset, or the folder of a run or a simulation.

    The options are those of `curate.read`.
    """
    settings = ReadSettings.of(options)
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
        described = [{"split": path.stem, **describe_table(read_with(path, settings))} for path in splits]
        return {"kind": "splits", "file": file, "splits": described}
    data = read_with(file, settings)
    return {"kind": KINDS.get(data.manifest.get("command", ""), "dataset"), "file": file, **describe_table(data)}


def compare_files(files: list[str], **options: Any) -> dict[str, Any]:
    """Two splits or more side by side; DataError for fewer."""
    if len(files) < 2:
        raise DataError(
            f"There is nothing to compare {files[0]} with.",
            expected="two files or more",
            try_next=f"curate show --compare {files[0]} OTHER.parquet",
        )
    return compare(files, ReadSettings.of(options))


def compare_runs(files: Sequence[str]) -> dict[str, Any] | None:
    """Finished validations side by side, and the settings in which they differ; None where one of the files is none."""
    summaries = [_summary_in(Path(file)) for file in files]
    runs = [{"file": file, **found} for file, found in zip(files, summaries, strict=True) if found and "arms" in found]
    if len(runs) < len(files):
        return None
    told = [dict(flat(run.get("config", {}))) for run in runs]
    names = dict.fromkeys(name for settings in told for name in settings)
    differ = {name: [settings.get(name, "") for settings in told] for name in names}
    return {"runs": runs, "settings": {name: found for name, found in differ.items() if len(set(found)) > 1}}


def describe_agreement(file: str, **options: Any) -> dict[str, Any]:
    """How the scores of a file agree, what each tells of what is known, and what explains it: see `agreement`."""
    check_named(file)
    return {"file": file, **agreement(read_with(file, ReadSettings.of(options)))}


def _summary_in(folder: Path) -> dict[str, Any] | None:
    """The summary.json that curate left in a folder; None if there is none, or somebody else's."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(summary, dict) and "verdict" in summary and ("arms" in summary or "experiment" in summary)
    return summary if ours else None


def describe_table(data: QATable) -> dict[str, Any]:
    """Counts, scores, page views, how it was selected, and the first examples as the model sees them."""
    # The ids as they are: a file may have been put together, or changed by hand, since they were made.
    ids = map(str, data.table[ID_COLUMN].to_pylist()) if ID_COLUMN in data.schema.names else data.ids
    examples = list(data.examples_of(data.table, ids))
    template, told = data.template(), asked_in(data.manifest)
    return {
        "rows": len(data),
        "columns": data.roles.as_dict(),
        "subjects": len({example.subject for example in examples if example.subject}),
        "relations": len({example.relation for example in examples if example.relation}),
        "without_answer": sum(not example.answers for example in examples),
        "blank_answers": data.blank_answers(),
        **({"chats": chats} if (chats := data.chats()) else {}),
        "scores": score_summaries(data.table),
        "pageviews": describe_views(data.table, examples),
        "selection": data.manifest.get("selection"),
        "asked": told and {"template": told["template"]["name"], "shots": told.get("shots", {}).get("count")},
        "examples": [_describe_example(example, template) for example in examples[:SHOWN_EXAMPLES]],
    }


def _describe_example(example: Example, template: Template) -> dict[str, Any]:
    answer = solution(template, example)
    return {
        "id": example.id,
        "prompt": template.zero_shot(example),
        "completion": None if answer is None else template.render_completion(answer),
        "answers": list(example.answers),
        "subject": example.subject,
        "relation": example.relation,
    }


def read_scores(file: Path) -> pa.Table:
    """The score columns of a Parquet file."""
    opened = open_parquet_file(file)
    return opened.read([name for name in opened.schema_arrow.names if name.startswith(SCORE_PREFIX)])


def score_summaries(table: pa.Table) -> dict[str, dict[str, Any]]:
    """For every score column of numbers: rows measured, coverage, quantiles and a histogram."""
    scores = [field.name for field in table.schema if field.name.startswith(SCORE_PREFIX) and is_number(field.type)]
    return {name.removeprefix(SCORE_PREFIX): _summarise(as_float(table[name])) for name in scores}


def _summarise(scores: NDArray[np.float64]) -> dict[str, Any]:
    measured = int(np.count_nonzero(~np.isnan(scores)))
    finite = scores[np.isfinite(scores)]
    counts, edges = np.histogram(finite, bin_edges(finite, BINS)) if len(finite) else (np.empty(0), np.empty(0))
    return {
        "measured": measured,
        "coverage": measured / max(1, len(scores)),
        "quantiles": quantiles(scores),
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }


def describe_views(table: pa.Table, examples: Sequence[Example]) -> dict[str, Any] | None:
    """What `pageviews` found; None for a table that it did not score.

    `quantiles` are of monthly views over examples; `most` and `least` list subjects once each, as (subject, views);
    `unanswered` gives, for each status without a score, the first subjects, or the questions of those without one.
    """
    if not {"pageviews_status", "pageviews_views"} <= {*table.column_names}:
        return None
    statuses, views = table["pageviews_status"].to_pylist(), table["pageviews_views"].to_pylist()
    labels = _labels(table, examples)
    viewed = {label: number for label, number in zip(labels, views, strict=True) if number is not None}
    ranked = sorted(viewed.items(), key=lambda item: (-item[1], item[0]))
    unanswered: dict[str, dict[str, None]] = {}
    for status, label in zip(statuses, labels, strict=True):
        if status not in MEASURED:
            unanswered.setdefault(status, {})[label] = None
    return {
        "statuses": dict(Counter(statuses).most_common()),
        "quantiles": quantiles(np.array(views, dtype=np.float64)),  # None becomes NaN
        "most": ranked[:SHOWN_SUBJECTS],
        "least": ranked[::-1][:SHOWN_SUBJECTS],
        "unanswered": {status: [*found][:SHOWN_SUBJECTS] for status, found in unanswered.items()},
        "agreement": _agreement(table, views) if KNOWN_VIEWS in table.column_names else None,
    }


def _labels(table: pa.Table, examples: Sequence[Example]) -> list[str]:
    """What each row is about, in the best words there are."""
    names = [name for name in ("pageviews_title", "pageviews_subject") if name in table.column_names]
    columns = [table[name].to_pylist() for name in names]
    return [
        next((text for text in texts if text), None) or example.subject or example.question
        for example, *texts in zip(examples, *columns, strict=True)
    ]


def _agreement(table: pa.Table, views: Sequence[float | None]) -> dict[str, Any]:
    """Spearman's correlation with the views the data came with; None where it is not defined."""
    known = [score_of_number(value, KNOWN_VIEWS).value for value in table[KNOWN_VIEWS].to_pylist()]
    a, b = np.array(views, dtype=np.float64), np.array(known, dtype=np.float64)
    correlation = rank_correlation(a, b)
    return {
        "column": KNOWN_VIEWS,
        "examples": int(np.count_nonzero(~np.isnan(a + b))),
        "rank_correlation": None if np.isnan(correlation) else correlation,
    }
