"""The two nouns everything leans on: an `Example` goes into an estimator, a `Score` comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OK = "ok"
"""The status of a score that was measured; every other status says why it was not."""


@dataclass(frozen=True, slots=True)
class Example:
    """One QA pair.

    `answers[0]` is the answer that trains; every one of `answers` counts as correct. `extra` holds the
    values of the input columns that an estimator asked for by name.

    Examples:
        >>> Example(id="1", question="Who wrote Emma?", answers=("Jane Austen", "Austen"), subject="Emma").answers[0]
        'Jane Austen'
    """

    id: str
    question: str
    answers: tuple[str, ...]
    subject: str | None = None
    relation: str | None = None
    choices: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """How well known one example is.

    `value` is higher for better known, whatever the estimator, and None (never 0) when it could not be
    measured; `status` is then the reason. `evidence` is what the value was made from.

    Examples:
        >>> Score(None, "no_article").value is None
        True
        >>> Score(2.15, evidence={"views": 142, "title": "George Rankin"}).status
        'ok'
    """

    value: float | None
    status: str = OK
    evidence: Mapping[str, Any] = field(default_factory=dict)
