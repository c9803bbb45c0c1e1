"""`loss`: how surprised the pretrained model is by the right answer (after Kang et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.prompts import DEFAULT, Template
from curate.records import Example, Score

if TYPE_CHECKING:
    from curate.lm.answer_loss import AnswerLoss
    from curate.lm.load import LoadedModel

REDUCTIONS = ("token-mean", "sum", "byte-mean")


class LossEstimator:
    """Scores an example by the negative log-likelihood of its first answer given its question.

    The value is −loss, so higher means better known. The loss is summed over the answer's tokens and then
    reduced: `token-mean` (nats a token), `sum` (nats), `byte-mean` (nats a UTF-8 byte of the answer, comparable
    across tokenizers). Kang et al. define the loss for multiple choice; for free-form answers this is our
    generalisation of it.
    """

    name = "loss"
    columns: Sequence[str] = ()
    evidence: Mapping[str, str] = {"nats": "float64", "tokens": "int64", "bytes": "int64"}

    def __init__(
        self,
        model: LoadedModel,
        reduction: str = "token-mean",
        template: Template = DEFAULT,
        token_budget: int = 4096,
    ) -> None:
        self.model = model
        self.reduction = reduction
        self.template = template
        self.token_budget = token_budget

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "estimator": "loss",
            "reduction": self.reduction,
            "answers": "first",
            "template": {"prompt": self.template.prompt, "completion": self.template.completion},
            "model": self.model.fingerprint(),
        }

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        from curate.lm.answer_loss import answer_losses

        answered = [example for example in examples if example.question and example.answers]
        pairs = [
            (self.template.render_prompt(e.question), self.template.render_completion(e.answers[0])) for e in answered
        ]
        losses = iter(answer_losses(self.model, pairs, self.token_budget))
        for example in examples:
            if not example.question:
                yield Score(None, "no_question")
            elif not example.answers:
                yield Score(None, "no_answer")
            else:
                yield score_of_loss(next(losses), self.reduction)


def score_of_loss(loss: AnswerLoss, reduction: str) -> Score:
    """The score made from one answer's loss; a loss that could not be measured gives no value."""
    evidence = {"nats": loss.nats, "tokens": loss.tokens, "bytes": loss.bytes}
    if loss.nats is None:
        return Score(None, loss.status, evidence)
    divisor = {"sum": 1, "token-mean": loss.tokens, "byte-mean": loss.bytes}[reduction]
    return Score(-loss.nats / divisor, loss.status, evidence)
