"""How commands talk: results to stdout, all else to stderr, one JSON object with `--json`, little with `--quiet`."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from curate.errors import CurateError

if TYPE_CHECKING:
    from rich.table import Table

    from curate.cli.progress import Show

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
            from curate.datasets.write import plain

            print(json.dumps(plain(content), indent=2, ensure_ascii=False, default=str, allow_nan=False))
            return
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        for table in tables:
            console.print(table, markup=False)

    @contextmanager
    def progress(self, unit: str = "rows") -> Iterator[Show]:
        """How far the work is, on stderr; gives what to call with (name, done, total) and, if any, tokens read."""
        from curate.cli.progress import bar, lines

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
            print(f"curate: {error.message()}", file=sys.stderr)
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
