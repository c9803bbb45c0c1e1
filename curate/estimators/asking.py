"""What the model is asked about one example: prompt and completions, or the reason why nothing can be asked."""

from __future__ import annotations

from dataclasses import dataclass

from curate.prompts import LETTERS, Template
from curate.records import Example
from curate.shots import Shots


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
