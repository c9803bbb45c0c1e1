"""Writing a stream of rows as text: JSONL or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class JsonlStream:
    """One JSON object a row, in UTF-8; what JSON has no type for (dates, decimals, bytes) becomes text."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, table: pa.Table) -> None:
        """Take some more rows."""
        self._file.writelines(json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in table.to_pylist())

    def close(self, manifest: dict[str, Any]) -> None:
        """End the file; the manifest has no place in it."""
        self._file.close()


class CsvStream:
    """Cells in UTF-8 below a header; lists and objects are JSON in their cell, null is an empty one."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        # Every text is quoted: before Python 3.13 the module would write a lone carriage return bare.
        self._writer = csv.writer(self._file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        self._writer.writerow(schema.names)

    def write(self, table: pa.Table) -> None:
        """Take some more rows."""
        columns = [column.to_pylist() for column in table.columns]
        self._writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))

    def close(self, manifest: dict[str, Any]) -> None:
        """End the file; the manifest has no place in it."""
        self._file.close()


def _cell(value: Any) -> Any:
    value = _plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _plain(value: Any) -> Any:
    """The value with text in place of everything that JSON has no type for."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
