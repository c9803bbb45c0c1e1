"""The bytes of a file to Arrow, exactly: Parquet, CSV, TSV, JSON and JSONL, compressed or not."""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import math
import mmap
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial, reduce
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from curate.data.stores import open_parquet_file
from curate.errors import DataError, setting

log = logging.getLogger(__name__)

COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
LINES = (".jsonl", ".ndjson")

MOST_UNPACKED = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
"""Bytes that a compressed file may hold: half of the memory."""

Content = bytes | Path
"""What a file holds, decompressed, or where it lies: a long JSONL file need not be in memory beside its table."""


def data_suffix(path: PurePath) -> str:
    """The suffix that tells the format, compression aside: `.csv` for `a.csv.gz`."""
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def stem(file: str) -> str:
    """The name without the suffixes of format and compression: `P106.train` for `P106.train.json.gz`."""
    while (suffix := PurePath(file).suffix.lower()) and (suffix in COMPRESSED or suffix in SUFFIXES):
        file = file[: -len(suffix)]
    return file


def read_content(path: Path) -> Content:
    """What a file on this machine holds; DataError if it cannot be read, or is empty."""
    try:
        with path.open("rb") as file:
            content: Content = path if path.suffix.lower() in LINES else file.read()
            empty = not (content if isinstance(content, bytes) else file.read(1))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}",
            expected="a readable file",
            try_next="ls -l, to see whether you may read it",
        ) from error
    if empty:
        raise DataError(f"{path} is empty (0 bytes).", expected="a file with at least one example")
    return content if isinstance(content, Path) else decompressed(path, content)


def decompressed(path: PurePath, content: bytes) -> bytes:
    """The bytes in a compressed file; those of another file as they are."""
    suffix = path.suffix.lower()
    if suffix not in COMPRESSED:
        return content
    most = min(MOST_UNPACKED, max(1 << 30, 200 * len(content)))  # text packs to a tenth, not to a thousandth
    unpacked = bytearray()
    try:
        with pa.CompressedInputStream(pa.BufferReader(content), COMPRESSED[suffix]) as stream:
            while len(unpacked) <= most and (piece := stream.read(1 << 24)):
                unpacked += piece
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error}",
            expected=f"a whole {path.suffix} file, as its name says",
            try_next="rename it after what it holds",
        ) from error
    if len(unpacked) > most:
        raise DataError(
            f"{path} has {len(content):,} bytes and unpacks to more than {most:,}.",
            expected="no more than half of the memory, nor, above a gigabyte, more than 200 times its size",
            try_next="unpack it and give that file, if it is what it should be",
        )
    return bytes(unpacked)


def parse(path: PurePath, content: Content, split: str | None = None) -> pa.Table:
    """The table in a file of that name, or a split of several that are in it."""
    reader = READERS.get(data_suffix(path))
    if reader is None:
        raise DataError(
            f"{path} has a name that tells no format.",
            expected=f"one of {', '.join(SUFFIXES)} (compressed too: {', '.join(COMPRESSED)})",
            try_next="rename it after what it holds",
        )
    return reader(content, path) if split is None else read_json(content, path, split)


def read_parquet(content: bytes, where: PurePath) -> pa.Table:
    """The table in a Parquet file."""
    try:
        return open_parquet_file(content).read()
    except (pa.ArrowException, OSError) as error:
        what = "cut off or damaged" if content[:4] == b"PAR1" else "not a Parquet file, whatever its name says"
        raise DataError(
            f"{where} is {what} ({str(error).splitlines()[0]}).",
            expected="a whole Parquet file",
            try_next="make it again, or rename it after what it holds (.csv, .tsv, .jsonl, .json)",
        ) from error


MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before the mark of UTF-16, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(content: bytes, where: PurePath | str) -> str:
    """The text, without a byte order mark; bytes that are not UTF-8 are read as Windows-1252, and that is logged.

    Windows-1252 is latin-1 with quotation marks and the euro where latin-1 has control characters. Raises DataError
    for a binary file. A zero byte may be in a cell of UTF-8, but not in the first line, where UTF-16 without its mark
    would have one too.
    """
    if content[:4] == b"PAR1" and isinstance(where, PurePath):
        raise DataError(
            f"{where} is a Parquet file, not what its name says.",
            expected=f"a {data_suffix(where)} file",
            try_next=f"rename it to {where.with_suffix('.parquet').name}",
        )
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and b"\x00" in content[:4096].partition(b"\n")[0]:
        raise _binary(where)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig" or b"\x00" in content[:4096]:
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
QUOTE = b'"'
SCANNED = 1 << 22
"""Bytes that are looked through at once, so that what is in work fits the processor's cache."""

csv.field_size_limit(2**31 - 1)


def read_delimited(content: bytes, where: PurePath, delimiter: str) -> pa.Table:
    """A table of the rows below the header; DataError names the line of whatever cannot be read beyond doubt.

    Rows are those of Python's csv in strict mode: lines end with a line feed, a carriage return or both, and a quote
    counts where a cell begins with it. A column becomes int64 or float64 only if writing the numbers back gives the
    same text (empty cells are null then), so the answers "1984" and "007" both survive. Every other column is text,
    with nothing made null: "None" and "nan" stay as they are.
    """
    content = decode(content, where).encode("utf-8")
    header = next((row for row in csv.reader(_lines_of(content), delimiter=delimiter) if row), [])
    headerless = is_mmlu_row(header)
    if headerless:
        header = list(MMLU_COLUMNS)
    _check_header(header, delimiter, where)
    table = None
    if quotes_are_in_place(content, delimiter):
        with suppress(pa.ArrowInvalid):  # ragged rows, and cells of megabytes
            table = pa_csv.read_csv(
                pa.BufferReader(content),
                read_options=pa_csv.ReadOptions(column_names=header if headerless else None),
                parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    column_types={name: pa.string() for name in header}, strings_can_be_null=False
                ),
            )
    if table is None:
        rows = [row for _, row in _rows_by_python(content, delimiter, len(header), where)][0 if headerless else 1 :]
        cells = zip(*rows, strict=True) if rows else [()] * len(header)
        table = pa.table({name: pa.array(c, pa.string()) for name, c in zip(header, cells, strict=True)})
    _check_line_breaks(table, content, delimiter, where)
    return pa.table({name: numbers_or_text(table[name]) for name in table.column_names})


def _lines_of(content: bytes) -> Iterator[str]:
    return io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")


def quotes_are_in_place(content: bytes, delimiter: str) -> bool:
    """Whether Arrow certainly reads the rows, unless they are ragged, that Python's csv reads in strict mode.

    So it is where every quote opens or closes a cell or is doubled within one, and a carriage return stands before a
    line feed only.
    """
    if content.count(b"\r") != content.count(b"\r\n"):
        return False
    opens, closes = np.zeros(256, dtype=bool), np.zeros(256, dtype=bool)  # what may stand before, and after, a quote
    opens[[*f'"\n{delimiter}'.encode()]] = closes[[*f'"\r\n{delimiter}'.encode()]] = True
    data = np.frombuffer(content, dtype=np.uint8)
    before = 0
    for start in range(0, len(data) if QUOTE in content else 0, SCANNED):
        quotes = np.flatnonzero(data[start : start + SCANNED] == ord(QUOTE)) + start
        first = before % 2  # they open and close in turn
        if not opens[data[np.maximum(quotes[first::2] - 1, 0)]].all():
            return False
        if not closes[data[np.minimum(quotes[1 - first :: 2] + 1, len(data) - 1)]].all():
            return False
        before += len(quotes)
    return before % 2 == 0


