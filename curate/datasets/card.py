"""The dataset card of a folder of splits, so that `datasets.load_dataset(folder)` gives named splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dataset_card(summary: Mapping[str, Any], source: str) -> str:
    """README.md for a folder with one Parquet file a split; `summary` is that of a Selection."""
    files = "\n".join(f"  - split: {s['split']}\n    path: {s['split']}.parquet" for s in summary["splits"])
    rows = "\n".join(_row(split) for split in summary["splits"])
    missing = summary["missing"]
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

| split | asked | rows | score at the cut | rows with that score (kept) |
|---|---|---:|---:|---:|
{rows}

```python
from datasets import load_dataset
splits = load_dataset("path/to/this/folder")
```

How each file was made is in `<split>.parquet.manifest.json`, and inside the Parquet metadata under `curate`.
"""


def _row(split: Mapping[str, Any]) -> str:
    cut = split["cut"]
    edge = "| |" if cut is None else f"| {cut['score']:.6g} | {cut['ties']} ({cut['ties_kept']})"
    return f"| {split['split']} | {split['asked']} | {split['rows']} {edge} |"
