"""What every estimator promises, checked on each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.estimators.base import Estimator
from curate.estimators.registry import ESTIMATORS, EstimatorOptions, build
from curate.records import Example
from curate.wikipedia.options import PageviewSettings
from curate.wikipedia.views import MEASURED

Make = Callable[[Callable[[str], Path]], Estimator]

MAKERS: dict[str, Make] = {
    "column": lambda tiny_model: build("column:views", EstimatorOptions()),
    "loss": lambda tiny_model: build("loss", EstimatorOptions(model=tiny_model("llama"), device="cpu")),
    "pageviews": lambda tiny_model: build(
        "pageviews", EstimatorOptions(pageviews=PageviewSettings(views_from="column:views"))
    ),
}


def test_every_registered_estimator_is_under_contract() -> None:
    assert set(MAKERS) == set(ESTIMATORS)


@pytest.fixture(params=sorted(MAKERS))
def estimator(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Estimator:
    return MAKERS[request.param](tiny_model)


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
