"""`loss`: how surprised the pretrained model is by the right answer (after Kang et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from curate.estimators.asking import Ask, ask
from curate.estimators.base import Report
from curate.estimators.reductions import ANSWERS, CHOICE_EVIDENCE, EVIDENCE, choice_score, merged_score
from curate.prompts import DEFAULT, Template
from curate.records import Example, Score
from curate.shots import Shots

if TYPE_CHECKING:
    from curate.lm.load import LoadedModel
    from curate.lm.processes import Helper


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
