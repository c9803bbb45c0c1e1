"""From losses to scores: arithmetic alone, no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.prompts import LETTERS
from curate.records import Score

if TYPE_CHECKING:
    from curate.lm.answer_loss import AnswerLoss

REDUCTIONS = ("token-mean", "sum", "byte-mean")
ANSWERS: dict[str, dict[str, str]] = {"first": {}, "best": {"answer": "string"}, "all-mean": {"answers": "int64"}}
"""Which accepted answers count, and the evidence that each way adds."""
EVIDENCE = {"nats": "float64", "tokens": "int64", "bytes": "int64", "truncated": "int64"}
CHOICE_EVIDENCE = {"nats": "float64", "choice": "string", "margin": "float64", "truncated": "int64"}


def reduced(loss: AnswerLoss, reduction: str) -> float | None:
    """The loss in nats, nats a token or nats a byte; None where it could not be measured."""
    if loss.nats is None:
        return None
    return loss.nats / {"sum": 1, "token-mean": loss.tokens, "byte-mean": loss.bytes}[reduction]


def score_of_loss(loss: AnswerLoss, reduction: str) -> Score:
    """The score made from one answer's loss; a loss that could not be measured gives no value."""
    evidence = {"nats": loss.nats, "tokens": loss.tokens, "bytes": loss.bytes, "truncated": loss.truncated}
    value = reduced(loss, reduction)
    return Score(None if value is None else -value, loss.status, evidence)


def merged_score(losses: Sequence[AnswerLoss], answers: Sequence[str], reduction: str, how: str) -> Score:
    """One score from the losses of several accepted answers.

    `first` takes the first; `best` the lowest reduced loss; `all-mean` the mean of the reduced losses, with
    nats, tokens and bytes summed over the answers. Answers that could not be measured are left out of the last
    two, unless none could.
    """
    measured = [n for n, loss in enumerate(losses) if loss.nats is not None]
    if how == "first" or not measured:
        return score_of_loss(losses[0], reduction)
    values = {n: reduced(losses[n], reduction) or 0.0 for n in measured}
    if how == "best":
        best = min(measured, key=values.__getitem__)
        score = score_of_loss(losses[best], reduction)
        return Score(score.value, score.status, {**score.evidence, "answer": answers[best]})
    evidence = {
        "nats": math.fsum(losses[n].nats or 0.0 for n in measured),
        "tokens": sum(losses[n].tokens for n in measured),
        "bytes": sum(losses[n].bytes for n in measured),
        "truncated": max(losses[n].truncated for n in measured),
        "answers": len(measured),
    }
    return Score(-math.fsum(values.values()) / len(values), evidence=evidence)


def choice_score(losses: Sequence[AnswerLoss], correct: int) -> Score:
    """log p(correct letter), p the softmax over the letters alone (Kang et al. 2024), in nats.

    A letter's log-probability is its logit minus what is the same for all letters, so the softmax of −nats is
    the softmax of the logits. `choice` is the letter the model picks (the first of equals), `margin` the
    log-probability of the right letter minus that of the best wrong one: positive when the model is right.
    """
    unmeasured = next((loss for loss in losses if loss.nats is None), None)
    if unmeasured is not None:
        return Score(None, unmeasured.status)
    log_p = [-(loss.nats or 0.0) for loss in losses]
    top = max(log_p)
    log_sum = top + math.log(math.fsum(math.exp(value - top) for value in log_p))
    best_wrong = max(value for n, value in enumerate(log_p) if n != correct)
    evidence = {
        "nats": log_sum - log_p[correct],
        "choice": LETTERS[log_p.index(top)],
        "margin": log_p[correct] - best_wrong,
        "truncated": max(loss.truncated for loss in losses),
    }
    return Score(log_p[correct] - log_sum, evidence=evidence)
