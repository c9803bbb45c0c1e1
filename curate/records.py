"""What everything leans on: an `Example` goes into an estimator, a `Score` comes out; what arms are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.errors import SettingError

OK = "ok"
"""The status of a score that was measured; every other status says why it was not."""
FAILED = "failed"
"""The status of a row that an estimator, or whoever it asks, fails on."""


@dataclass(frozen=True, slots=True)
class Example:
    """One QA pair.

    `answers[0]` is the answer that trains; every one of `answers` counts as correct. `extra` holds the
    values of the input columns that an estimator asked for by name, `turns` role and text of what was said before the
    question, in a chat.

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
    turns: tuple[tuple[str, str], ...] = ()


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


BASE = "base"
"""The untouched model, evaluated zero-shot: the first row of every comparison."""

PAPER_ORDER = ("top", "random", "bottom", "whole")

_FEW_SHOT = re.compile(rf"{BASE}-\d+-shot")


def few_shot_name(count: int) -> str:
    """What the untouched model is called when it is asked after so many solved examples."""
    return f"{BASE}-{count}-shot"


def is_untouched(arm: str) -> bool:
    """Whether this row of a comparison is the untouched model, zero-shot or few-shot."""
    return arm == BASE or _FEW_SHOT.fullmatch(arm) is not None


def contrast(arms: Sequence[str]) -> tuple[str, str] | None:
    """The two finetuned arms a reader compares first: top and bottom, or the first two; None if there are not two."""
    if "top" in arms and "bottom" in arms:
        return "top", "bottom"
    finetuned = [arm for arm in arms if not is_untouched(arm)]
    return (finetuned[0], finetuned[1]) if len(finetuned) > 1 else None


def as_seeds(seeds: int | Sequence[int]) -> list[int]:
    """The seeds 0, 1, 2, … for a number of them, or those given; SettingError for none, or one twice.

    >>> as_seeds(3)
    [0, 1, 2]
    """
    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not listed or len(set(listed)) < len(listed):  # the same run twice would count as two, and narrow the interval
        raise SettingError(f"The seeds are {seeds}.", expected="at least one, each once", try_next="--seeds 5")
    return listed
