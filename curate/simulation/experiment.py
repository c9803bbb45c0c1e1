"""What an experiment is: settings in, tables of rows out, and what is read off them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from curate.simulation.settings import Settings

Row = dict[str, Any]
Tables = dict[str, list[Row]]
"""Rows by the name of the file they go to; `results` is always there."""
Progress = Callable[[str, int, int], None]
"""Called with the experiment's name, how many of its runs are done, and how many there are."""

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Shown:
    """A table for a person, printed and put in the report; its cells are text."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


class Experiment(Protocol[S]):
    """One experiment of `curate simulate`. Settings are a frozen dataclass whose fields are options of the command."""

    name: str
    title: str  # the heading of its report

    def settings(self, full: bool) -> S:
        """The default settings; with `full` those of the paper-sized sweep."""

    def points(self, settings: S) -> list[S]:
        """The settings of every run of a sweep; one where nothing is swept."""

    def run(self, point: S, seed: int) -> Tables:
        """One run: `results` rows have arm, setting columns, top_percent and accuracy; JSON values only.

        The experiment's name and the seed are put in front of every row afterwards.
        """

    def summarise(self, tables: Tables) -> dict[str, Any]:
        """What all runs together show, for summary.json; `verdict` is a sentence that says it."""

    def shown(self, summary: Mapping[str, Any]) -> list[Shown]:
        """The summary as tables for a person."""

    def figures(self, tables: Tables) -> dict[str, bytes]:
        """PNGs by name, most important first."""
