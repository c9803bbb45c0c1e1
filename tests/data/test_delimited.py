"""CSV and TSV are read as Python's csv reads them in strict mode, or refused with the line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.data.formats import quotes_are_in_place, read_delimited
from curate.errors import DataError


def cells(content: str | bytes, name: str = "a.csv") -> list[list[str]]:
    """The rows that are read below the header, as texts."""
    content = content.encode() if isinstance(content, str) else content
    table = read_delimited(content, Path(name), "\t" if name.endswith(".tsv") else ",")
    return [[str(cell) for cell in row.values()] for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", 'question,answer\nkiwi?,"no\nwide?,"nine inches\nstone?,pumice\n', "line 2: text stands after"),
        ("a.csv", 'question,views,answer\nkiwi?,5,no\nwide?,4,"nine\nfish?,3,eel\n', "line 3: a cell opens with a"),
        ("a.tsv", 'question\tanswer\nparody?\t"Odd Al\nkiwi?\tno\nwide?\t9"\n', "line 2: a cell that opens with"),
        ("a.csv", 'question,answer\nparody?,"Odd Al\nkiwi?,no\nwide?,9"\n', "line 2: a cell that opens with"),
        ("a.csv", 'question,answer\nwho?,"Ann" Lee\n', "line 2: text stands after"),
        ("a.csv", 'question,answer\nwho?,"say "hi" now"\n', "line 2: text stands after"),
        ("a.csv", 'question,answer\nwho?, "Lee, Ann"\n', "line 2: found 3 cells"),
        ("a.csv", "question,answer,views\r\nWhich\rbird?,kiwi,2\r\n", "line 2: found 1 cells"),
        ("a.csv", "question,answer\rwho?,Ann\rwhere?\r", "line 3: found 1 cells"),
        ("a.csv", 'question,answer\n"a\r\nb\r\n",x\nwhere?\n', "line 5: found 1 cells"),
    ],
)
def test_what_cannot_be_read_beyond_doubt_is_refused_with_its_line(name: str, content: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        cells(content, name)
    assert f"{name}, {message}" in str(caught.value)
    assert caught.value.try_next


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("q,a\rbird?,kiwi\rstone?,pumice\r", [["bird?", "kiwi"], ["stone?", "pumice"]]),
        ('q,a\r\n"Which\rbird?",kiwi\r\n', [["Which\rbird?", "kiwi"]]),
        ('q,a\n5" board?,9"\n', [['5" board?', '9"']]),
        ('q,a\n"say ""hi"" now?","""hi"""\n', [['say "hi" now?', '"hi"']]),
        ("q,a\n\nwho?,Ann\n\n", [["who?", "Ann"]]),
        ('q,a\n"one\n\ntwo",Ann', [["one\n\ntwo", "Ann"]]),
        ('"q","a"\n"one,\ntwo","Ann"\n', [["one,\ntwo", "Ann"]]),
        ("q,a\nwho\x00?,Ann\n", [["who\x00?", "Ann"]]),
        ('\ufeff"q",a\nwho?,Zoë\n'.encode(), [["who?", "Zoë"]]),
        ("q,a\nwho?,Zoë\n".encode("utf-16"), [["who?", "Zoë"]]),
        ("q,a\nwho?,Zoë\n".encode("utf-32"), [["who?", "Zoë"]]),
        ("q,a\nwho?," + "x" * 5_000_000 + '\nwhere?,"y,"\n', [["who?", "x" * 5_000_000], ["where?", "y,"]]),
    ],
)
def test_what_can_be_read_is_read_whole(content: str | bytes, rows: list[list[str]]) -> None:
    assert cells(content) == rows


def test_a_cell_that_may_have_swallowed_rows_is_told_where_others_have_line_breaks_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = 'q,a\n"code, a\nb",x\n"one\ntwo\nthree",y\n'
    assert cells(content) == [["code, a\nb", "x"], ["one\ntwo\nthree", "y"]]
    assert "a.csv, line 2: a cell in quotes holds what could be rows" in caplog.text


PIECES = ["a", "b", "SEP", '"', "\n", "\r", "\r\n", "é", " ", '"SEP"', '""']


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(",\t"), st.lists(st.sampled_from(PIECES), min_size=1, max_size=24))
def test_a_text_is_read_as_python_reads_it_in_strict_mode_or_refused(separator: str, pieces: list[str]) -> None:
    text = "qSEPa\n".replace("SEP", separator) + "".join(pieces).replace("SEP", separator)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if row]
    except csv.Error:
        rows = [[]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.data.formats.SCANNED", 7)
        patch.setattr("curate.data.formats.numbers_or_text", lambda column: column)
        if {len(row) for row in rows} != {2}:
            with pytest.raises(DataError):
                cells(text, "a.tsv" if separator == "\t" else "a.csv")
            return
        try:
            assert cells(text, "a.tsv" if separator == "\t" else "a.csv") == rows[1:]
        except DataError as error:
            assert "each of these lines would be a row" in str(error)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)] * 3)),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_with_quotes_is_read_as_pandas_reads_it(
    rows: list[tuple[str, ...]], quoting: int, end: str
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=quoting, lineterminator=end).writerows([("question", "answer", "kind"), *rows])
    content = file.getvalue().encode()
    frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.data.formats.numbers_or_text", lambda column: column)
        assert cells(content) == frame.to_numpy().tolist() == [list(row) for row in rows]


def test_well_quoted_files_are_left_to_arrow_and_others_are_not() -> None:
    for sure in ('q,a\n"x, y",z\n', "q,a\r\nx,y\r\n", 'q,a\n"one\ntwo\nthree",""\n"""",y'):
        assert quotes_are_in_place(sure.encode(), ","), sure
    for doubtful in ('q,a\n5",y\n', "q,a\rx,y\r", 'q,a\n"x,y\n', 'q,a\n"x"y,z\n'):
        assert not quotes_are_in_place(doubtful.encode(), ","), doubtful


def test_many_columns_are_read_in_reasonable_time(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(30_000)]
    (tmp_path / "wide.csv").write_text(",".join(["question", "answer", *names]) + "\nwho?,Ann" + ",1" * 30_000 + "\n")
    assert curate.read(tmp_path / "wide.csv").examples()[0].answers == ("Ann",)
