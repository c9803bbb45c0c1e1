from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.datasets.answers import parse_answers

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
