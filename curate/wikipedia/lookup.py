"""What a lookup of views gives, wherever the views come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from curate.records import OK
from curate.wikipedia.subjects import Reference

ZERO_VIEWS = "zero_views"
FAILED = "failed"
NOT_CACHED = "not_cached"
NOT_IN_TABLE = "not_in_table"
MEASURED = (OK, ZERO_VIEWS)
"""The statuses that come with a number."""


@dataclass(frozen=True, slots=True)
class Views:
    """Monthly views of one article (their mean over the window), or why they are not known."""

    status: str
    title: str | None = None
    views: float | None = None


@dataclass
class LookupStats:
    """What a run of lookups came to, for the user to read: none of it goes into a file."""

    subjects: int = 0
    asked: int = 0
    kept: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)


class ViewSource(Protocol):
    """Something that knows how often articles were viewed."""

    stats: LookupStats
    in_bulk: bool
    """Whether one lookup of all subjects is cheaper than many of some."""

    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change its numbers."""

    def look_up(self, references: Iterable[Reference]) -> Mapping[Reference, Views]:
        """The views of every reference; each is answered, if only with a status."""


def views_of_count(title: str, total: int, months: int) -> Views:
    """The monthly mean of an article that exists; zero is a measurement like any other, with a status of its own."""
    return Views(OK if total > 0 else ZERO_VIEWS, title, total / months)
