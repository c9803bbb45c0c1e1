"""What a run's files hold, read back for its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    import pyarrow.parquet as pq

    def rows(name: str) -> Rows:
        path = folder / f"{name}.parquet"
        return pq.read_table(path).to_pylist() if path.is_file() else []

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    names = ("predictions", "attention", "attention_maps")
    return RunTables(summary, manifest, *map(rows, names))
