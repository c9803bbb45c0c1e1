"""JSON and JSONL to Arrow, exactly: an array, an object a line, or rows within an object."""

from __future__ import annotations

import io
import json
import math
import mmap
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from curate.data.formats import Content, decode
from curate.errors import DataError, setting

STANDARD_INPUT = "standard input"

BLOCK = 4 << 20
"""Bytes that Arrow parses at once."""

BEGINNING = 1 << 20
"""Bytes that tell what the types of a file are likely to be."""


def read_json(content: Content, where: PurePath | str, split: str | None = None) -> pa.Table:
    """A table from a JSON array of objects, from one object a line, or from an object that holds rows (`_rows_in`).

    `split` names the list to read in an object that has several. Lines are read by Arrow where that gives the same
    table, and by Python, which bears more and names the line, where it does not. Dates stay the text they are.
    """
    table = lines_by_arrow(content) if split is None else None
    if table is not None:
        return table
    text = decode(content if isinstance(content, bytes) else content.read_bytes(), where)
    return table_from_rows(_parse_rows(text, where, split), where)


def lines_by_arrow(content: Content) -> pa.Table | None:
    """The table that Arrow makes of two lines or more, all texts as text; None where that may not be what is there."""
    source = partial(pa.BufferReader, content) if isinstance(content, bytes) else partial(str, content)
    try:
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            first = file.readline(BLOCK)
            if not first.lstrip().startswith(b"{") or not file.read(1):
                return None
        json.loads(first)  # fails for an object of several lines
        table = _as_it_begins(source) or _read_lines(source)
        plain = _plain_schema(table.schema)
        if plain != table.schema:
            table = _read_lines(source, plain)
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda column: column.validate(full=True), table.columns))  # texts that are not UTF-8
    except (pa.ArrowException, ValueError, RecursionError):
        return None
    nested = any(field.type.num_fields for field in table.schema)
    unsure = any(map(_may_differ, table.columns)) or (nested and _null_in_list(content))
    return None if unsure or table.num_rows < 2 or not table.num_columns else table


def _as_it_begins(source: Callable[[], Any]) -> pa.Table | None:
    """The table if all lines go with the types of the first ones, which saves Arrow time and a third of the memory."""
    try:
        with pa_json.open_json(source(), pa_json.ReadOptions(block_size=BEGINNING)) as reader:
            schema = _plain_schema(reader.schema)
        return None if "null" in str(schema.types) else _read_lines(source, schema)
    except pa.ArrowException:
        return None


def _read_lines(source: Callable[[], Any], schema: pa.Schema | None = None) -> pa.Table:
    parsing = pa_json.ParseOptions(explicit_schema=schema)
    return pa_json.read_json(source(), pa_json.ReadOptions(block_size=BLOCK), parsing)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(_without_dates(field.type)) for field in schema])


def _without_dates(kind: pa.DataType) -> pa.DataType:
    """The type with text in place of the dates that Arrow sees in text like 2020-01-01."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_dates(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_dates(field.type)) for field in kind])
    return kind


def _may_differ(column: pa.ChunkedArray) -> bool:
    """Whether a whole number may have lost digits as float64."""
    if pa.types.is_nested(column.type):
        return "double" in str(column.type)
    if not pa.types.is_floating(column.type):
        return False
    largest = pc.max(pc.abs(column)).as_py()
    return largest is not None and largest >= 2**53


def _null_in_list(content: Content) -> bool:
    """Whether a list may hold a null, which Arrow's JSON reader turns into another value or into damage."""
    if isinstance(content, bytes):
        return b"null" in content and re.search(rb"[\[,]\s*null\b", content) is not None
    with content.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return mapped.find(b"null") >= 0 and re.search(rb"[\[,]\s*null\b", mapped) is not None


def _parse_rows(text: str, where: PurePath | str, split: str | None) -> list[dict[str, Any]]:
    """The objects in a text; DataError that names the line, or the item, where it is not what it should be."""
    start = text.lstrip()[:1]
    if not start:
        raise DataError(f"{where} holds nothing but blanks.", expected="an array of objects, or one object a line")
    if start not in "[{":
        raise DataError(
            f"{where} is not JSON: it begins with {text.lstrip()[:20]!r}.",
            expected="an array of objects, or one object a line",
            try_next="rename it after what it holds (.csv, .tsv, .parquet, …)"
            if where != STANDARD_INPUT
            else "save it to a file named after what it holds (.csv, .tsv, .parquet, …), and give that name",
        )
    lines = start == "{" and _one_object_a_line(text)
    if split is not None and (lines or start == "["):
        _rows_in({}, where, split)  # has no splits, and says so
    if lines:
        # Only "\n" ends a line of JSONL; splitlines() would also cut at U+2028 inside a string.
        numbered = enumerate(text.split("\n"), start=1)
        rows = [_loads(line, where, number) for number, line in numbered if line.strip()]
    else:
        rows = _loads(text, where)
        rows = _rows_in(rows, where, split) if start == "{" else rows
    for nest in ("paragraphs", "qas"):  # SQuAD as its authors publish it: articles of paragraphs of questions
        if rows and all(isinstance(row, dict) and _objects(row.get(nest)) for row in rows):
            rows = [{**row, **inner} for row in rows for inner in row.pop(nest)]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(
                f"{where}, item {number}: found {type(row).__name__}, not an object.",
                expected='objects such as {"question": "…", "answers": ["…"]}',
            )
    return list(rows)


