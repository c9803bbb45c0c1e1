"""The dataset card of a folder of splits, so that `datasets.load_dataset(folder)` gives named splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.datasets.rows import ScoredRows


HISTOGRAM = "histogram.png"
IN_PARQUET = ", and inside the Parquet metadata under `curate`"


def dataset_card(
    summary: Mapping[str, Any],
    explanation: Mapping[str, Any],
    data: ScoredRows,
    format: str = "original",
    kind: str = "parquet",
) -> str:
    """README.md for a folder with one file a split; `kind` is its ending, the first two come from a Selection."""
    source = data.name
    files = "\n".join(f"  - split: {s['split']}\n    path: {s['split']}.{kind}" for s in summary["splits"])
    rows = "\n".join(_row(split) for split in summary["splits"])
    missing = summary["missing"]
    left_out = "".join(f"\n* {why}: {n}" for why, n in summary["left_out"].items())
    return f"""---
configs:
- config_name: default
  data_files:
{files}
task_categories:
- question-answering
tags:
- curate
---

# Splits of {source} by popularity

{summary["rows"]} examples, {summary["pool"]} of them ranked by `{summary["by"]}` (higher is better known);
{missing["rows"]} without a score ({missing["policy"]}). Seed {summary["seed"]}.

| split | asked | rows | for | score at the cut | rows with that score (kept) |
|---|---|---:|---|---:|---:|
{rows}

![How many rows have which score]({HISTOGRAM})
{f"{chr(10)}Rows left out:{chr(10)}{left_out}{chr(10)}" if left_out else ""}
## How it was made
{_made(data, format)}
## What selecting changed

{_overlap(explanation["overlap"])}
{_mix("relation", explanation)}{_mix("answers", explanation)}
```python
from datasets import load_dataset
splits = load_dataset("path/to/this/folder")
```

All settings are in `<split>.{kind}.manifest.json`{IN_PARQUET if kind == "parquet" else ""}.
"""


def _made(data: ScoredRows, format: str) -> str:
    """What the scored file says of its source and estimators, and the shape the rows were given."""
    origin = data.manifest.get("input", {})
    lines = [f"* scored from `{origin['name']}`, {origin['rows']} rows, SHA-256 `{origin['sha256']}`"] if origin else []
    for estimator in data.manifest.get("estimators", []):
        model = estimator.get("model", {})
        of = f" of `{model['name']}`" if isinstance(model, Mapping) and "name" in model else ""
        lines.append(f"* score `{estimator['name']}`: estimator `{estimator.get('estimator', '')}`{of}")
    lines.append(f"* format `{format}`")
    return "\n".join(["", *lines, ""])


def _row(split: Mapping[str, Any]) -> str:
    cut = split["cut"]
    edge = "| |" if cut is None else f"| {score_text(cut['score'])} | {cut['ties']} ({cut['ties_kept']})"
    return f"| {split['split']} | {split['asked']} | {split['rows']} | {split['use']} {edge} |"


def score_text(score: float | None) -> str:
    """The score at a cut as people read it; None where `--missing lowest` cuts among rows without one."""
    return "no score" if score is None else f"{score:.6g}"


def _overlap(pairs: Any) -> str:
    shared = [f"{p['a']} and {p['b']} share {p['rows']} rows" for p in pairs if p["rows"]]
    return "; ".join(shared) + "." if shared else "No two splits share a row."


def _mix(role: str, explanation: Mapping[str, Any]) -> str:
    if role not in explanation:
        return ""
    lines = [f"\nThe mix of {role} ({explanation['counted']} counted), largest shifts of each split:\n"]
    for name, split in explanation[role]["splits"].items():
        shifts = ", ".join(map(_shift, split["shifts"][:3]))
        lines.append(f"* {name}: {_percent(split['moved'])} moved{f' ({shifts})' if shifts else ''}")
    return "\n".join(lines) + "\n"


def _shift(shift: Mapping[str, Any]) -> str:
    return f"{shift['value']} {_percent(shift['before'])} → {_percent(shift['after'])}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
