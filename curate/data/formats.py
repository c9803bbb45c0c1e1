"""CSV, TSV, JSON and JSONL to Arrow, exactly."""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import mmap
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from curate.errors import DataError

log = logging.getLogger(__name__)

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


def data_suffix(path: PurePath) -> str:
    """The suffix that tells the format, compression aside: `.csv` for `a.csv.gz`."""
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def decode(content: bytes, where: PurePath | str) -> str:
    """The text, without a byte order mark; bytes that are not UTF-8 are read as Windows-1252, and that is logged.

    Windows-1252 is latin-1 with quotation marks and the euro where latin-1 has control characters. Raises DataError
    for a binary file. A zero byte may be in a cell of UTF-8, but not in the first line, where UTF-16 without its mark
    would have one too.
    """
    encoding = MARKS.get(content[:2], "utf-8-sig")
    if encoding == "utf-8-sig" and b"\x00" in content[:4096].partition(b"\n")[0]:
        raise _binary(where)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16" or b"\x00" in content[:4096]:
            raise _binary(where) from error
        line = content[: error.start].count(b"\n") + 1
        log.warning(
            "%s, line %d: byte 0x%02x is not UTF-8; the file is read as Windows-1252 (latin-1). "
            "If that is wrong: iconv -f ENCODING -t utf-8",
            where,
            line,
            content[error.start],
        )
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _binary(where: PurePath | str) -> DataError:
    return DataError(
        f"{where} is a binary file, not text.",
        expected="what its name says: rows of text",
        try_next="rename it after what it holds (.parquet, .json, …)",
    )


MMLU_COLUMNS = ("question", "A", "B", "C", "D", "answer")

csv.field_size_limit(2**31 - 1)


def read_delimited(content: bytes, delimiter: str, where: PurePath) -> pa.Table:
    """A table of the rows below the header; DataError names the first line with too many or too few cells.

    A column becomes int64 or float64 only if writing the numbers back gives the same text (empty cells are
    null then), so the answers "1984" and "007" both survive. Every other column is text, with nothing made
    null: "None" and "nan" stay as they are.
    """

    text = decode(content, where)
    header = next(csv.reader(io.StringIO(text), delimiter=delimiter), [])
    headerless = is_mmlu_row(header)
    if headerless:
        header = list(MMLU_COLUMNS)
    _check_header(header, delimiter, where)
    try:
        table = pa_csv.read_csv(
            io.BytesIO(text.encode("utf-8")),
            read_options=pa_csv.ReadOptions(column_names=header if headerless else None),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in header}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _ragged(text, delimiter, where) or DataError(f"{where} cannot be read: {error}") from error
    return pa.table({name: numbers_or_text(table[name]) for name in table.column_names})


def is_mmlu_row(cells: Sequence[str]) -> bool:
    """Whether a first line is no header but an example of MMLU's original files: question, four choices, letter."""
    return len(cells) == len(MMLU_COLUMNS) and cells[-1] in ("A", "B", "C", "D") and cells[0] != "question"


def numbers_or_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as int64 or float64 (empty cells null) where that loses no character, else as it is."""

    filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    if filled.null_count == len(filled):
        return column
    for number in (pa.int64(), pa.float64()):
        try:
            numbers = pc.cast(filled, number)
        except pa.ArrowInvalid:
            continue
        # Arrow writes 3.0 as "3", so a trailing ".0" is left out of the comparison.
        written = pc.cast(numbers, pa.string())
        if written.equals(pc.replace_substring_regex(filled, r"\.0$", "")):
            return numbers
    return column


def _check_header(header: list[str], delimiter: str, where: PurePath) -> None:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(
            f"{where} has more than one column named {repeated[0]!r}.",
            expected="a different name for every column",
            try_next="rename one of them in the first line of the file",
        )
    if len(header) == 1 and ";" in header[0]:
        raise DataError(
            f"{where} has one column only, and its cells look separated by ';'.",
            expected=f"cells separated by {delimiter!r}, as its name says",
            try_next="save it with commas, or as .tsv with tabs",
        )
    other, kind = ("\t", ".tsv") if delimiter == "," else (",", ".csv")
    if len(header) == 1 and other in header[0]:
        raise DataError(
            f"{where} has one column only, and its cells look separated by {other!r}.",
            expected=f"cells separated by {delimiter!r}, as its name says",
            try_next=f"rename it to {where.with_suffix(kind).name}",
        )
    if header and header[0].lstrip().startswith(("{", "[{")):
        raise DataError(
            f"{where} holds JSON, not rows of cells.",
            expected=f"cells separated by {delimiter!r}, as its name says",
            try_next=f"rename it to {where.with_suffix('.jsonl').name}",
        )


def _ragged(text: str, delimiter: str, where: PurePath) -> DataError | None:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    width = len(next(reader))
    start = reader.line_num + 1
    for row in reader:
        if len(row) not in (0, width):
            return DataError(
                f"{where}, line {start}: found {len(row)} cells.",
                expected=f"{width} cells, as in the header",
                try_next='put cells that hold the separator or a line break in double quotes ("…")',
            )
        start = reader.line_num + 1
    return None


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
    try:
        buffer = pa.py_buffer(text.encode("utf-8"))
    except UnicodeError:
        return None
    return table_of_lines(lambda: pa.BufferReader(buffer))


def table_of_lines(source: Callable[[], Any]) -> pa.Table | None:
    """The table Arrow makes of JSONL, all texts as text; None where it refuses, or its table may not be true.

    `source` gives a path or an open file, from the start each time it is called. The lists must hold no null.
    """

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
    parsing = pa_json.ParseOptions(explicit_schema=schema)
    return pa_json.read_json(source(), pa_json.ReadOptions(block_size=BLOCK), parsing)


def _as_it_begins(source: Callable[[], Any]) -> pa.Table | None:
    """The table if all lines go with the types of the first ones, which saves Arrow time and a third of the memory."""

    try:
        with pa_json.open_json(source(), pa_json.ReadOptions(block_size=BEGINNING)) as reader:
            schema = _plain_schema(reader.schema)
        return None if "null" in str(schema.types) else _read_lines(source, schema)
    except pa.ArrowException:
        return None


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(without_dates(field.type)) for field in schema])


def without_dates(kind: pa.DataType) -> pa.DataType:
    """The type with text in place of the dates that Arrow sees in text like 2020-01-01."""

    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(without_dates(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(without_dates(field.type)) for field in kind])
    return kind


def _may_differ(column: pa.ChunkedArray) -> bool:
    """Whether a whole number may have lost digits as float64."""

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
    return None if nested and _null_in_file(path) else table


def _null_in_file(path: Path) -> bool:
    """Whether a list may hold a null, which Arrow's JSON reader turns into another value or into damage."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"null") >= 0 and re.search(rb"[\[,]\s*null\b", content) is not None
