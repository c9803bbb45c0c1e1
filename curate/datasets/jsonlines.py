"""Large JSONL files, read without ever being one text in memory."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import TYPE_CHECKING

from curate.datasets.jsonfile import table_of_lines

if TYPE_CHECKING:
    import pyarrow as pa

LARGE = 8_000_000
"""Bytes from which it is worth it; the careful reader says better what is wrong with a small file."""


def is_large(path: Path) -> bool:
    """Whether to try `read_large`."""
    return path.suffix.lower() in (".jsonl", ".ndjson") and path.stat().st_size >= LARGE


def read_large(path: Path) -> pa.Table | None:
    """The rows of a JSONL file, one object a line; None where only the careful reader gives what is there."""
    with path.open("rb") as file:
        try:
            json.loads(file.readline(LARGE))
        except ValueError:
            return None
    table = table_of_lines(lambda: path)
    if table is None or table.num_rows < 2 or not table.num_columns:
        return None
    nested = any(field.type.num_fields for field in table.schema)
    return None if nested and _null_in_list(path) else table


def _null_in_list(path: Path) -> bool:
    """Whether a list may hold a null, which Arrow's JSON reader turns into another value or into damage."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"null") >= 0 and re.search(rb"[\[,]\s*null\b", content) is not None
