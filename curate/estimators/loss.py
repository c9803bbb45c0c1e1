"""`loss`: the negative log-likelihood of the answer under the pretrained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.data.table import read
from curate.errors import EstimatorError, setting
from curate.estimators.base import ModelEstimator, ModelSettings, patterns_of, unaskable
from curate.prompts import DEFAULT, LETTERS, Shots, Template, draw_exemplars, find_template
from curate.records import Example, Score
from curate.settings import option

if TYPE_CHECKING:  # torch
    from curate.lm.loss import AnswerLoss
    from curate.lm.model import LoadedModel

REDUCTIONS = ("token-mean", "sum", "byte-mean")
ANSWERS: dict[str, dict[str, str]] = {"first": {}, "best": {"answer": "string"}, "all-mean": {"answers": "int64"}}
"""Which accepted answers count, and the evidence that each way adds."""
EVIDENCE = {"nats": "float64", "tokens": "int64", "bytes": "int64", "truncated": "int64"}
CHOICE_EVIDENCE = {"nats": "float64", "choice": "string", "margin": "float64", "truncated": "int64"}

SHOTS = 4
"""Solved examples before a free-form question: a base model must see how to answer before it shows what it knows."""


@dataclass(frozen=True)
class LossSettings(ModelSettings):
    """Which model is asked, how, and how its losses become one score."""

    panel = "Loss"

    reduction: str = option("token-mean", "For loss: how the losses of tokens become one.", choices=REDUCTIONS)
    answers: str = option(
        "first",
        "For loss, of several accepted answers: the first, the best (lowest loss), or all.",
        choices=tuple(ANSWERS),
    )
    shots: int | None = option(
        None,
        "For loss: solved examples of the same relation before each question; 0 for none.",
        shown_default="4, and 0 with choices",
    )
    shots_from: Any = option(None, "The dataset they come from, instead of the one that is scored.")


def reduced(loss: AnswerLoss, reduction: str) -> float:
    """A loss that was measured, in nats, nats a token or nats a byte."""
    return (loss.nats or 0.0) / {"sum": 1, "token-mean": loss.tokens, "byte-mean": loss.bytes}[reduction]


def merged_score(losses: Sequence[AnswerLoss], answers: Sequence[str], reduction: str, how: str) -> Score:
    """One score from the losses of the accepted answers; a loss that could not be measured gives no value.

    `first` takes the first; `best` the lowest reduced loss; `all-mean` the mean of the reduced losses, with
    nats, tokens and bytes summed over the answers. Answers that could not be measured are left out of the last
    two, unless none could.
    """
    values = {n: reduced(loss, reduction) for n, loss in enumerate(losses) if loss.nats is not None}
    if how == "all-mean" and values:
        measured = [losses[n] for n in values]
        summed = {
            "nats": math.fsum(loss.nats or 0.0 for loss in measured),
            "tokens": sum(loss.tokens for loss in measured),
            "bytes": sum(loss.bytes for loss in measured),
            "truncated": max(loss.truncated for loss in measured),
            "answers": len(measured),
        }
        return Score(-math.fsum(values.values()) / len(values), evidence=summed)
    taken = min(values, key=values.__getitem__) if how == "best" and values else 0
    loss = losses[taken]
    evidence: dict[str, Any] = {name: getattr(loss, name) for name in EVIDENCE}
    evidence |= {"answer": answers[taken]} if how == "best" and values else {}
    return Score(-values[taken] if taken in values else None, loss.status, evidence)


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


@dataclass(frozen=True, slots=True)
class LossRequest:
    """The (prompt, completion) pairs of one example; `correct` is the right one's index in multiple choice.

    Without pairs, `reason` is the status that says why.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    answers: tuple[str, ...] = ()
    correct: int | None = None
    reason: str | None = None


