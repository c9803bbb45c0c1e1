"""What goes into an experiment and what comes out; free of torch, so that `curate simulate --help` is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from curate.errors import SettingError, setting
from curate.settings import Settings, option, without_defaults

Row = dict[str, Any]
Tables = dict[str, list[Row]]
"""Rows by the name of the file they go to; `results` is always there."""


@dataclass(frozen=True)
class ExperimentSettings(Settings):
    """The base of every experiment's settings.

    They are checked by `with_options`, not when they are made: a sweep or a map makes settings out of settings, and
    says of what is wrong with them where it came from.
    """

    def __post_init__(self) -> None: ...


S = TypeVar("S", bound=ExperimentSettings)


@dataclass(frozen=True)
class SyntheticSettings(ExperimentSettings):
    """The world, the transformer, its pretraining and its finetuning."""

    subjects: int = option(200, "Subjects of the made-up world.")
    relations: int = option(20, "Relations every subject has.")
    answers: int = option(10, "Possible answers of every relation.")
    alpha: tuple[float, ...] = option((1.0,), "Zipf exponent of subject popularity; several to sweep: 0.5,1,1.5.")
    answer_alpha: float = option(1.0, "Zipf exponent of a relation's answers.")
    width: int = option(64, "Width of the transformer.")
    layers: int = option(1, "Blocks of the transformer.")
    heads: int = option(2, "Attention heads of a block.")
    steps: tuple[int, ...] = option((500,), "Pretraining steps; several to sweep: 500,1000,2000.")
    batch_size: int = option(512, "Sequences of a pretraining step.")
    learning_rate: float = option(2e-3, "Learning rate of pretraining.")
    finetuning_subjects: int = option(100, "Subjects to finetune on, before halving.")
    validation_subjects: int = option(30, "Subjects to choose the step by.")
    share: float = option(0.2, "Share of them in top, bottom and random.")
    finetuning_steps: int = option(240, "Finetuning steps, at most.")
    finetuning_batch_size: int = option(64, "Questions of a finetuning step.")
    finetuning_learning_rate: float = option(1e-3, "Learning rate of finetuning.")

    def check(self) -> None:
        """SettingError if the settings cannot be."""
        check_at_least(self, 0, "alpha", "answer_alpha", "learning_rate", "finetuning_learning_rate")
        counts = ("subjects", "relations", "answers", "width", "layers", "heads", "steps", "batch_size")
        check_at_least(self, 1, *counts, "finetuning_steps", "finetuning_batch_size", "validation_subjects")
        check_at_least(self, 2, "finetuning_subjects")
        if self.width % self.heads:
            raise SettingError(f"{setting('width', self.width)} cannot be split into {self.heads} heads.")
        check_share(self.share)
        left = self.subjects - self.finetuning_subjects - self.validation_subjects
        if left < 1:
            raise SettingError(
                f"{self.subjects} subjects leave none to test on after {self.finetuning_subjects} to finetune on "
                f"and {self.validation_subjects} to validate on.",
                try_next=setting("subjects", 2 * (self.finetuning_subjects + self.validation_subjects)),
            )


FACTS = SyntheticSettings()
PAPER_SIZED = FACTS.changed(
    subjects=1000,
    relations=40,
    answers=20,
    width=128,
    steps=(4000,),
    finetuning_subjects=500,
    validation_subjects=100,
    share=0.04,
)
"""With --full."""

EXPOSURES_KEPT = "relations, exposures kept"
"""A factor of the map: the number of relations, and of steps with it."""


@dataclass(frozen=True)
class OneLayerSettings(ExperimentSettings):
    """The world, pretraining with plain SGD, and finetuning with plain SGD on all questions of an arm at once.

    The fields are among those of SyntheticSettings, which say what they mean.
    """

    subjects: int = 200
    relations: int = 4
    answers: int = 10
    alpha: tuple[float, ...] = (1.0,)  # one world each
    answer_alpha: float = 0.0  # 0 is uniform
    steps: tuple[int, ...] = (350,)
    batch_size: int = 512
    learning_rate: float = 10.0
    finetuning_subjects: int = 100
    share: float = 0.5
    finetuning_steps: int = 300
    finetuning_learning_rate: float = 0.5

    def check(self) -> None:
        """SettingError if the settings cannot be."""
        check_at_least(self, 0, "alpha", "answer_alpha", "learning_rate", "finetuning_learning_rate")
        check_at_least(self, 1, "subjects", "relations", "steps", "batch_size", "finetuning_steps")
        check_at_least(self, 2, "answers", "finetuning_subjects")
        check_share(self.share)
        if self.finetuning_subjects >= self.subjects:
            raise SettingError(
                f"{self.subjects} subjects leave none to test on after {self.finetuning_subjects} to finetune on.",
                try_next=setting("subjects", 2 * self.finetuning_subjects),
            )


def one_alpha_each(settings: S) -> list[S]:
    """One world and one pretraining for every alpha; the steps are checkpoints of the same pretraining."""
    return [settings.changed(alpha=(alpha,)) for alpha in settings.alpha]  # type: ignore[attr-defined]


ExperimentOptions = without_defaults(SyntheticSettings)
"""What any experiment may be given; each has defaults of its own."""


def with_options(settings: S, options: Mapping[str, Any], experiment: str) -> S:
    """The settings with the given options in place of the defaults; None means not given.

    Where several values may be swept, one stands for itself: `steps=500`, or `steps=[500, 1000]`.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in settings.names():
            raise SettingError(
                f"The experiment {experiment} has no setting {setting(name)}.",
                expected=", ".join(map(setting, settings.names())),
                try_next=f"curate simulate {experiment} --help",
            )
        if isinstance(getattr(settings, name), tuple):
            given[name] = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    changed = replace(settings, **given)
    changed.check()
    return changed


def check_at_least(settings: ExperimentSettings, least: float, *names: str) -> None:
    """SettingError for the first named setting below `least`; of a tuple every value counts, and once only."""
    for name in names:
        value = getattr(settings, name)
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if not least <= number < math.inf:
                raise SettingError(
                    f"{setting(name, number)} is out of range.",
                    expected=f"{least} or more",
                    try_next=setting(name, max(1, least)),
                )
        if len(set(numbers)) < len(numbers):
            raise SettingError(
                f"{setting(name)} has a value twice: {', '.join(f'{number:g}' for number in numbers)}.",
                expected="each value once",
            )


def check_share(share: float) -> None:
    """SettingError unless a share is above 0 and at most 1."""
    if not 0 < share <= 1:
        raise SettingError(f"{setting('share', share)} is out of range.", expected="more than 0, at most 1")