def _rows_by_python(content: bytes, delimiter: str, width: int, where: PurePath) -> Iterator[tuple[int, list[str]]]:
    """All rows, each with its line, as Python's csv reads them in strict mode; DataError where it does not."""
    reader, line, wrong = csv.reader(_lines_of(content), delimiter=delimiter, strict=True), 1, ""
    try:
        for row in reader:
            if len(row) not in (0, width):
                wrong = f"found {len(row)} cells"
                break
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        wrong = "text stands after the quote that ends a cell"
        if "unexpected end" in str(error):
            wrong = "a cell opens with a quote that never closes"
    if wrong:
        raise DataError(
            f"{where}, line {line}: {wrong}.",
            expected=f"{width} cells, as in the header",
            try_next='put cells that hold a quote, the separator or a line break in double quotes ("…"), '
            'and double the quotes within them ("")',
        )


def _check_line_breaks(table: pa.Table, content: bytes, delimiter: str, where: PurePath) -> None:
    """DataError where a row of several lines may be several rows: each of its lines has as many cells as the header.

    In a file without quoting, a quote at the beginning of a cell and one at the end of a later cell look just so. Where
    other rows of several lines are certain it is told, and no error; who puts every name of the header in quotes does
    so with all texts, and leaves no doubt.
    """
    end, marks = "\n" if b"\n" in content else "\r", table.num_columns - 1
    lines = content.count(end.encode()) + (not content.endswith(end.encode()))
    if marks < 1 or lines <= table.num_rows + 1 or content.partition(end.encode())[0].count(QUOTE) > 2 * marks:
        return
    breaks, within = (
        reduce(pc.add, (pc.count_substring(column, sign) for column in table.columns)) for sign in (end, delimiter)
    )
    several = pc.greater(breaks, 0)
    like_rows = pc.and_(several, pc.equal(within, pc.multiply(breaks, marks)))
    certain, doubtful = pc.any(pc.and_not(several, like_rows)).as_py(), None
    for row in pc.indices_nonzero(like_rows).to_pylist():
        (cells,) = table.slice(row, 1).to_pylist()
        if all(line.count(delimiter) == marks for line in delimiter.join(cells.values()).split(end)):
            doubtful = row if doubtful is None else doubtful
        else:
            certain = True
    if doubtful is None:
        return
    from_end = doubtful - table.num_rows
    line = [line for line, _ in _rows_by_python(content, delimiter, table.num_columns, where)][from_end]
    if certain:
        log.warning("%s, line %d: a cell in quotes holds what could be rows; it is read as one cell.", where, line)
        return
    raise DataError(
        f"{where}, line {line}: a cell that opens with a quote goes on in the next line, and each of these "
        "lines would be a row by itself.",
        expected="no doubt where a row ends",
        try_next=f"pandas.read_csv({where.name!r}, sep={delimiter!r}, quoting=3), where quotes mean nothing, "
        "and save that as .jsonl",
    )


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
    repeated = sorted(name for name, times in Counter(header).items() if times > 1)
    if repeated:
        raise DataError(
            f"{where} has more than one column named {repeated[0]!r}.",
            expected="a different name for every column",
            try_next="rename one of them in the first line of the file",
        )
    cells = f"cells separated by {delimiter!r}, as its name says"
    other, kind = ("\t", ".tsv") if delimiter == "," else (",", ".csv")
    for sign, try_next in (
        (";", "save it with commas, or as .tsv with tabs"),
        (other, f"rename it to {where.with_suffix(kind).name}"),
    ):
        if len(header) == 1 and sign in header[0]:
            raise DataError(
                f"{where} has one column only, and its cells look separated by {sign!r}.",
                expected=cells,
                try_next=try_next,
            )
    if header and header[0].lstrip().startswith(("{", "[{")):
        raise DataError(
            f"{where} holds JSON, not rows of cells.",
            expected=cells,
            try_next=f"rename it to {where.with_suffix('.jsonl').name}",
        )


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


READERS: dict[str, Callable[[Any, PurePath], pa.Table]] = {
    ".parquet": read_parquet,
    ".csv": partial(read_delimited, delimiter=","),
    ".tsv": partial(read_delimited, delimiter="\t"),
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
}
SUFFIXES = tuple(READERS)
