from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.data.answers import choice_spelling, correct_choice, parse_answers

ANSWERS = st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, unique=True)


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        (["politician", "pol"], ("politician", "pol")),
        ('["politician", "pol"]', ("politician", "pol")),
        ("['politician', 'pol']", ("politician", "pol")),
        ("politician", ("politician",)),
        ("Nan", ("Nan",)),
        ("None", ("None",)),
        ("1984", ("1984",)),
        (1984, ("1984",)),
        (1984.0, ("1984",)),
        (3.5, ("3.5",)),
        (["  Paris ", "", None, "Paris"], ("Paris",)),
        ("[sic] and so on", ("[sic] and so on",)),
        ("   ", ()),
        (None, ()),
        (float("nan"), ()),
        ([], ()),
    ],
)
def test_every_spelling_of_answers_gives_the_same_texts(cell: object, answers: tuple[str, ...]) -> None:
    assert parse_answers(cell) == answers


@given(ANSWERS)
def test_a_list_written_as_json_or_as_a_python_repr_is_the_list(answers: list[str]) -> None:
    assert parse_answers(json.dumps(answers)) == tuple(answers)
    assert parse_answers(repr(answers)) == tuple(answers)


@pytest.mark.parametrize(
    ("column", "spelling", "right"),
    [
        (["B", "A", None], "letter", ["one", "zero", None]),
        ([1, 0, None], "index", ["one", "zero", None]),
        (["1", "0", "7"], "index", ["one", "zero", None]),
        (["one", "zero", "B"], "text", ["one", "zero", None]),
    ],
)
def test_the_whole_column_tells_how_the_right_choice_is_named(
    column: list[object], spelling: str, right: list[str | None]
) -> None:
    assert choice_spelling(column) == spelling
    found = [correct_choice(value, ("zero", "one", "two"), choice_spelling(column)) for value in column]
    assert found == [() if text is None else (text,) for text in right]


def test_a_letter_is_a_letter_even_where_a_choice_reads_like_it() -> None:
    assert correct_choice("B", ("O", "A", "B", "AB"), choice_spelling(["B", "D"])) == ("A",)
