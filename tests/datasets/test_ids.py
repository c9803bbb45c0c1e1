from __future__ import annotations

import pytest

from curate.datasets.ids import check_key, content_id, number_repeats
from curate.errors import ColumnError


def test_an_id_depends_on_question_answers_and_subject_only() -> None:
    same = content_id("Who?", ["a", "b"], "s")
    assert same == content_id("Who?", ["a", "b"], "s")
    others = [content_id("Who", ["a", "b"], "s"), content_id("Who?", ["a"], "s"), content_id("Who?", ["a", "b"], None)]
    assert same not in others
    assert len(same) == 16


def test_the_id_of_an_example_never_changes_between_versions() -> None:
    assert content_id("What is George Rankin's occupation?", ["politician"], "George Rankin") == "5a330f40e9b71bbe"


def test_exact_repeats_are_numbered() -> None:
    assert number_repeats(["x", "y", "x", "x"]) == ["x", "y", "x-2", "x-3"]


@pytest.mark.parametrize(("values", "message"), [([1, None], "empty in row 2"), ([7, 7], "'7' more than once")])
def test_a_key_of_the_user_must_be_complete_and_unique(values: list[object], message: str) -> None:
    with pytest.raises(ColumnError, match=message):
        check_key(values, "id", "a.csv")
