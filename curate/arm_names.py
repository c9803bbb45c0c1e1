"""What the rows of a comparison are called: the untouched model, the paper's arms, and anything else."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
