"""CSV and TSV files as Arrow tables, without guessing: a cell stays the text it is unless it is plainly a number."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from curate.datasets.decoding import decode
from curate.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MMLU_COLUMNS = ("question", "A", "B", "C", "D", "answer")

csv.field_size_limit(2**31 - 1)


def read_delimited(content: bytes, delimiter: str, where: PurePath) -> pa.Table:
    """A table of the rows below the header; DataError names the first line with too many or too few cells.

    A column becomes int64 or float64 only if writing the numbers back gives the same text (empty cells are
    null then), so the answers "1984" and "007" both survive. Every other column is text, with nothing made
    null: "None" and "nan" stay as they are.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv

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
    import pyarrow as pa
    import pyarrow.compute as pc

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
