"""Solved examples before a question: of the same topic, in the file's order, never the question itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import EstimatorError
from curate.prompts import TEMPLATES, Patterns, Shots, draw_exemplars
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
    with pytest.raises(EstimatorError, match=r"are 4, and shots asks for 5"):
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


FACTS = [
    Example(f"{relation}-{n}", f"What is the {relation} of S{n}?", (f"{relation} {n % 7}",), f"S{n}", relation)
    for relation, many in (("capital", 30), ("author", 12), ("genre", 3))
    for n in range(many)
]


@given(order=st.permutations(FACTS), count=st.integers(1, 4), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_exemplars_do_not_depend_on_the_order_of_the_rows(order: list[Example], count: int, seed: int) -> None:
    one, other = (draw_exemplars(TEMPLATES["qa"], rows, count, seed=seed)[0] for rows in (FACTS, order))
    assert one.fingerprint() == other.fingerprint()
    for asked in FACTS:
        shots = one.choose(asked)
        assert shots == other.choose(asked)
        assert len(shots) == count
        assert all(shot.question != asked.question and shot.subject != asked.subject for shot in shots)
        assert len({shot.subject for shot in shots}) == count


def test_exemplars_are_of_the_relation_and_what_it_lacks_is_filled_from_the_whole_dataset() -> None:
    drawn = draw_exemplars(TEMPLATES["qa"], FACTS, 4)[0]
    capital, genre = (next(e for e in FACTS if e.relation == relation) for relation in ("capital", "genre"))
    assert {shot.relation for shot in drawn.choose(capital)} == {"capital"}
    assert [shot.relation for shot in drawn.choose(genre)].count("genre") == 2, "three there are, one is the question"
    assert len(drawn.choose(genre)) == 4


def test_exemplars_have_different_answers_where_there_are_different_ones() -> None:
    drawn = draw_exemplars(TEMPLATES["qa"], FACTS, 4)[0].drawn
    assert len({shot.answers[0] for shot in drawn["capital"]}) == 5
    same = [Example(str(n), f"Where is S{n}?", ("here",), f"S{n}", "place") for n in range(9)]
    assert len(draw_exemplars(TEMPLATES["qa"], same, 4)[0].drawn["place"]) == 5


def test_another_set_has_other_exemplars() -> None:
    one, other = draw_exemplars(TEMPLATES["qa"], FACTS, 4, sets=("one", "other"))
    assert one.drawn["capital"] != other.drawn["capital"]


def test_too_few_rows_to_draw_from_are_refused_with_what_would_do() -> None:
    with pytest.raises(EstimatorError, match=r"There are 3 examples(.|\n)*Try: shots=2"):
        draw_exemplars(TEMPLATES["qa"], FACTS[-3:], 4)
    with pytest.raises(EstimatorError, match=r"There are 1 examples(.|\n)*Try: by='loss' shots=0"):
        draw_exemplars(TEMPLATES["slick"], FACTS[:1], 4, asked_by="known_shots")


def test_where_no_relation_is_known_question_patterns_stand_for_them() -> None:
    rows = [replace(fact, relation=None) for fact in FACTS if fact.relation != "genre"]
    patterns = Patterns(row.question for row in rows)
    drawn = draw_exemplars(TEMPLATES["qa"], rows, 4, patterns=patterns)[0]
    assert all(shot.question.startswith("What is the capital") for shot in drawn.choose(rows[0]))
    assert all(shot.question.startswith("What is the author") for shot in drawn.choose(rows[-1]))
