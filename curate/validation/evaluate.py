"""Asking a model every test question and marking its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.estimators.asking import Ask, ask
from curate.lm.answer_loss import answer_losses
from curate.lm.folding import folded
from curate.lm.greedy import greedy_answers
from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.records import Example
from curate.shots import Shots
from curate.validation.metrics import contains_answer, exact_match, token_f1


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to one test example, and how right it was."""

    id: str
    prediction: str
    correct: bool
    exact_match: bool
    f1: float


def evaluate(
    loaded: LoadedModel, examples: Sequence[Example], template: Template, shots: Shots | None = None
) -> list[Prediction]:
    """The model's answer to every example, in order, with how right it is; zero-shot without `shots`.

    Short answers are greedy and marked by containment, exact match and token F1. With a template that shows choices
    the answer is the letter whose token the model holds for the most likely one; nothing is generated.
    """
    shots = shots or Shots(template)
    if template.multiple_choice:
        asks = [ask(example, template, shots, "first") for example in examples]
        with folded(loaded):
            return choose(loaded, asks, examples)
    with folded(loaded):
        said = greedy_answers(loaded, [shots.prefix(e) + template.ask(e) for e in examples])
    return [mark(example, text) for example, text in zip(examples, said, strict=True)]


def choose(loaded: LoadedModel, asks: Sequence[Ask], examples: Sequence[Example]) -> list[Prediction]:
    """The letter with the lowest loss of each question: for letters of one token, the argmax of next-token scores.

    A question that does not fit into the model's context has no answer and counts as wrong.
    """
    losses = iter(answer_losses(loaded, [pair for asked in asks for pair in asked.pairs]))
    predictions = []
    for example, asked in zip(examples, asks, strict=True):
        nats = [next(losses).nats for _ in asked.pairs]
        measured = [(value, letter) for value, letter in zip(nats, asked.answers, strict=True) if value is not None]
        letter = min(measured)[1] if measured else ""
        right = asked.correct is not None and letter == asked.answers[asked.correct]
        predictions.append(Prediction(example.id, letter, right, right, float(right)))
    return predictions


def mark(example: Example, said: str) -> Prediction:
    """One answer against the accepted ones."""
    return Prediction(
        example.id,
        said,
        contains_answer(said, example.answers),
        exact_match(said, example.answers),
        token_f1(said, example.answers),
    )
