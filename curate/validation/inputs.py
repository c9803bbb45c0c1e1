"""What a validation is given, read: the test set, the arms, and the template that makes text of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curate.datasets.read import QATable, read
from curate.prompts import Template, default_template, find_template
from curate.shots import Shots
from curate.validation.arms import Arm, read_arms
from curate.validation.testset import TestSet, make_test_set


@dataclass(frozen=True)
class Inputs:
    """The evaluation set as it was read, the test set made of it, the arms, and the template of all questions."""

    data: QATable
    template: Template
    arms: Sequence[Arm]
    test: TestSet


def read_inputs(splits: Any, eval: Any, by: str | None, limit: int | None, template: str | None) -> Inputs:
    """Read them; DataError for splits or a test set that cannot be read.

    Without the name of a template it is `mmlu` where the test set has choices, and `qa` where it has none.
    """
    data = read(eval)
    form = find_template(template or default_template(data.columns))
    return Inputs(data, form, read_arms(splits, limit, form), make_test_set(data, by, limit, form))


def shots_from(arms: Sequence[Arm], count: int, template: Template) -> Shots | None:
    """Solved examples of a question's relation from the whole training set, or the first arm; None for 0 of them."""
    pool = {arm.name: arm for arm in arms}.get("whole", arms[0])
    return Shots(template, pool.examples, count) if count else None
