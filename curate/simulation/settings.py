"""Settings of experiments: what they share, and how options of the command replace their defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from curate.errors import SettingError


@dataclass(frozen=True)
class Settings:
    """The base of every experiment's settings."""

    def check(self) -> None:
        """Raise SettingError if the settings cannot be."""


S = TypeVar("S", bound=Settings)


def with_options(settings: S, options: Mapping[str, Any], experiment: str) -> S:
    """The settings with the given options in place of the defaults; None means not given.

    Where several values may be swept, one stands for itself: `steps=500`, or `steps=[500, 1000]`.
    """
    given = {name: value for name, value in options.items() if value is not None}
    known = [field.name for field in fields(settings)]
    for name in given:
        if name not in known:
            raise SettingError(
                f"The experiment {experiment} has no setting {option(name)}.",
                expected=", ".join(option(name) for name in known),
                try_next=f"curate simulate {experiment} --help",
            )
        if isinstance(getattr(settings, name), tuple):
            value = given[name]
            given[name] = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    changed = replace(settings, **given)
    changed.check()
    return changed


def check_at_least(settings: Settings, least: float, *names: str) -> None:
    """Raise SettingError for the first named setting below `least`; of a tuple every value counts, and once only."""
    for name in names:
        value = getattr(settings, name)
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if not least <= number < math.inf:
                raise SettingError(
                    f"{option(name)} {number} is out of range.",
                    expected=f"{least} or more",
                    try_next=f"{option(name)} {max(1, least)}",
                )
        if len(set(numbers)) < len(numbers):
            raise SettingError(
                f"{option(name)} has a value twice: {', '.join(f'{number:g}' for number in numbers)}.",
                expected="each value once",
            )


def option(name: str) -> str:
    """The option of the command for a setting: `--batch-size` for `batch_size`."""
    return f"--{name.replace('_', '-')}"
