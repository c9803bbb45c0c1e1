"""One score from several accepted answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from curate.estimators.loss import LossEstimator, LossSettings, merged_score
from curate.lm.loss import AnswerLoss
from curate.lm.model import load_model
from curate.records import Example

LOSSES = [AnswerLoss(6.0, 2, 6), AnswerLoss(4.0, 4, 20), AnswerLoss(None, 99, 300, "too_long")]
NAMES = ("first", "second", "third")


@pytest.mark.parametrize(("how", "value"), [("first", -3.0), ("best", -1.0), ("all-mean", -2.0)])
def test_which_answers_count(how: str, value: float) -> None:
    assert merged_score(LOSSES, NAMES, "token-mean", how).value == value


def test_the_evidence_says_which_answer_or_how_many() -> None:
    assert merged_score(LOSSES, NAMES, "token-mean", "best").evidence["answer"] == "second"
    mean = merged_score(LOSSES, NAMES, "token-mean", "all-mean").evidence
    assert (mean["nats"], mean["tokens"], mean["bytes"], mean["answers"]) == (10.0, 6, 26, 2)


def test_best_goes_by_the_reduced_loss() -> None:
    losses = [AnswerLoss(6.0, 6, 6), AnswerLoss(4.0, 2, 20)]
    assert [merged_score(losses, NAMES, r, "best").evidence["answer"] for r in ("token-mean", "sum", "byte-mean")] == [
        "first",
        "second",
        "second",
    ]


@pytest.mark.parametrize("how", ["first", "best", "all-mean"])
def test_no_answer_that_can_be_measured_means_no_score(how: str) -> None:
    score = merged_score(LOSSES[2:], NAMES[2:], "token-mean", how)
    assert (score.value, score.status) == (None, "too_long")


def test_best_of_several_is_what_the_best_alone_would_score(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    answers = ("Paris", "Zürich", "Ridley Scott")
    example = Example("1", "What is the capital of France?", answers)
    first, best_of, mean_of = (
        LossEstimator(LossSettings(answers=how, shots=0), loaded) for how in ("first", "best", "all-mean")
    )
    alone = [next(first.score([Example("1", example.question, (a,))])).value for a in answers]
    (best,) = best_of.score([example])
    (mean,) = mean_of.score([example])
    assert best.value == pytest.approx(max(v for v in alone if v is not None), abs=1e-5)
    assert best.evidence["answer"] == answers[alone.index(max(alone, key=lambda v: v or 0.0))]
    assert mean.value == pytest.approx(sum(v for v in alone if v is not None) / 3, abs=1e-5)
