"""What an example is about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.data.columns import ENTITY_QUESTIONS, match_template, split_templates
from curate.errors import EstimatorError
from curate.records import Example
from curate.wikipedia.titles import Reference, SubjectFinder, read_templates

PARTS = split_templates(ENTITY_QUESTIONS)


def test_every_entity_questions_test_question_has_a_subject(shared: Path) -> None:
    questions = [
        row["question"]
        for file in sorted((shared / "data" / "entityquestions" / "test").glob("*.json"))
        for row in json.loads(file.read_text())
    ]
    assert len(questions) == 22_075
    assert [q for q in questions if not match_template(q, PARTS)[1]] == []


def test_the_templates_are_those_that_entity_questions_came_with(shared: Path) -> None:
    published = json.loads((shared / "data" / "entityquestions" / "relation_query_templates.json").read_text())
    assert set(published.values()) == set(ENTITY_QUESTIONS)


@given(st.sampled_from(list(ENTITY_QUESTIONS)), st.text("abc XYZ'.,-é東", min_size=1, max_size=30), st.integers(1, 3))
def test_a_subject_put_into_a_template_comes_out_again(template: str, subject: str, blanks: int) -> None:
    subject = " ".join(subject.split())
    if subject:
        question = template.replace("[X]", subject).replace(" ", " " * blanks)
        assert match_template(question, PARTS)[1] == subject


def test_the_template_that_says_most_decides() -> None:
    parts = split_templates(["Who was [X]?", "Who was [X] created by?"])
    assert match_template("Who was Tintin created by?", parts)[1] == "Tintin"


@pytest.mark.parametrize("question", ["Why is the sky blue?", "Where was  born?", "Where was born?", ""])
def test_a_question_from_no_template_has_no_subject(question: str) -> None:
    assert match_template(question, PARTS)[1] is None


def test_the_best_evidence_a_row_has_decides() -> None:
    finder = SubjectFinder(["title"], ["item"])

    def find(title: object, item: object, subject: str | None) -> Reference | None:
        return finder.find(Example("1", "Where was Ada born?", ("x",), subject, extra={"title": title, "item": item}))

    assert find("Ada Lovelace", "Q7259", "Ada L.") == Reference("title", "Ada Lovelace")
    assert find(None, "http://www.wikidata.org/entity/Q7259", "Ada L.") == Reference("qid", "Q7259")
    assert find("", "", "Ada L.") == Reference("title", "Ada L.")
    assert find(None, None, None) == Reference("title", "Ada")


def test_templates_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "templates.txt"
    file.write_text("# films\nWho directed [X]?\n\nWho starred in [X]?\n")
    assert read_templates([str(file), "Who wrote [X]?"]) == [
        "Who directed [X]?",
        "Who starred in [X]?",
        "Who wrote [X]?",
    ]


@pytest.mark.parametrize("template", ["Who wrote it?", "[X]", "[X] or [X]?"])
def test_a_template_says_once_where_the_subject_stands(template: str) -> None:
    with pytest.raises(EstimatorError, match="subject template"):
        read_templates([template])
