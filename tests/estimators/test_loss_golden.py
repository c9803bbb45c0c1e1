"""Losses that must never move: of a seeded tiny model of every architecture class, and of multiple choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from curate.estimators.loss import LossEstimator, LossSettings
from curate.lm.loss import answer_losses
from curate.lm.model import load_model
from curate.records import Example
from tests.estimators.test_loss import PAIRS

CHOICES = [
    Example("1", "Which is a colour?", ("red",), "basic colours", None, ("one", "red", "dog", "Paris")),
    Example("2", "How many are three and four?", ("seven",), "numbers", None, ("six", "seven", "eight")),
    Example("3", "Which is a city?", ("Zürich",), "places", None, ("Zürich", "a river", "the sea", "1789", "blue")),
]
"""Four choices, fewer and more, of three subjects."""
NATS = {
    "llama": [5.39201, 8.735, 35.70217, 86.43717, 18.15108],
    "gpt2": [4.99972, 15.14609, 36.85909, 102.07224, 17.54614],
    "byte-fallback": [15.4431, 33.23442, 41.35499, 105.34023, 12.84641],
    "mistral": [17.11303, 27.21741, 32.97459, 117.26322, 13.12025],
    "qwen": [8.12718, 11.97831, 35.75918, 91.57309, 10.76124],
    "gemma": [14.94306, 31.03075, 37.84336, 101.90055, 15.61226],
    "mamba": [6.438, 15.28358, 30.47016, 88.3743, 14.16302],
}
SCORES = {
    "llama": [-2.21326, -0.30042, -3.29509],
    "gpt2": [-1.22643, -2.87598, -6.39506],
    "byte-fallback": [-0.3301, -1.10225, -3.71458],
    "mistral": [-4.43967, -2.13672, -1.93502],
    "qwen": [-0.04631, -0.11957, -1.53584],
    "gemma": [-0.39025, -0.42142, -3.56103],
    "mamba": [-0.99704, -0.94533, -0.94104],
}


@pytest.mark.parametrize("kind", NATS)
def test_golden_losses_of_every_architecture_class(tiny_model: Callable[[str], Path], kind: str) -> None:
    losses = answer_losses(load_model(tiny_model(kind), device="cpu"), PAIRS)
    assert [loss.nats for loss in losses] == pytest.approx(NATS[kind], abs=1e-4)


@pytest.mark.parametrize("kind", SCORES)
def test_golden_multiple_choice_of_every_architecture_class(tiny_model: Callable[[str], Path], kind: str) -> None:
    estimator = LossEstimator(LossSettings(model=tiny_model(kind), device="cpu", template="mmlu"))
    assert [score.value for score in estimator.score(CHOICES)] == pytest.approx(SCORES[kind], abs=1e-4)


def test_golden_multiple_choice_of_a_real_model(stories: Path) -> None:
    estimator = LossEstimator(LossSettings(model=stories, device="cpu", template="mmlu"))
    scores = [score.value for score in estimator.score(CHOICES)]
    assert scores == pytest.approx([-1.30567, -0.9344, -1.47646], abs=1e-4)
