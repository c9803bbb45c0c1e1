"""What a file holds, decompressed and decoded; tables of CSV and TSV, to Arrow exactly."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from curate.data.stores import open_parquet_file
from curate.errors import DataError

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
