from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.data.answers import NotTextError, choice_spelling, correct_choice, parse_answers, parse_choices
from curate.errors import DataError

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


@given(ANSWERS)
def test_a_list_as_numpy_prints_it_is_the_list(answers: list[str]) -> None:
    assert parse_answers(str(np.array(answers, dtype=object))) == tuple(answers)
    if all(ord(sign) < 128 for text in answers for sign in text):
        assert parse_answers(repr(np.array(answers, dtype=object))) == tuple(answers)


@pytest.mark.parametrize(
    ("cell", "answers"),
    [
        ("['kiwi' 'apteryx']", ("kiwi", "apteryx")),
        ("['the kiwi'\n 'New York']", ("the kiwi", "New York")),
        ("[1901 1954]", ("1901", "1954")),
        ("[1. 2.5]", ("1", "2.5")),
        ("array(['kiwi', 'apteryx'], dtype=object)", ("kiwi", "apteryx")),
        ("[np.str_('kiwi'), np.str_('apteryx')]", ("kiwi", "apteryx")),
        ("[u'kiwi', u'apteryx']", ("kiwi", "apteryx")),
        ("[b'kiwi' b'apteryx']", ("kiwi", "apteryx")),
        ("('kiwi', 'apteryx')", ("kiwi", "apteryx")),
        ("{'kiwi', 'apteryx'}", ("kiwi", "apteryx")),
        ("['kiwi' nan]", ("kiwi",)),
        ('c("kiwi", "apteryx")', ("kiwi", "apteryx")),
        ("array('kiwi', 'apteryx')", ("kiwi", "apteryx")),
        ("c(1, 2)", ("c(1, 2)",)),
        ("{'text': array(['kiwi'], dtype=object), 'answer_start': array([4], dtype=int32)}", ("kiwi",)),
        ('{"Value": "kiwi", "Aliases": ["Kiwi", "apteryx"], "Type": "x"}', ("kiwi", "Kiwi", "apteryx")),
        ({"text": ["kiwi", "bird"], "answer_start": [1, 2]}, ("kiwi", "bird")),
        (
            [{"answer_id": "m.1", "answer": "kiwi", "aliases": ["apteryx"]}, {"answer": "tui"}],
            ("kiwi", "apteryx", "tui"),
        ),
        ({"text": [], "answer_start": []}, ()),
        ({"text": None, "aliases": None}, ()),
        ("(3, 4)", ("(3, 4)",)),
        ("{1, 2}", ("{1, 2}",)),
        ("(see 'kiwi' above)", ("(see 'kiwi' above)",)),
        ("[it's a bird]", ("[it's a bird]",)),
        ("['it''s']", ("['it''s']",)),
        ("[__import__('os').getcwd()]", ("[__import__('os').getcwd()]",)),
        (b"kiwi", ("kiwi",)),
    ],
)
def test_objects_and_lists_of_other_languages_give_their_texts_where_that_is_certain(
    cell: object, answers: tuple[str, ...]
) -> None:
    assert parse_answers(cell) == answers


@pytest.mark.parametrize(
    "cell",
    [
        {"label": "kiwi", "id": "Q1"},
        {"text": "kiwi", "answer": "apteryx"},
        [["kiwi"], ["apteryx"]],
        [{"name": "kiwi"}],
        "{'value': {'de': 'Kiwi'}}",
        "['kiwi' 'tui' ... 'emu' 'rhea']",
    ],
)
def test_objects_and_lists_are_no_texts(cell: object) -> None:
    with pytest.raises(DataError) as caught:
        parse_answers(cell)
    assert caught.value.try_next


def test_an_error_about_an_object_reaches_its_owner_from_a_worker() -> None:
    assert pickle.loads(pickle.dumps(NotTextError({"a": 1}))).message() == NotTextError({"a": 1}).message()


THREE = ["zero", "one", "two"]


@pytest.mark.parametrize(
    ("column", "choices", "spelling", "right"),
    [
        (["B", "a", None], THREE, "letter", ["one", "zero", None]),
        ([1, 0, None], THREE, "index", ["one", "zero", None]),
        (["1", "0", "7"], THREE, "index", ["one", "zero", "7"]),
        ([1, 2, 3], THREE, "count", ["zero", "one", "two"]),
        ([1, 2, 2], THREE, "index", ["one", "two", "two"]),
        (["one", "zero", "B"], THREE, "text", ["one", "zero", "B"]),
        (["A", "B", "2", "E"], THREE, "letter", ["zero", "one", "2", "E"]),
        (["4", "2"], ["2", "3", "4", "5"], "text", ["4", "2"]),
        (["O", "AB", "A"], ["A", "B", "AB", "O"], "text", ["O", "AB", "A"]),
        (["2", "1"], {"text": THREE, "label": ["1", "2", "3"]}, "letter", ["one", "zero"]),
        (["C"], {"A": "zero", "B": "one", "C": "two", "D": None}, "letter", ["two"]),
        (["B"], [{"text": "zero", "label": "A"}, {"text": "one", "label": "B"}], "letter", ["one"]),
        (["B"], "{'text': array(['zero', 'one'], dtype=object), 'label': array(['A', 'B'])}", "letter", ["one"]),
        ([["B"], "['A']"], THREE, "letter", ["one", "zero"]),
    ],
)
def test_the_whole_column_tells_how_the_right_choice_is_named(
    column: list[object], choices: object, spelling: str, right: list[str | None]
) -> None:
    parsed = parse_choices([choices])
    found = choice_spelling((value, parsed) for value in column)
    assert found == spelling
    answers = [correct_choice(value, parsed, found) for value in column]
    assert answers == [() if text is None else (text,) for text in right]


TEXTS = st.lists(st.text(min_size=2, max_size=5).map(str.strip).filter(bool), min_size=2, max_size=8, unique=True)


@given(TEXTS, st.data())
def test_a_choice_is_the_same_however_it_is_named(texts: list[str], data: st.DataObject) -> None:
    places = [*data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1)), 0, len(texts) - 1]
    letters = [*"ABCDEFGH"[: len(texts)]]
    cells = [texts, {"text": texts, "label": letters}, dict(zip(letters, texts, strict=True)), json.dumps(texts)]
    for choices in [*(parse_choices([cell]) for cell in cells), parse_choices(texts)]:
        for column in ([letters[p] for p in places], places, [texts[p] for p in places], [p + 1 for p in places]):
            spelling = choice_spelling((value, choices) for value in column)
            assert [correct_choice(v, choices, spelling) for v in column] == [(texts[p],) for p in places]


def test_a_letter_is_a_letter_even_where_a_choice_reads_like_it() -> None:
    blood = parse_choices(["O", "A", "B", "AB"])
    assert correct_choice("B", blood, choice_spelling([("B", blood), ("D", blood)])) == ("A",)
