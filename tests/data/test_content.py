"""Columns are judged by what is in them: choices, aliases, items, statements with a blank, objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.errors import ColumnError, DataError

BIRD = "Which bird cannot fly?"
LABELLED = [{"text": "kiwi", "label": "1"}, {"text": "tui", "label": "2"}]
WHO = {"en": "Who?", "de": "Wer?"}
CHOICES = ["trade", "warfare", "religion", "writing"]
A_TO_D = dict(zip("ABCD", CHOICES, strict=True))


@pytest.mark.parametrize(
    ("rows", "choices", "answer"),
    [
        ([{"Question": BIRD, **A_TO_D, "Answer": "B"}], CHOICES, "warfare"),
        ([{"Question": BIRD, **A_TO_D, "E": "peace", "Answer": "E"}], [*CHOICES, "peace"], "peace"),
        ([{"query": BIRD, "A": "kiwi", "B": "swift", "C": "gull", "answer": "B"}], ["kiwi", "swift", "gull"], "swift"),
        ([{"question": BIRD, "options": CHOICES, "answer": "B", "answer_index": 1}], CHOICES, "warfare"),
        ([{"question": BIRD, "options": A_TO_D, "answer": "warfare", "answer_idx": "B"}], CHOICES, "warfare"),
        ([{"question": BIRD, "choice_1": "kiwi", "choice_2": "tui", "answers": "2"}], ["kiwi", "tui"], "tui"),
        ([{"question": BIRD, "a": "kiwi", "b": "tui", "answer": "b"}], ["kiwi", "tui"], "tui"),
        ([{"question": BIRD, "option_a": "kiwi", "option_b": "tui", "answer": "b"}], ["kiwi", "tui"], "tui"),
        (
            [{"question": {"stem": BIRD, "choices": [{"text": "kiwi", "label": "1"}]}, "answerKey": "1"}],
            ["kiwi"],
            "kiwi",
        ),
        (
            [{"question": BIRD, "choices": {"text": ["kiwi", "tui"], "label": ["1", "2"]}, "answerKey": "1"}],
            ["kiwi", "tui"],
            "kiwi",
        ),
        (
            [
                {
                    "question": BIRD,
                    "choices": "[{'text': 'kiwi', 'label': 'A'}, {'text': 'tui', 'label': 'B'}]",
                    "answer": "B",
                }
            ],
            ["kiwi", "tui"],
            "tui",
        ),
    ],
)
def test_multiple_choice_is_told_by_what_is_in_the_columns(rows: list[Any], choices: list[str], answer: str) -> None:
    (example,) = curate.read(rows).examples()
    assert (example.question, example.choices, example.answers) == (BIRD, tuple(choices), (answer,))


def test_labels_that_count_from_one_are_read_so_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"question": str(n), "choices": CHOICES, "answer": n} for n in (1, 2, 4)]
    assert [e.answers for e in curate.read(rows).examples()] == [("trade",), ("warfare",), ("writing",)]
    assert "the answers count the choices from 1" in caplog.text


def test_numbers_called_a_and_b_are_no_choices() -> None:
    row = {"question": "What is a - b?", "a": 3, "b": 2, "answer": 1}
    assert curate.read([row, row]).examples()[0].choices == ()


def test_labels_count_from_one_where_the_columns_of_choices_do(caplog: pytest.LogCaptureFixture) -> None:
    row = {"question": BIRD, "choice_1": "kiwi", "choice_2": "tui", "choice_3": "gull"}
    assert [e.answers for e in curate.read([{**row, "answer": n} for n in (1, 2)]).examples()] == [("kiwi",), ("tui",)]
    assert "so do the columns of choices" in caplog.text
    assert [e.answers for e in curate.read([{**row, "answer": n} for n in (0, 2)]).examples()] == [("kiwi",), ("gull",)]


def test_single_letters_without_choices_are_said_to_be_texts(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"question": "Which?", "answer": letter} for letter in "Ab"]
    assert [e.answers for e in curate.read(rows).examples()] == [("A",), ("b",)]
    assert "the answers in 'answer' are single letters, and no column holds choices" in caplog.text


@pytest.mark.parametrize("answers", [["A", "B", "2"], ["B", "E"]])
def test_an_answer_that_names_no_choice_has_that_as_its_status(
    answers: list[str], tiny_model: Callable[[str], Path]
) -> None:
    rows = [{"question": f"{BIRD} {a}", "choices": ["kiwi", "swift"], "answer": a} for a in answers]
    found = [row["loss_status"] for row in curate.score(rows, by="loss", model=str(tiny_model("gpt2")))]
    assert found == [*["ok"] * (len(answers) - 1), "answer_not_in_choices"]


ALIASED = {"question": BIRD, "answer": "kiwi"}


@pytest.mark.parametrize(
    "row",
    [
        {**ALIASED, "aliases": ["kiwi", "apteryx"]},
        {**ALIASED, "answer_aliases": "['apteryx']"},
        {**ALIASED, "possible_answers": '["kiwi", "apteryx"]'},
        {"question": BIRD, "answers": ["kiwi"], "aliases": ["apteryx"], "id": 3},
        {"Question": BIRD, "Answer": "kiwi", "Aliases": ["apteryx"]},
        {"sub_label": "kiwi", "template": "[X] is also called [Y] .", "obj_label": "kiwi", "aliases": ["apteryx"]},
        {"question": BIRD, "answer": {"value": "kiwi", "aliases": ["apteryx"]}},
        {"Question": BIRD, "Answer": {"Value": "kiwi", "Aliases": ["apteryx"], "Type": "x"}},
    ],
)
def test_aliases_beside_the_answer_are_accepted_in_every_layout(row: dict[str, Any]) -> None:
    (example,) = curate.read([row]).examples()
    assert example.answers == ("kiwi", "apteryx")
    (scored,) = curate.score([{**row, "views": 1}], by="column:views")
    assert curate.read([scored]).ids == curate.read([row]).ids


def test_aliases_are_left_out_where_the_user_names_the_answers() -> None:
    row = {**ALIASED, "aliases": ["apteryx"]}
    assert curate.read([row], answer_column="answer").examples()[0].answers == ("kiwi",)


def test_items_are_no_names_of_subjects(caplog: pytest.LogCaptureFixture) -> None:
    item = {**ALIASED, "subject": "http://www.wikidata.org/entity/Q42", "relation": "P1"}
    assert curate.read([{**item, "subject_label": "Kiwi"}]).examples()[0].subject == "Kiwi"
    assert curate.read([{**item, "entity": "Kiwi"}]).examples()[0].subject == "Kiwi"
    assert curate.read([item]).examples()[0].subject is None
    assert "'subject' holds Wikidata items" in caplog.text
    assert curate.read([item], subject_column="subject").examples()[0].subject == item["subject"]


LAMA = {"sub_label": "Ada Holm", "obj_label": "potter", "predicate_id": "P106"}


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({**LAMA, "template": "[X] is a [Y] by profession ."}, ""),
        ({**LAMA, "template": "[Y] is the profession of [X] ."}, ""),
        ({**LAMA, "template": "[X] ( [Y] ) ."}, "Ada Holm ("),
        ({**LAMA, "pattern": "[Y] is the trade of [X]."}, ""),
        ({**LAMA, "pattern": "The trade of [X] is [Y]."}, "The trade of Ada Holm is"),
        ({**LAMA, "masked_sentences": ["Holm was a [MASK] in 1871 ."]}, ""),
        ({**LAMA, "masked_sentences": ["Holm was a potter .", "She was a [MASK] ."]}, "She was a"),
        ({**LAMA, "masked_sentences": ["Holm was a potter ."]}, ""),
        ({**LAMA, "masked_sentences": ["A [MASK] is a [MASK] ."]}, ""),
        ({**LAMA, "masked_sentence": "Holm was a ___ ."}, "Holm was a"),
        (
            {**LAMA, "evidences": [{"masked_sentence": text} for text in ("[MASK] Holm .", "She is a [MASK]")]},
            "She is a",
        ),
    ],
)
def test_a_statement_ends_at_its_blank_or_is_no_question(row: dict[str, Any], question: str) -> None:
    data = curate.read([row])
    (example,) = data.examples()
    assert (example.question, data.roles.preset in ("lama", "pararel")) == (question, True)


def test_a_statement_that_goes_on_after_its_blank_has_no_score_and_is_not_exported(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    templates = ["[X] is a [Y] by profession .", "[X] works as [Y] ."]
    rows = [{**LAMA, "template": template} for template in templates]
    curate.score(rows, by="loss", model=str(tiny_model("gpt2")), shots=0, output=tmp_path / "scored.parquet")
    assert curate.read(tmp_path / "scored.parquet").table["loss_status"].to_pylist() == ["no_question", "ok"]
    curate.select(tmp_path / "scored.parquet", whole=True, format="prompt-completion", output=tmp_path / "whole.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert lines == [{"prompt": "Ada Holm works as", "completion": " potter"}]


@pytest.mark.parametrize(
    ("row", "message", "try_next"),
    [
        (
            {"question": {"en": "Who?", "de": "Wer?"}, "answer": "x"},
            "cannot be the question",
            "question_column='question.en'",
        ),
        ({"question": ["Who?", "Where?"], "answer": ["x", "y"]}, "cannot be the question", "question_column="),
        (
            {"question": "Who?", "answer": {"label": "x", "id": "Q1"}},
            "cannot be the answers",
            "answer_column='answer.label'",
        ),
        ({"question": "Who?", "answers": [{"name": "x"}]}, "cannot be the answers", "answer_column='answers.name'"),
        ({"question": "Who?", "answers": [["x"], ["y"]]}, "cannot be the answers", "answer_column="),
        ({"question": "Who?", "answer": "{'en': 'x'}"}, "cannot be the answers", "answer_column='answer.en'"),
        ({"question": "Who?", "choices": [{"en": "x"}], "answer": "A"}, "cannot be the choices", "choices_column="),
        ({"question": "Who?", "answer": "[kiwi apteryx]"}, "look like lists", "write the file again"),
        (
            {"question": "Who?", "answer": "0    kiwi\n1    tui\ndtype: object"},
            "look like lists",
            "write the file again",
        ),
        (
            {"question": "Who?", "answer": "x", "aliases": [{"en": "y"}]},
            "'aliases' holds no further",
            "answer_column='answer'",
        ),
        ({"question": BIRD, "options": "A. kiwi\nB. tui", "answer": "A"}, "are one text, not a list", "write the file"),
    ],
)
def test_objects_and_lists_are_refused_with_the_field_to_name(row: dict[str, Any], message: str, try_next: str) -> None:
    with pytest.raises(ColumnError) as caught:
        curate.read([row])
    assert message in caught.value.found
    assert str(caught.value.try_next).startswith(try_next)


@pytest.mark.parametrize(
    "cell", ["{kiwi,apteryx}", "[kiwi, apteryx]", "WrappedArray(kiwi, apteryx)", "['kiwi' 'it''s']"]
)
def test_lists_that_nobody_can_read_are_refused_where_all_answers_look_so(cell: str) -> None:
    with pytest.raises(ColumnError, match="look like lists"):
        curate.read([{"question": "?", "answer": cell}, {"question": "!", "answer": "['tui']"}])
    assert curate.read([{"question": "?", "answer": cell}, {"question": "!", "answer": "tui"}]).examples()[0].answers


def test_the_mark_of_a_masked_model_is_no_question_in_any_layout() -> None:
    texts = ["Ada is a [MASK] .", "Ada is [Y].", "Ada is <mask>", "What does grid[x][y] mean?", "What is [sic]?"]
    rows = [{"question": text, "answer": "potter"} for text in texts]
    assert [e.question for e in curate.read(rows).examples()] == ["", "", "", *texts[3:]]


COLUMNS = st.sampled_from(["answer", "answers", "Answer"])
BESIDE = st.sampled_from(["aliases", "answer_aliases", "possible_answers"])
SPELL = st.sampled_from([list, json.dumps, str, tuple])
NAME = st.text(st.characters(categories=["Lu", "Ll"]), min_size=1, max_size=5)


@given(COLUMNS, BESIDE, NAME, st.lists(NAME, max_size=4), SPELL, st.booleans())
def test_aliases_follow_the_answer_whatever_the_columns_are_called_and_however_they_are_spelled(
    name: str, beside: str, answer: str, aliases: list[str], spell: Callable[[list[str]], Any], listed: bool
) -> None:
    row = {"question": BIRD, name: [answer] if listed else answer, beside: spell(aliases)}
    assert curate.read([row, row]).examples()[1].answers == tuple(dict.fromkeys([answer, *aliases]))


def test_a_field_that_a_message_names_is_one_that_works() -> None:
    row = {
        "question": {"en": "Who?", "de": "Wer?"},
        "answers": [{"name": "x", "also": ["y"]}, {"name": "z", "also": []}],
    }
    (example,) = curate.read([row], question_column="question.en", answer_column="answers.name").examples()
    assert (example.question, example.answers) == ("Who?", ("x", "z"))
    assert curate.read([row], question_column="question.en", answer_column="answers.also").examples()[0].answers == (
        "y",
    )


@pytest.mark.parametrize("question", [["Who?"], {"text": "Who?"}])
def test_a_list_or_object_among_questions_is_no_text_either(question: Any) -> None:
    with pytest.raises(ColumnError, match="'question' cannot be the question"):
        curate.read([{"question": "Who?", "answer": "x"}, {"question": question, "answer": "y"}])


def test_prompts_are_texts_whatever_they_look_like() -> None:
    rows = [{"prompt": '["Who?"]', "completion": "x"}, {"prompt": "Who?", "completion": "y"}]
    assert [e.question for e in curate.read(rows).examples()] == ['["Who?"]', "Who?"]


def test_answers_that_are_items_are_said_to_be_no_names(caplog: pytest.LogCaptureFixture) -> None:
    curate.read([{"question": "Who?", "answers": ["Q42"]}, {"question": "Where?", "answers": ["Q84"]}])
    assert "the answers in 'answers' are Wikidata items, not their names" in caplog.text


@pytest.mark.parametrize("before", [0, 60])
def test_a_list_that_was_cut_short_is_refused_with_its_file(before: int, tmp_path: Path) -> None:
    cut = "['a' 'b' 'c' ... 'x' 'y' 'z']"
    (tmp_path / "a.csv").write_text("question,answer\n" + "Who?,['x']\n" * before + f'Where?,"{cut}"\n')
    with pytest.raises(DataError, match=r"a\.csv: A list was cut short"):
        curate.read(tmp_path / "a.csv").examples()


def test_an_object_far_down_is_refused_with_its_file(tmp_path: Path) -> None:
    rows = [{"question": "Who?", "answer": "x"}] * 60 + [{"question": "Who?", "answer": {"en": "y"}}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"a\.json: Found an object.*\n.*\nTry: mend or leave out that row"):
        curate.read(tmp_path / "a.json").examples()


def test_an_object_far_down_is_no_text_either() -> None:
    rows = [{"question": "Who?", "answer": "x"}] * 60 + [{"question": "Who?", "answer": {"en": "y"}}]
    with pytest.raises(DataError, match="an object with the fields 'en'"):
        curate.score([{**row, "views": 1} for row in rows], by="column:views")
