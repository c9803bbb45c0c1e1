from __future__ import annotations

import pytest

from curate.validation.evaluate import contains_answer, exact_match, normalise, token_f1


@pytest.mark.parametrize(
    ("output", "answers", "right"),
    [
        (" He is a Politician.\n", ["politician"], True),
        ("politics", ["politician", "pol"], True),
        ("baker", ["politician"], False),
        ("anything", [""], False),
        ("anything", ["  "], False),
        ("Paris", [" PARIS "], True),
        ("", ["Paris"], False),
    ],
)
def test_an_answer_is_right_if_it_contains_an_accepted_one(output: str, answers: list[str], right: bool) -> None:
    assert contains_answer(output, answers) is right


def test_containment_flatters_short_aliases_and_exact_match_does_not() -> None:
    assert contains_answer("politics", ["pol"])
    assert not exact_match("politics", ["pol"])


def test_normalisation_is_that_of_squad() -> None:
    assert normalise("The  Beatles, an English band!") == "beatles english band"


def test_f1_counts_shared_tokens_and_takes_the_best_answer() -> None:
    assert token_f1("the ridley scott film", ["Ridley Scott", "nobody"]) == pytest.approx(0.8)
    assert token_f1("baker", ["Ridley Scott"]) == 0.0
