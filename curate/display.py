"""How results and progress are shown: in a notebook, at a prompt, on a terminal."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

Progress = Callable[..., None]
"""Called with a name, what is done of it and how much there is in all; and the tokens read since the last call, if any.

The first call tells where the run begins: at 0, or after what an earlier run had done.
"""


OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal obeys instead of showing them: control characters (all but tab and line break), with which
escape sequences begin, and those that turn the direction of writing; and halves of characters, which cannot be printed.
"""


def clean(text: str) -> str:
    r"""The text as it may reach a terminal, in JSON too, whoever wrote it: what would be obeyed is spelled out.

    >>> print(clean("\x1b[2J gone?"))
    \u001b[2J gone?
    """
    return OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def paced(unit: str, draw: Callable[[str, float, int, str], None], clock: Callable[[], float]) -> Progress:
    """Draws each report together with its pace: `812 rows/s, 13,400 tokens/s, 0:12:08 left`.

    The first report of a name says where the run begins: what an earlier run had done counts for nothing. A report may
    be of a fraction of a row, since an estimator tells of work, not only of whole rows.
    """
    begun: dict[str, tuple[float, float]] = {}
    read: Counter[str] = Counter()

    def show(name: str, done: float, total: int, tokens: int = 0) -> None:
        now = clock()
        started, begun_at = begun.setdefault(name, (now, done))
        read[name] += tokens
        seconds, rows = now - started, done - begun_at
        speeds = []
        if seconds > 0 and rows > 0:
            left = max(0.0, total - done) * seconds / rows
            speeds = [f"{_number(rows / seconds)} {unit}/s"]
            speeds += [f"{_number(read[name] / seconds)} tokens/s"] if read[name] else []
            speeds += [f"{duration(left)} left"]
        draw(clean(name), done, total, ", ".join(speeds))

    return show


def percent(share: float | None) -> str:
    """`61.5`; nothing where there is none."""
    return "" if share is None else f"{100 * share:.1f}"


def duration(seconds: float) -> str:
    """`0:12:08`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


@contextmanager
def bar(unit: str) -> Iterator[Progress]:
    """A progress bar with units a second, tokens a second where tokens are read, and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    counts = f"{{task.completed:,.0f}}/{{task.total:,.0f}} {unit}"
    named = TextColumn("{task.description}", markup=False)
    columns = (named, BarColumn(), TextColumn(counts), TextColumn("{task.fields[pace]}"))
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:

        def draw(name: str, done: float, total: int, pace: str) -> None:
            if name not in tasks:
                tasks[name] = drawn.add_task(name, total=total, pace="")
            drawn.update(tasks[name], completed=done, pace=pace)

        yield paced(unit, draw, time.monotonic)


LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal to draw a bar on."""


def lines(unit: str, clock: Callable[[], float] = time.monotonic) -> Progress:
    """A line every half a minute, for logs."""
    last = clock()

    def draw(name: str, done: float, total: int, pace: str) -> None:
        nonlocal last
        if clock() - last >= LINE_EVERY:
            last = clock()
            print(f"{name}: {done:,.0f} of {total:,} {unit}, {pace}", file=sys.stderr, flush=True)

    return paced(unit, draw, clock)


@contextmanager
def bar_in_python(unit: str = "rows") -> Iterator[Progress]:
    """The bar for a function that was given none: on a terminal or in a notebook; elsewhere, in a log, nothing."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        with bar(unit) as show:
            yield show
    else:
        yield lambda name, done, total, tokens=0: None


LINES = 10
"""Lines that a result takes at a prompt, at most."""


@dataclass(frozen=True)
class Outline:
    """A result in short: what it is, a table, and what is to be said of it."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()


class Shown:
    """A result that shows itself in a few lines, and as a table in a notebook."""

    def outline(self) -> Outline:
        """The result in short."""
        raise NotImplementedError

    def __repr__(self) -> str:
        found = self.outline()
        table = [[str(cell) for cell in row] for row in (found.headers, *found.rows)]
        widths = [max(len(row[n]) for row in table) for n in range(len(found.headers))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        room = LINES - 1 - len(found.notes)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more"]
        return clean("\n".join(line.rstrip() for line in (found.title, *(f"  {line}" for line in lines), *found.notes)))

    def _repr_html_(self) -> str:
        found = self.outline()
        rows = [
            f"<tr>{''.join(f'<{tag}>{escape(clean(str(cell)))}</{tag}>' for cell in row)}</tr>"
            for tag, row in (("th", found.headers), *(("td", row) for row in found.rows))
        ]
        notes = "".join(f"<p>{escape(clean(note))}</p>" for note in found.notes)
        return f"<p><strong>{escape(clean(found.title))}</strong></p><table>{''.join(rows)}</table>{notes}"
