from __future__ import annotations

import pytest

from curate.datasets.columns import Columns, recognise
from curate.errors import ColumnError


def test_popqa_columns_are_recognised_by_name() -> None:
    names = ["id", "subj", "prop", "obj", "s_pop", "question", "possible_answers"]
    assert recognise(names, {}, "popQA.tsv") == Columns("question", "possible_answers", "subj", "prop")


def test_what_the_user_names_comes_before_what_is_recognised() -> None:
    columns = recognise(["question", "answer", "asked"], {"question": "asked", "subject": None}, "a.csv")
    assert columns == Columns("asked", "answer")


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ColumnError, match=r"no column 'reply'.*--answer-column") as caught:
        recognise(["question", "answer"], {"answers": "reply"}, "a.csv")
    assert "'question', 'answer'" in str(caught.value.expected)


@pytest.mark.parametrize(
    ("names", "flag"), [(["text", "answer"], "--question-column"), (["question", "x"], "--answer-column")]
)
def test_a_table_without_a_question_or_answers_says_which_flag_to_use(names: list[str], flag: str) -> None:
    with pytest.raises(ColumnError) as caught:
        recognise(names, {}, "a.csv")
    assert flag in str(caught.value.try_next)
