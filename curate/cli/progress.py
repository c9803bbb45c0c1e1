"""How far a command is, on stderr: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from curate.cli.pace import Pace

LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal to draw a bar on."""


class Show(Protocol):
    """Called with what is worked on, how much of it is done and in all, and the tokens read since the last call.

    The first call for a name says where the run begins, which is 0 unless an earlier run did a part of it.
    """

    def __call__(self, name: str, done: float, total: int, tokens: int = 0) -> None: ...


class Paces:
    """A pace for each name that is worked on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.paces: dict[str, Pace] = {}

    def report(self, name: str, done: float, tokens: int) -> Pace:
        """The pace of `name` after this report."""
        now = self.clock()
        if name not in self.paces:
            self.paces[name] = Pace(started=now, begun_at=done, now=now, done=done)
        self.paces[name].report(now, done, tokens)
        return self.paces[name]


@contextmanager
def bar(unit: str) -> Iterator[Show]:
    """A progress bar with units a second, tokens a second where tokens are read, and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    counts = f"{{task.completed:,.0f}}/{{task.total:,.0f}} {unit}"
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn(counts), TextColumn("{task.fields[pace]}"))
    paces = Paces(time.monotonic)
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        tasks: dict[str, Any] = {}

        def show(name: str, done: float, total: int, tokens: int = 0) -> None:
            pace = paces.report(name, done, tokens)
            if name not in tasks:
                tasks[name] = drawn.add_task(name, total=total, pace="")
            drawn.update(tasks[name], completed=done, pace=pace.line(total, unit))

        yield show


def lines(unit: str, clock: Callable[[], float] = time.monotonic) -> Show:
    """A line every half a minute, for logs."""
    paces = Paces(clock)
    last = clock()

    def show(name: str, done: float, total: int, tokens: int = 0) -> None:
        nonlocal last
        pace = paces.report(name, done, tokens)
        if pace.now - last >= LINE_EVERY:
            last = pace.now
            print(f"{name}: {done:,.0f} of {total:,} {unit}, {pace.line(total, unit)}", file=sys.stderr, flush=True)

    return show
