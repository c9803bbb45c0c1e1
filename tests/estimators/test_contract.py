"""What every estimator promises, checked on each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.errors import EstimatorError
from curate.estimators import ESTIMATORS, make_estimator
from curate.estimators.base import Estimator, ModelEstimator
from curate.records import Example
from curate.wikipedia.views import MEASURED

Tiny = Callable[[str], Path]


def drawn(estimator: Estimator) -> Estimator:
    """With the solved examples that it draws from a dataset of its own."""
    facts = [Example(str(n), f"Who directed M{n}?", (f"D{n}",), f"M{n}", "director") for n in range(6)]
    estimator.draw(lambda: facts)
    return estimator


MADE: dict[str, Callable[[Tiny], Estimator]] = {
    "column": lambda tiny_model: make_estimator("column:views", {}),
    "known": lambda tiny_model: drawn(make_estimator("known", {"model": tiny_model("llama"), "known_sets": 2})),
    "loss": lambda tiny_model: drawn(make_estimator("loss", {"model": tiny_model("llama"), "device": "cpu"})),
    "pageviews": lambda tiny_model: make_estimator("pageviews", {"views_from": "column:views"}),
    "sitelinks": lambda tiny_model: make_estimator("sitelinks", {"offline": True}),
}


def test_every_registered_estimator_is_under_contract() -> None:
    assert set(MADE) == set(ESTIMATORS)


@pytest.fixture(params=sorted(MADE))
def estimator(request: pytest.FixtureRequest, tiny_model: Tiny) -> Estimator:
    return MADE[request.param](tiny_model)


@pytest.fixture
def examples(films: list[dict[str, Any]]) -> list[Example]:
    return curate.read([*films, {**films[0], "question": None}, {**films[1], "answers": []}]).examples(["views"])


def test_one_score_an_example_in_the_same_order(estimator: Estimator, examples: list[Example]) -> None:
    forward = [s.value for s in estimator.score(examples)]
    backward = [s.value for s in estimator.score(examples[::-1])]
    assert len(forward) == len(examples)
    assert forward[::-1] == pytest.approx(backward, abs=1e-5)


def test_no_value_means_a_reason_and_never_a_number(estimator: Estimator, examples: list[Example]) -> None:
    for score in estimator.score(examples):
        assert (score.value is None) == (score.status not in MEASURED)


def test_evidence_is_what_was_declared(estimator: Estimator, examples: list[Example]) -> None:
    for score in estimator.score(examples):
        assert set(score.evidence) <= set(estimator.evidence)


def test_nothing_gives_nothing(estimator: Estimator) -> None:
    assert list(estimator.score([])) == []


def test_the_fingerprint_is_stable_and_plain(estimator: Estimator) -> None:
    import json

    assert json.dumps(estimator.fingerprint(), sort_keys=True) == json.dumps(estimator.fingerprint(), sort_keys=True)


def test_the_same_numbers_come_of_a_copy_in_another_process(estimator: Estimator, examples: list[Example]) -> None:
    import pickle

    copy = pickle.loads(pickle.dumps(estimator.on("cpu") if isinstance(estimator, ModelEstimator) else estimator))
    assert list(copy.score(examples)) == list(estimator.score(examples))
    assert copy.fingerprint() == estimator.fingerprint()


@pytest.mark.parametrize("name", ["known", "loss"])
def test_a_question_is_never_asked_without_the_solved_examples_that_are_missing(name: str, tiny_model: Tiny) -> None:
    estimator = make_estimator(name, {"model": tiny_model("llama"), "device": "cpu"})
    example = Example("1", "Who directed Heat?", ("Mann",))
    for asked in (lambda: list(estimator.score([example])), estimator.fingerprint):
        with pytest.raises(EstimatorError, match="have not been drawn yet"):
            asked()


def test_every_option_has_its_help(estimator: Estimator) -> None:
    for item in fields(estimator.Settings):
        assert item.metadata["help"]
