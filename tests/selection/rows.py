"""What several of these tests say of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = list[dict[str, Any]]


def ids(rows: Any) -> list[str]:
    if isinstance(rows, pa.Table):
        return list(rows["curate_id"].to_pylist())
    return [row["curate_id"] for row in rows]


def ids_in(path: Path) -> list[str]:
    return ids(pq.read_table(path))
