"""Solved examples before a question: of the same topic, in the file's order, never the question itself."""

from __future__ import annotations

import pytest

from curate.errors import EstimatorError
from curate.prompts import TEMPLATES, Shots
from curate.records import Example


def example(question: str, relation: str | None = None, answer: str = "x") -> Example:
    return Example(question, question, (answer,), None, relation)


POOL = [example("d1", "director"), example("g1", "genre"), example("d2", "director"), example("d3", "director")]


def questions(shots: Shots, asked: Example) -> list[str]:
    return [shot.question for shot in shots.choose(asked)]


def test_shots_are_the_first_of_the_same_relation() -> None:
    shots = Shots(TEMPLATES["qa"], POOL, 2)
    assert questions(shots, example("new", "director")) == ["d1", "d2"]


def test_a_question_is_never_its_own_shot() -> None:
    shots = Shots(TEMPLATES["qa"], POOL, 2)
    assert questions(shots, POOL[0]) == ["d2", "d3"]


@pytest.mark.parametrize("relation", ["genre", "unheard of", None])
def test_too_few_of_the_relation_are_replaced_by_the_first_of_all(relation: str | None) -> None:
    shots = Shots(TEMPLATES["qa"], POOL, 2)
    assert questions(shots, example("new", relation)) == ["d1", "g1"]


def test_a_pool_too_small_is_refused() -> None:
    with pytest.raises(EstimatorError, match=r"are 4, and --shots asks for 5"):
        Shots(TEMPLATES["qa"], POOL, 5)


def test_the_prefix_is_solved_examples_with_a_blank_line_after_each() -> None:
    assert Shots(TEMPLATES["qa"], POOL, 2).prefix(example("new", "director")) == (
        "Question: d1\nAnswer: x\n\nQuestion: d2\nAnswer: x\n\n"
    )


def test_a_multiple_choice_shot_ends_in_its_letter_and_has_the_same_subject() -> None:
    pool = [Example(s, f"{s}?", ("no",), s, None, ("yes", "no")) for s in ("law", "logic")]
    prefix = Shots(TEMPLATES["mmlu"], pool, 1).prefix(Example("q", "new?", ("yes",), "logic", None, ("yes", "no")))
    assert prefix == (
        "The following are multiple choice questions (with answers) about logic.\n\n"
        "logic?\nA. yes\nB. no\nAnswer: B\n\n"
    )


def test_what_the_pool_holds_is_part_of_the_fingerprint() -> None:
    one, other = (Shots(TEMPLATES["qa"], [example("d1", answer=a)], 1).fingerprint() for a in "xy")
    assert one != other
