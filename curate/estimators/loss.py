"""`loss`: the negative log-likelihood of the answer under the pretrained model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from curate.estimators.base import Report
from curate.prompts import DEFAULT, LETTERS, Shots, Template
from curate.records import Example, Score
from curate.settings import Settings, option

if TYPE_CHECKING:
    from curate.lm.loss import AnswerLoss
    from curate.lm.model import LoadedModel
    from curate.lm.processes import Helper

REDUCTIONS = ("token-mean", "sum", "byte-mean")
ANSWERS: dict[str, dict[str, str]] = {"first": {}, "best": {"answer": "string"}, "all-mean": {"answers": "int64"}}
"""Which accepted answers count, and the evidence that each way adds."""
EVIDENCE = {"nats": "float64", "tokens": "int64", "bytes": "int64", "truncated": "int64"}
CHOICE_EVIDENCE = {"nats": "float64", "choice": "string", "margin": "float64", "truncated": "int64"}


@dataclass(frozen=True)
class LossSettings(Settings):
    """What `loss` asks the model, and how."""

    model: Any = option(None, "For loss: folder or Hub id of the pretrained base model.")
    reduction: str = option("token-mean", "For loss: token-mean, sum or byte-mean.")
    answers: str = option("first", "For loss, of several accepted answers: first, best (lowest loss) or all-mean.")
    template: str | None = option(
        None, "For loss: qa, plain, mmlu, or a Jinja file. mmlu if there are choices, else qa."
    )
    shots: int = option(0, "For loss: solved examples before each question.")
    shots_from: Any = option(None, "The dataset they come from; of the same relation (or MMLU subject) if it can.")
    allow_pickle: bool = option(False, "Read pickle weights, if you trust them.")
    dtype: str = option("float32", "For loss: float32, bfloat16 or float16. Less than float32 moves the numbers.")
    device: str = option("auto", "For loss: auto, cpu, cuda, cuda:1, mps.")
    processes: int | None = option(None, "For loss: how many, each with the model on a device of its own. One a GPU.")
    revision: str | None = option(None, "For loss: branch, tag or commit of a Hub model.")


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


@dataclass(frozen=True, slots=True)
class Ask:
    """The (prompt, completion) pairs of one example; `correct` is the right one's index in multiple choice."""

    pairs: tuple[tuple[str, str], ...] = ()
    answers: tuple[str, ...] = ()
    correct: int | None = None
    reason: str | None = None


def ask(example: Example, template: Template, shots: Shots, answers: str) -> Ask:
    """The pairs whose losses the example's score is made from: a letter each, or accepted answers."""
    if not example.question:
        return Ask(reason="no_question")
    if not example.answers:
        return Ask(reason="no_answer")
    reason = _no_choice(example) if template.multiple_choice else None
    if reason is not None:
        return Ask(reason=reason)
    prompt = shots.prefix(example) + template.ask(example)
    accepted, correct = example.answers if answers != "first" else example.answers[:1], None
    if template.multiple_choice:
        accepted, correct = tuple(LETTERS[: len(example.choices)]), example.choices.index(example.answers[0])
    return Ask(tuple((prompt, template.render_completion(answer)) for answer in accepted), accepted, correct)


def _no_choice(example: Example) -> str | None:
    if len(example.choices) < 2:
        return "no_choices"
    if len(example.choices) > len(LETTERS):
        return "too_many_choices"
    return None if example.answers[0] in example.choices else "answer_not_in_choices"


class LossEstimator:
    """Scores an example by the negative log-likelihood of its answer given its question.

    The value is −loss, so higher means better known. The loss is summed over the answer's tokens and then
    reduced: `token-mean` (nats a token), `sum` (nats), `byte-mean` (nats a UTF-8 byte of the answer, comparable
    across tokenizers). Of several accepted answers the first counts, or the `best`, or the mean of all.

    With a template that shows choices the loss is that of Kang et al. (2024): −log p of the right letter, p the
    softmax over the letters alone. For free-form answers ours is a generalisation of theirs.
    """

    name = "loss"
    columns: Sequence[str] = ()
    evidence: Mapping[str, str]

    def __init__(
        self,
        model: LoadedModel,
        reduction: str = "token-mean",
        template: Template = DEFAULT,
        answers: str = "first",
        shots: Shots | None = None,
        token_budget: int | None = None,
        helpers: Sequence[Helper] = (),
    ) -> None:
        self.model = model
        self.reduction = reduction
        self.template = template
        self.answers = answers
        self.shots = shots or Shots(template)
        self.token_budget = token_budget
        self.helpers = helpers
        self.report: Report = lambda share, tokens: None
        self.evidence = dict(CHOICE_EVIDENCE if template.multiple_choice else EVIDENCE | ANSWERS[answers])

    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change the numbers: model, texts, solved examples, how losses become one score."""
        return {
            "estimator": "loss",
            "reduction": self.reduction,
            "answers": self.answers,
            "template": asdict(self.template),
            "shots": self.shots.fingerprint(),
            "model": self.model.fingerprint(),
        }

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        """One Score an example, in order; all losses are computed before the first is given."""
        from curate.lm.processes import spread_losses

        asks = [ask(example, self.template, self.shots, self.answers) for example in examples]
        pairs = [pair for asked in asks for pair in asked.pairs]
        losses = iter(spread_losses(self.model, self.helpers, pairs, self.token_budget, self.report))
        for asked in asks:
            yield self._score(asked, [next(losses) for _ in asked.pairs])

    def _score(self, asked: Ask, losses: Sequence[Any]) -> Score:
        if asked.reason is not None:
            return Score(None, asked.reason)
        if asked.correct is not None:
            return choice_score(losses, asked.correct)
        return merged_score(losses, asked.answers, self.reduction, self.answers)
