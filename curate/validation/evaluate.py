"""Asking a model every test question and marking its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.lm.greedy import greedy_answers
from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.records import Example
from curate.validation.metrics import contains_answer, exact_match, token_f1


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to one test example, and how right it was."""

    id: str
    prediction: str
    correct: bool
    exact_match: bool
    f1: float


def evaluate(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> list[Prediction]:
    """Greedy short answers to every example, in order, marked by containment, exact match and token F1."""
    said = greedy_answers(loaded, [template.render_prompt(e.question) for e in examples])
    return [mark(example, text) for example, text in zip(examples, said, strict=True)]


def mark(example: Example, said: str) -> Prediction:
    """One answer against the accepted ones."""
    return Prediction(
        example.id,
        said,
        contains_answer(said, example.answers),
        exact_match(said, example.answers),
        token_f1(said, example.answers),
    )
