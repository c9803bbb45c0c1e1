"""The seeds of a run: so many, or those that are given."""

from __future__ import annotations

from collections.abc import Sequence

from curate.errors import SettingError


def as_seeds(seeds: int | Sequence[int]) -> list[int]:
    """The seeds 0, 1, 2, … for a number of them, or those given; SettingError for none, or one twice.

    >>> as_seeds(3)
    [0, 1, 2]
    """
    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not listed or len(set(listed)) < len(listed):  # the same run twice would count as two, and narrow the interval
        raise SettingError(f"The seeds are {seeds}.", expected="at least one, each once", try_next="--seeds 5")
    return listed
