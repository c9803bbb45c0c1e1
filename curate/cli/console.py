"""How commands talk: results to stdout, all else to stderr, one JSON object with `--json`."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, Protocol, TypeVar

import typer

from curate.errors import CurateError, as_option, missing_extra

if TYPE_CHECKING:
    from rich.table import Table


@dataclass
class Pace:
    """Rows and tokens a second, and the seconds left, since the first report of a run.

    The first report says where the run begins: what an earlier run had done costs this one no time, so it counts
    for nothing here. `done` may be a fraction of a row, since an estimator tells of work, not only of whole rows.
    """

    started: float
    begun_at: float
    now: float
    done: float
    tokens: int = 0

    def report(self, now: float, done: float, tokens: int) -> None:
        """At `now` seconds so many rows are done, and so many tokens more than at the last report."""
        self.now, self.done, self.tokens = now, done, self.tokens + tokens

    @property
    def rows_per_second(self) -> float | None:
        """None before there is anything to tell."""
        seconds, rows = self.now - self.started, self.done - self.begun_at
        return rows / seconds if seconds > 0 and rows > 0 else None

    @property
    def tokens_per_second(self) -> float | None:
        """None where no tokens are read."""
        return self.tokens / (self.now - self.started) if self.tokens and self.now > self.started else None

    def seconds_left(self, total: int) -> float | None:
        """What the rows that are left will take if all goes on as it went."""
        rate = self.rows_per_second
        return None if rate is None else max(0.0, total - self.done) / rate

    def line(self, total: int, unit: str = "rows") -> str:
        """`812 rows/s, 13,400 tokens/s, 0:12:08 left`; empty before there is anything to tell."""
        rate, tokens, left = self.rows_per_second, self.tokens_per_second, self.seconds_left(total)
        if rate is None or left is None:
            return ""
        speeds = [f"{_number(rate)} {unit}/s", *([f"{_number(tokens)} tokens/s"] if tokens else [])]
        hours, minutes, seconds = round(left) // 3600, round(left) // 60 % 60, round(left) % 60
        return ", ".join([*speeds, f"{hours}:{minutes:02}:{seconds:02} left"])


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


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


P = ParamSpec("P")
R = TypeVar("R")

EXIT_FIXABLE = 1
EXIT_MISSING = 3
EXIT_INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
Preset = Annotated[str | None, typer.Option(help="The layout, where it is not recognised: popqa, mmlu, …")]
Split = Annotated[str | None, typer.Option(help="The split of a Hub dataset: test, or its beginning, train[:1000].")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; write nothing.")]


class Output:
    """Decided once per command: whether a person or a program reads."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def note(self, text: str) -> None:
        """A remark for a person, on stderr."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def result(self, content: Mapping[str, Any], *tables: Table | str) -> None:
        """The outcome: `content` as JSON, or the tables and lines for a person."""
        if self.as_json:
            from curate.data.files import plain

            print(json.dumps(plain(content), indent=2, ensure_ascii=False, default=str, allow_nan=False))
            return
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        for table in tables:
            console.print(table, markup=False)

    @contextmanager
    def progress(self, unit: str = "rows") -> Iterator[Show]:
        """How far the work is, on stderr; gives what to call with (name, done, total) and, if any, tokens read."""

        if self.quiet:
            yield lambda name, done, total, tokens=0: None
        elif sys.stderr.isatty():
            with bar(unit) as show:
                yield show
        else:
            yield lines(unit)


def make_table(title: str | None, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A rich table; columns whose every cell looks like a number are set to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", collapse_padding=True)
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    for position, header in enumerate(headers):
        cells = [row[position] for row in texts]
        numeric = all(
            cell.lstrip("+-−").replace(",", "").replace(".", "", 1)[:1].isdigit() or not cell for cell in cells
        )
        table.add_column(header, justify="right" if numeric else "left")
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    return table


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turns what the user can fix into a message and exit code 1, and Ctrl-C into 130; no traceback for either."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except CurateError as error:
            _wait_for_the_first_process()
            print(f"curate: {error.message(as_option)}", file=sys.stderr)
            raise typer.Exit(EXIT_FIXABLE) from None
        except ImportError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            print(f"curate: {missing.message(as_option)}", file=sys.stderr)
            raise typer.Exit(EXIT_FIXABLE) from None
        except KeyboardInterrupt:
            print("curate: interrupted; type the same command again: what was kept is not done twice", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()  # whoever read our output has what they wanted (curate show … | head)
            raise typer.Exit(0) from None

    # \b keeps the help from breaking a command in two, so that it can be copied.
    wrapped.__doc__ = (function.__doc__ or "").replace("Example: ", "\b\n    Example: ")
    return wrapped


def _wait_for_the_first_process() -> None:
    """Of several processes (torchrun) that cannot go on, the first tells why, and its end ends the others.

    One that is alone in trouble tells it a moment later.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(3)
