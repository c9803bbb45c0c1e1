"""The dataset card of a folder of splits, so that `datasets.load_dataset(folder)` gives named splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dataset_card(summary: Mapping[str, Any], explanation: Mapping[str, Any], source: str) -> str:
    """README.md for a folder with one Parquet file a split; both arguments come from a Selection."""
    files = "\n".join(f"  - split: {s['split']}\n    path: {s['split']}.parquet" for s in summary["splits"])
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
{f"{chr(10)}Rows left out:{chr(10)}{left_out}{chr(10)}" if left_out else ""}
## What selecting changed

{_overlap(explanation["overlap"])}
{_mix("relation", explanation)}{_mix("answers", explanation)}
```python
from datasets import load_dataset
splits = load_dataset("path/to/this/folder")
```

How each file was made is in `<split>.parquet.manifest.json`, and inside the Parquet metadata under `curate`.
"""


def _row(split: Mapping[str, Any]) -> str:
    cut = split["cut"]
    score = None if cut is None else cut["score"]
    edge = "| |" if cut is None else f"| {_number(score)} | {cut['ties']} ({cut['ties_kept']})"
    return f"| {split['split']} | {split['asked']} | {split['rows']} | {split['use']} {edge} |"


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.6g}"


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
