from __future__ import annotations

import pytest

from curate.data.ids import check_key, content_ids, number_repeats
from curate.errors import ColumnError


def test_an_id_depends_on_question_answers_and_subject_only() -> None:
    contents = [
        ("Who?", ["a", "b"], "s"),
        ("Who?", ["a", "b"], "s"),
        ("Who", ["a", "b"], "s"),
        ("Who?", ["a"], "s"),
        ("Who?", ["ab"], "s"),
        ("Who?", ["a", "b"], None),
    ]
    same, again, *others = content_ids(contents)
    assert same == again
    assert len({same, *others}) == 5
    assert len(same) == 16


def test_the_id_of_an_example_never_changes_between_versions() -> None:
    assert content_ids([("What is George Rankin's occupation?", ["politician"], "George Rankin")]) == [
        "19894a60af219776"
    ]


def test_exact_repeats_are_numbered() -> None:
    assert number_repeats(["x", "y", "x", "x"]) == ["x", "y", "x-2", "x-3"]


@pytest.mark.parametrize(("values", "message"), [([1, None], "empty in row 2"), ([7, 7], "'7' more than once")])
def test_a_key_of_the_user_must_be_complete_and_unique(values: list[object], message: str) -> None:
    with pytest.raises(ColumnError, match=message):
        check_key(values, "id", "a.csv")
