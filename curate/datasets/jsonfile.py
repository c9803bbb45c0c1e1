"""JSON and JSONL files as Arrow tables, every value kept as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from curate.datasets.decoding import decode
from curate.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

STANDARD_INPUT = "standard input"
BLOCK = 4 << 20
"""Bytes that Arrow parses at once."""

BEGINNING = 1 << 20
"""Bytes that tell what the types of a file are likely to be."""


def read_json(content: bytes, where: PurePath | str) -> pa.Table:
    """A table from a JSON array of objects, from `{"data": [...]}`, or from one object a line.

    Lines are read by Arrow where that gives the same table, and by Python, which bears more and names the line,
    where it does not. Dates stay the text they are.
    """
    text = decode(content, where)
    start = text.lstrip()[:1]
    if start == "[":
        return table_from_rows(_parse_whole(text, where), where)
    if start == "{":
        table = _read_with_arrow(text) if _one_object_a_line(text) and not _null_in_list(text) else None
        return table_from_rows(_parse_objects(text, where), where) if table is None else table
    if not start:
        raise DataError(f"{where} holds nothing but blanks.", expected="an array of objects, or one object a line")
    raise DataError(
        f"{where} is not JSON: it begins with {text.lstrip()[:20]!r}.",
        expected="an array of objects, or one object a line",
        try_next="rename it after what it holds (.csv, .tsv, .parquet, …)"
        if where != STANDARD_INPUT
        else "save it to a file named after what it holds (.csv, .tsv, .parquet, …), and give that name",
    )


def _one_object_a_line(text: str) -> bool:
    first, _, rest = text.strip().partition("\n")
    try:
        json.loads(first)
    except ValueError:
        return False
    return bool(rest)


def _null_in_list(text: str) -> bool:
    """Whether a list may hold a null, which Arrow's JSON reader turns into another value or into damage."""
    return "null" in text and re.search(r"[\[,]\s*null\b", text) is not None


def _read_with_arrow(text: str) -> pa.Table | None:
    import pyarrow as pa

    try:
        buffer = pa.py_buffer(text.encode("utf-8"))
    except UnicodeError:
        return None
    return table_of_lines(lambda: pa.BufferReader(buffer))


def table_of_lines(source: Callable[[], Any]) -> pa.Table | None:
    """The table Arrow makes of JSONL, all texts as text; None where it refuses, or its table may not be true.

    `source` gives a path or an open file, from the start each time it is called. The lists must hold no null.
    """
    import pyarrow as pa

    try:
        table = _as_it_begins(source) or _read_lines(source)
        plain = _plain_schema(table.schema)
        if plain != table.schema:
            table = _read_lines(source, plain)
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda column: column.validate(full=True), table.columns))  # texts that are not UTF-8
    except pa.ArrowException:
        return None
    return None if any(map(_may_differ, table.columns)) else table


def _read_lines(source: Callable[[], Any], schema: pa.Schema | None = None) -> pa.Table:
    import pyarrow.json as pa_json

    parsing = pa_json.ParseOptions(explicit_schema=schema)
    return pa_json.read_json(source(), pa_json.ReadOptions(block_size=BLOCK), parsing)


def _as_it_begins(source: Callable[[], Any]) -> pa.Table | None:
    """The table if all lines go with the types of the first ones, which saves Arrow time and a third of the memory."""
    import pyarrow as pa
    import pyarrow.json as pa_json

    try:
        with pa_json.open_json(source(), pa_json.ReadOptions(block_size=BEGINNING)) as reader:
            schema = _plain_schema(reader.schema)
        return None if "null" in str(schema.types) else _read_lines(source, schema)
    except pa.ArrowException:
        return None


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([field.with_type(without_dates(field.type)) for field in schema])


def without_dates(kind: pa.DataType) -> pa.DataType:
    """The type with text in place of the dates that Arrow sees in text like 2020-01-01."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(without_dates(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(without_dates(field.type)) for field in kind])
    return kind


def _may_differ(column: pa.ChunkedArray) -> bool:
    """Whether a whole number may have lost digits as float64."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(column.type):
        return "double" in str(column.type)
    if not pa.types.is_floating(column.type):
        return False
    largest = pc.max(pc.abs(column)).as_py()
    return largest is not None and largest >= 2**53


def table_from_rows(rows: list[dict[str, Any]], where: PurePath | str) -> pa.Table:
    """A table with every key of any row as a column, in order of first appearance.

    A column whose values have no common Arrow type (some texts, some lists) holds each value as JSON text.
    """
    import pyarrow as pa

    arrays = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            arrays[str(name)] = to_array(values)
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}, key {name!r}: {error.object[:40]!r} holds half of a surrogate pair.",
                expected="text that Unicode allows",
                try_next="mend or leave out that row",
            ) from error
    return pa.table(arrays)


def to_array(values: list[Any]) -> pa.Array:
    """The values in the Arrow type that holds them all; values of no common type each as JSON text."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except UnicodeEncodeError:
        raise
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
        texts = (
            v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str) for v in values
        )
        return pa.array(list(texts), pa.string())


def _parse_whole(text: str, where: PurePath | str) -> list[dict[str, Any]]:
    return _check_rows(_loads(text, where), where)


def _parse_objects(text: str, where: PurePath | str) -> list[dict[str, Any]]:
    if not _one_object_a_line(text):
        whole = _loads(text, where)
        data = whole.get("data", whole.get("Data"))
        return _check_rows(data if isinstance(data, list) else [whole], where)
    # Only "\n" ends a line of JSONL; splitlines() would also cut at U+2028 inside a string.
    lines = enumerate(text.split("\n"), start=1)
    return _check_rows([_loads(line, where, number) for number, line in lines if line.strip()], where)


def _loads(text: str, where: PurePath | str, line: int | None = None) -> Any:
    """The value a text spells; `line` is its line in the file if the text is not the whole file."""
    try:
        return json.loads(text, object_pairs_hook=_with_unique_keys)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}, line {line or error.lineno}: not JSON ({error.msg}).",
            expected="one JSON object a line, or an array",
        ) from error
    except KeyError as error:
        place = where if line is None else f"{where}, line {line}"
        raise DataError(f"{place}: an object has the key {error.args[0]!r} twice.", expected="each key once") from error


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise KeyError(key)
        found[key] = value
    return found


def _check_rows(rows: list[Any], where: PurePath | str) -> list[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(
                f"{where}, item {number}: found {type(row).__name__}, not an object.",
                expected='objects such as {"question": "…", "answers": ["…"]}',
            )
    return rows
