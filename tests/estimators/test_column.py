from __future__ import annotations

import pytest

from curate.errors import EstimatorError
from curate.estimators import find_estimator
from curate.estimators.base import score_of_number
from curate.records import Score


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3 "])
def test_numbers_and_texts_that_spell_one_are_scores(value: object) -> None:
    assert score_of_number(value, "views") == Score(3.0)


@pytest.mark.parametrize("value", [None, "", "  ", float("nan"), "nan"])
def test_an_empty_cell_is_missing_and_not_zero(value: object) -> None:
    assert score_of_number(value, "views") == Score(None, "missing")


def test_a_text_is_refused_with_the_text() -> None:
    with pytest.raises(EstimatorError, match="'many'"):
        score_of_number("many", "views")


@pytest.mark.parametrize("spec", ["perplexity", "column", "column:", "loss:x", ""])
def test_an_unknown_estimator_is_refused_with_those_there_are(spec: str) -> None:
    with pytest.raises(EstimatorError) as caught:
        find_estimator(spec)
    assert "column:NAME" in str(caught.value.expected)