def loss_request(example: Example, template: Template, shots: Shots, answers: str) -> LossRequest:
    """The pairs whose losses the example's score is made from: a letter each, or accepted answers."""
    reason = unaskable(example, template)
    if reason is not None:
        return LossRequest(reason=reason)
    prompt = shots.prefix(example) + template.ask(example)
    accepted, correct = example.answers if answers != "first" else example.answers[:1], None
    if template.multiple_choice:
        accepted, correct = tuple(LETTERS[: len(example.choices)]), example.choices.index(example.answers[0])
    return LossRequest(tuple((prompt, template.render_completion(answer)) for answer in accepted), accepted, correct)


class LossEstimator(ModelEstimator):
    """Scores an example by the negative log-likelihood of its answer given its question.

    The value is −loss, so higher means better known. The loss is summed over the answer's tokens and then
    reduced: `token-mean` (nats a token), `sum` (nats), `byte-mean` (nats a UTF-8 byte of the answer, comparable
    across tokenizers). Of several accepted answers the first counts, or the `best`, or the mean of all.

    With a template that shows choices the loss is that of Kang et al. (2024): −log p of the right letter, p the
    softmax over the letters alone. For free-form answers ours is a generalisation of theirs.

    Before a free-form question stand solved examples of the same relation, drawn from the dataset itself.
    """

    usage = "loss"
    Settings = LossSettings
    name = "loss"
    settings: LossSettings

    def __init__(self, settings: LossSettings, loaded: LoadedModel | None = None) -> None:
        self.template = find_template(settings.template or DEFAULT)
        super().__init__(settings, loaded)
        own = 0 if self.template.multiple_choice and settings.shots_from is None else SHOTS
        self.count = own if settings.shots is None else settings.shots
        if self.count < 0 or (self.count == 0 and settings.shots_from is not None):
            raise EstimatorError(
                f"{setting('shots')} is {self.count}, with examples from {settings.shots_from or 'the dataset'}.",
                expected="how many solved examples, and the dataset to take them from if it is another one",
                try_next=setting("shots", SHOTS),
            )
        source = settings.shots_from
        if source is not None:
            pool = read(list(source) if isinstance(source, tuple) else source).examples()
            self.sets = [Shots(self.template, pool, self.count)]
        elif self.count == 0:
            self.sets = [Shots(self.template)]
        self.evidence = dict(CHOICE_EVIDENCE if self.template.multiple_choice else EVIDENCE | ANSWERS[settings.answers])

    def draw(self, examples: Callable[[], Iterable[Example]]) -> None:
        """Draws the solved examples from the dataset itself, unless they come from elsewhere."""
        if self.count and self.settings.shots_from is None:
            self.sets = draw_exemplars(self.template, examples(), self.count, patterns=patterns_of(examples))

    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change the numbers: model, texts, solved examples, how losses become one score."""
        return {
            "estimator": "loss",
            "reduction": self.settings.reduction,
            "answers": self.settings.answers,
            "template": self.template.as_dict(),
            "shots": self.drawn()[0].fingerprint(),
            "model": self.model.fingerprint(),
        }

    def request(self) -> Mapping[str, Any]:
        """Its settings, the template and solved examples from elsewhere as they read."""
        shots = None if self.settings.shots_from is None else self.drawn()[0].fingerprint()
        return {**super().request(), "template": self.template.texts, "shots": self.count, "shots_from": shots}

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        """One Score an example, in order; all losses are computed before the first is given."""
        from curate.lm.loss import answer_losses

        requests = [self._request(example) for example in examples]
        pairs = [pair for request in requests for pair in request.pairs]
        losses = iter(answer_losses(self.model, pairs, report=self.report))
        for request in requests:
            yield self._score(request, [next(losses) for _ in request.pairs])

    def pairs(self, example: Example) -> Sequence[tuple[str, str]]:
        """Prompts and completions whose losses make the score."""
        return self._request(example).pairs

    def _request(self, example: Example) -> LossRequest:
        return loss_request(example, self.template, self.drawn()[0], self.settings.answers)

    def _score(self, request: LossRequest, losses: Sequence[AnswerLoss]) -> Score:
        if request.reason is not None:
            return Score(None, request.reason)
        if request.correct is not None:
            return choice_score(losses, request.correct)
        return merged_score(losses, request.answers, self.settings.reduction, self.settings.answers)