ASKS = {"question", "query", "problem", "prompt", "instruction", "input", "messages", "conversations"}
"""Names of fields, in small letters, by which rows are told from what else may be in an object."""


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _asks(names: Iterable[str]) -> bool:
    return any(name.lower() in ASKS for name in names)


def _rows_in(found: dict[str, Any], where: PurePath | str, split: str | None) -> list[Any]:
    """The rows in one object; the object itself where it is an example, or nobody knows what it is.

    They are under `data`, under the only name that has rows, or under that of a `split`; or the object is a table in
    one of the shapes of pandas: lists or objects by column, objects by row, `columns` beside `data`.
    """
    data, lists = found.get("data", found.get("Data")), [name for name in found if _objects(found[name])]
    splits = [name for name in lists if all(map(_asks, found[name]))]
    splits += [name for name, value in found.items() if isinstance(value, dict) and _by_column(value)]
    if split is not None or len(splits) > 1:
        if split in splits:
            return _rows_under(found[split], where)
        raise DataError(
            f"{where} has no split {split!r}." if split else f"{where} holds several splits: {', '.join(splits)}.",
            expected=f"one of {', '.join(splits)}" if splits else "a file with several lists of examples",
            try_next=setting("split", splits[0]) if splits else f"leave out {setting('split')}",
        )
    names = found.get("columns")
    if isinstance(names, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        if len({*map(str, names)}) < len(names) or any(len(row) != len(names) for row in data):
            raise DataError(f"{where}: its rows have not as many cells as it has columns.", expected=f"{len(names)}")
        return [dict(zip(map(str, names), row, strict=True)) for row in data]
    if isinstance(data, list):
        return data
    if _by_column(found):
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    asked = any(isinstance(value, str) and name.lower() in ASKS for name, value in found.items())
    if splits and not asked:
        return _rows_under(found[splits[0]], where)
    if found and all(isinstance(value, dict) for value in found.values()):
        labels = [*next(iter(found.values()))]
        same = all([*column] == labels for column in found.values())
        if _asks(found) and same and all(re.search(r"\d", label) for label in labels):  # not of languages, en and de
            return [{name: column[label] for name, column in found.items()} for label in labels]
        if not _asks(found) and all(map(_asks, found.values())):
            named = not all(label.isdecimal() for label in found)
            return [{**({"index": label} if named else {}), **row} for label, row in found.items()]
    return [found]


def _rows_under(value: Any, where: PurePath | str) -> list[Any]:
    return value if isinstance(value, list) else _rows_in(value, where, None)


def _by_column(found: dict[str, Any]) -> bool:
    """Whether an object is a table as lists of one length, of which one has questions."""
    lists = [value for value in found.values() if isinstance(value, list)]
    questions = any(
        name.lower() in ASKS and isinstance(value, list) and not _objects(value) for name, value in found.items()
    )
    return questions and len(lists) == len(found) and len({*map(len, lists)}) == 1


def _one_object_a_line(text: str) -> bool:
    first, _, rest = text.strip().partition("\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return bool(rest)


def _loads(text: str, where: PurePath | str, line: int | None = None) -> Any:
    """The value a text spells; `line` is its line in the file if the text is not the whole file."""
    place = where if line is None else f"{where}, line {line}"
    try:
        return json.loads(text, object_pairs_hook=_with_unique_keys)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}, line {line or error.lineno}: not JSON ({error.msg}).",
            expected="one JSON object a line, or an array",
        ) from error
    except KeyError as error:
        raise DataError(f"{place}: an object has the key {error.args[0]!r} twice.", expected="each key once") from error
    except RecursionError as error:
        raise DataError(f"{place}: lists or objects lie too deep in each other.", expected="rows of cells") from error
    except ValueError as error:  # Python reads no number of more digits
        raise DataError(
            f"{place}: a whole number has more than {sys.get_int_max_str_digits():,} digits.",
            expected="numbers that can be read",
            try_next="put it in quotes, as a text",
        ) from error


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise KeyError(key)
        found[key] = value
    return found


def table_from_rows(rows: list[dict[str, Any]], where: PurePath | str) -> pa.Table:
    """A table with every key of any row as a column, in order of first appearance.

    A column whose values have no common Arrow type (some texts, some lists) holds each value as JSON text.
    """
    arrays = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            str(name).encode("utf-8")
            arrays[str(name)] = to_array([row.get(name) for row in rows])
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}, key {name!r}: {error.object[:40]!r} holds half of a surrogate pair.",
                expected="text that Unicode allows",
                try_next="mend or leave out that row",
            ) from error
    return pa.table(arrays)


def to_array(values: list[Any]) -> pa.Array:
    """The values in the Arrow type that holds them all; values of no common type each as JSON text, NaN as null."""
    try:
        return pa.array(values)
    except UnicodeEncodeError:
        raise
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
        return pa.array([_json_text(value) for value in values], pa.string())


def _json_text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):  # how pandas writes that nothing is there
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
