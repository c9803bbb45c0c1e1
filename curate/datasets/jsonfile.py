"""JSON and JSONL files as Arrow tables, every value kept as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def read_json(content: bytes, where: Path | str) -> pa.Table:
    """A table from a JSON array of objects, from `{"data": [...]}`, or from one object a line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not text: byte 0x{content[error.start]:02x} at offset {error.start} is not UTF-8.",
            expected="a JSON or JSONL file in UTF-8",
        ) from error
    start = text.lstrip()[:1]
    if start == "[":
        rows = _parse_whole(text, where)
    elif start == "{":
        rows = _parse_lines(text, where)
    else:
        raise DataError(
            f"{where} is not JSON: it begins with {text.lstrip()[:20]!r}.",
            expected="an array of objects, or one object a line",
            try_next="rename it after what it holds (.csv, .tsv, .parquet, …)",
        )
    return table_from_rows(rows)


def table_from_rows(rows: list[dict[str, Any]]) -> pa.Table:
    """A table with every key of any row as a column, in order of first appearance.

    A column whose values have no common Arrow type (some texts, some lists) holds each value as JSON text.
    """
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    arrays = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            arrays[name] = pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])
    return pa.table(arrays)


def _parse_whole(text: str, where: Path | str) -> list[dict[str, Any]]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(error.msg, error.lineno, where) from error
    return _check_rows(parsed, where)


def _parse_lines(text: str, where: Path | str) -> list[dict[str, Any]]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        pass  # more than one object: one a line
    else:
        data = whole.get("data")
        return _check_rows(data if isinstance(data, list) else [whole], where)
    rows = []
    # Only "\n" ends a line of JSONL; splitlines() would also cut at U+2028 inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise _broken(error.msg, number, where) from error
    return _check_rows(rows, where)


def _check_rows(rows: list[Any], where: Path | str) -> list[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(
                f"{where}, item {number}: found {type(row).__name__}, not an object.",
                expected='objects such as {"question": "…", "answers": ["…"]}',
            )
    return rows


def _broken(message: str, line: int, where: Path | str) -> DataError:
    return DataError(f"{where}, line {line}: not JSON ({message}).", expected="one JSON object a line, or an array")
