"""The months over which views are counted: `12m`, `2021-10`, `2020-10:2021-09`, `popqa`."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta

from curate.errors import EstimatorError

DEFAULT_WINDOW = "12m"
POPQA = "popqa"
POPQA_MONTH = "2021-10"
FIRST_MONTH = (2015, 7)
"""Page views, as defined today, begin here."""

PUBLISHED_AFTER = timedelta(days=3)
"""A month's last numbers appear a little after its end; only then is the month taken for finished."""

MONTH = re.compile(r"^(\d{4})-(0[1-9]|1[0-2])$")
_LAST = re.compile(r"^([1-9]\d{0,2})m$")

Month = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """Whole months from `first` to `last`, both inside, each a (year, month)."""

    first: Month
    last: Month

    @property
    def months(self) -> int:
        """How many months the window has."""
        return _count(self.last) - _count(self.first) + 1

    @property
    def start(self) -> str:
        """The first day, as the REST API wants it: 2021100100."""
        return f"{self.first[0]:04d}{self.first[1]:02d}0100"

    @property
    def end(self) -> str:
        """The last day, likewise: 2021103100."""
        return f"{self.last[0]:04d}{self.last[1]:02d}{monthrange(*self.last)[1]:02d}00"

    def holds(self, timestamp: str) -> bool:
        """Whether the month of a timestamp (`2021100100`) lies in the window."""
        return self.start[:6] <= timestamp[:6] <= self.end[:6]

    def finished(self, asked: date) -> bool:
        """Whether an answer given on the day `asked` can no longer change."""
        return asked >= date(*self.last, monthrange(*self.last)[1]) + PUBLISHED_AFTER

    def __str__(self) -> str:
        first, last = (f"{year:04d}-{month:02d}" for year, month in (self.first, self.last))
        return first if first == last else f"{first}:{last}"


def parse_window(text: str, today: date) -> Window:
    """The window that `--window` names: `12m` (the last 12 full months), one month, two months with a colon, `popqa`.

    Raises EstimatorError for anything else, for months before July 2015, and for months that have not begun.
    """
    text = POPQA_MONTH if text == POPQA else text
    last_months = _LAST.match(text)
    if last_months:
        full = _count(_month_of(today - PUBLISHED_AFTER)) - 1
        window = Window(_month(full - int(last_months[1]) + 1), _month(full))
    else:
        first, _, last = text.partition(":")
        window = Window(_parse_month(first, text), _parse_month(last or first, text))
    if window.first > window.last:
        raise _bad(f"The window {text!r} ends before it begins.")
    if window.first < FIRST_MONTH:
        raise _bad(f"The window {text!r} begins before July 2015, the first month with page views.")
    if window.last > _month_of(today):
        raise _bad(f"The window {text!r} ends in a month that has not begun.")
    return window


def _parse_month(text: str, window: str) -> Month:
    match = MONTH.match(text)
    if not match:
        raise _bad(f"{window!r} is not a window.")
    return int(match[1]), int(match[2])


def _month_of(day: date) -> Month:
    return day.year, day.month


def _count(month: Month) -> int:
    return 12 * month[0] + month[1] - 1


def _month(count: int) -> Month:
    return count // 12, count % 12 + 1


def _bad(found: str) -> EstimatorError:
    return EstimatorError(
        found,
        expected="12m (the last 12 full months), one month (2021-10), from and to (2020-10:2021-09), or popqa",
        try_next="--window 12m",
    )
