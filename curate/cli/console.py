"""How commands talk: settings as options, results on stdout, all else on stderr, mistakes as messages."""

from __future__ import annotations

import functools
import inspect
import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar, get_type_hints

import typer
from typer.core import TyperGroup

from curate.data.files import plain
from curate.display import Progress, bar, clean, lines
from curate.errors import CurateError, OutputError, SettingError, as_option, missing_extra, setting
from curate.estimators import find_estimator
from curate.settings import Setting, Settings, is_group, settings_of

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")

EXIT_FIXABLE = 1
EXIT_MISSING = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_PRINTING = {
    "json": typer.Option("--json", help="Print one machine-readable object on stdout."),
    "quiet": typer.Option("--quiet", "-q", help="No progress and no notes."),
}
Force = Annotated[bool, typer.Option("--force", help="Replace what was made there in another way.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; write nothing.")]


def make_table(title: str | None, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table; columns whose every cell looks like a number are set to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = None if title is None else clean(title)
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", collapse_padding=True)
    texts = [["" if cell is None else clean(str(cell)) for cell in row] for row in rows]
    for position, header in enumerate(headers):
        cells = [row[position].lstrip("+-−").replace(",", "").replace(".", "", 1) for row in texts]
        numeric = all(cell[:1].isdigit() for cell, row in zip(cells, texts, strict=True) if row[position])
        table.add_column(clean(header), justify="right" if numeric else "left")
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    return table


def can_print(text: str) -> bool:
    """Whether standard output can spell a text."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Commands(TyperGroup):
    """The commands, whose complaints about what was typed, a file's name perhaps, are clean."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _clean_usage():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with _clean_usage():
            return super().invoke(ctx)


@contextmanager
def _clean_usage() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of click, or of what Typer has in its place
        if isinstance(message := getattr(error, "message", None), str):
            error.message = clean(message)  # type: ignore[attr-defined]
        raise


class _CleanLog(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


if logging.lastResort is not None:  # which prints what nobody else wants to
    logging.lastResort.setFormatter(_CleanLog())


def command(
    app: typer.Typer, **several: Sequence[type[Settings]]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command of `app`, and settings its options.

    Its first parameter is the Output to print with, which stands for the options --json and --quiet. One whose type is
    a group of settings stands for an option each, and the function is given the group. One that is named in `several`
    stands for the options of several groups, and the function is given a mapping.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        groups = {name: [hint] for name, hint in hints.items() if is_group(hint)}
        taken = {name: _on_command_line(found) for name, found in (groups | several).items()}

        @functools.wraps(function)
        def wrapped(json: bool, quiet: bool, **given: Any) -> None:
            with messages():
                for name, settings in taken.items():
                    values = {item.name: _value(item, given.pop(item.name)) for item in settings}
                    given[name] = groups[name][0].of(values) if name in groups else values
                function(Output(json, quiet), **given)

        parameters: list[inspect.Parameter] = []
        for parameter in [*inspect.signature(function).parameters.values()][1:]:
            own = [parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY)]
            parameters += map(_as_parameter, taken[parameter.name]) if parameter.name in taken else own
        for name, about in _PRINTING.items():
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(name, kind, default=False, annotation=Annotated[bool, about]))
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        # \b keeps the help from breaking a command in two, so that it can be copied.
        wrapped.__doc__ = (function.__doc__ or "").replace("Example: ", "\b\n    Example: ")
        app.command()(wrapped)
        return wrapped

    return register


def _on_command_line(groups: Sequence[type[Settings]]) -> list[Setting]:
    """Their settings in order, each name once."""
    found: dict[str, Setting] = {}
    for item in (item for group in groups for item in settings_of(group)):
        if item.about.get("on_command_line", True):
            found.setdefault(item.name, item)
    return [*found.values()]


def _as_parameter(item: Setting) -> inspect.Parameter:
    """A setting as Typer takes an option: one of texts that may be several is repeatable, one of numbers has commas."""
    plain = next((kind for kind in (bool, float, int) if kind in item.kinds), str)
    text = str in item.kinds or item.item_kind in (int, float)
    kind: Any = list[str] if item.item_kind is str else str if text else plain
    default = item.default
    if isinstance(default, tuple):
        default = (",".join(map(str, default)) if text else [*default]) or None
    yes_only = kind is bool and default is not None  # else there would be a --no- too
    names = [f"--{item.name.replace('_', '-')}"] if yes_only else []
    least = item.about.get("least") if kind is int else None
    about = typer.Option(*names, help=item.help, min=least)
    annotation = Annotated[kind | None if default is None else kind, about]  # type: ignore[valid-type]
    return inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _value(item: Setting, value: Any) -> Any:
    """What was typed, numbers with commas as a tuple: `0.5,1,1.5`."""
    if value is None or item.item_kind not in (int, float):
        return value
    try:
        return tuple(item.item_kind(part) for part in value.split(","))
    except ValueError:
        raise SettingError(
            f"{setting(item.name, value)} is not a number, nor numbers with commas between them.",
            try_next=setting(item.name, "1,2"),
        ) from None


def own_settings(by: Sequence[str], given: Sequence[str]) -> dict[str, Any]:
    """The settings of estimators of one's own, `foils=8`, each as the type that the estimator says it has."""
    known = {item.name: item for spec in by for item in settings_of(find_estimator(spec)[0].Settings)}
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        item = known.get(name.replace("-", "_"))
        if not equals or item is None:
            raise SettingError(
                f"{setting('set', text)} is no setting of {', '.join(by)}.",
                expected=f"NAME=VALUE, the name one of: {', '.join(known) or 'none, since they have no settings'}",
            )
        kind = item.kinds[0]
        converters: dict[Any, Callable[[str], Any]] = {bool: {"true": True, "false": False}.__getitem__}
        convert = converters.get(kind, kind if kind in (int, float) else str)
        try:
            found[item.name] = convert(value)
        except (KeyError, ValueError):
            raise SettingError(f"{setting('set', text)} is not {kind.__name__}.", expected=item.help) from None
    return found


class _Stream:
    """A standard stream: one of results that cannot be written ends the command; one of notes is done without."""

    def __init__(self, stream: TextIO, needed: bool) -> None:
        self._stream, self._needed = stream, needed
        self._broken: OutputError | None = None

    def write(self, text: str) -> int:
        """Write, or raise OutputError where results cannot be."""
        return self._do(partial(self._stream.write, text)) or 0

    def flush(self) -> None:
        """Likewise."""
        self._do(self._stream.flush)

    def _do(self, work: Callable[[], T]) -> T | None:
        if self._broken and self._needed:
            raise self._broken
        try:
            return work()
        except OSError as error:
            # What still waits to be written must not be tried again when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError) and self._needed:
                raise
            why = f"Standard output cannot be written: {error.strerror}."
            self._broken = OutputError(why, expected="a file with room, or a terminal")
            return self._do(work)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def start(app: Callable[[], Any]) -> None:
    """Run the commands as a process of their own does, whatever its standard streams are.

    What a stream cannot spell is written as an escape; closed streams are as if nobody read them. SIGTERM ends a
    command as Ctrl-C does; of several processes (torchrun) it ends each at once, since they may wait for one another.
    """
    if "RANK" not in os.environ:
        signal.signal(signal.SIGTERM, _terminate)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed; opened at its own number, or a file of ours would take it
            closed = os.open(os.devnull, os.O_RDWR if name != "stdout" else os.O_RDONLY)
            setattr(sys, name, os.fdopen(closed, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    plain_streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Stream(sys.stdout, needed=True), _Stream(sys.stderr, needed=False)
    try:
        with messages():
            try:
                app()
            except SystemExit as ended:
                if not ended.code:
                    sys.stdout.flush()
                raise
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    finally:
        sys.stdout, sys.stderr = plain_streams


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


def _terminate(number: int, frame: Any) -> None:
    """The first signal ends the command; another would only disturb what is put in order (`timeout` sends two)."""
    signal.signal(number, signal.SIG_IGN)
    raise Terminated


@contextmanager
def messages() -> Iterator[None]:
    """What the user can fix ends in a message and exit code 1, Ctrl-C in 130, SIGTERM in 143; none in a traceback."""
    try:
        yield
    except (CurateError, ImportError) as error:
        found = missing_extra(error) if isinstance(error, ImportError) else error
        if found is None:
            raise
        _wait_for_the_first_process()
        print(f"curate: {clean(found.message(as_option))}", file=sys.stderr)
        raise typer.Exit(EXIT_FIXABLE) from None
    except KeyboardInterrupt as stopped:
        print("curate: interrupted; type the same command again: what was kept is not done twice", file=sys.stderr)
        raise typer.Exit(EXIT_TERMINATED if isinstance(stopped, Terminated) else EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has what they wanted (curate show … | head)
        raise typer.Exit(0) from None


def _wait_for_the_first_process() -> None:
    """Of several processes (torchrun) that cannot go on, the first tells why, and its end ends the others.

    One that is alone in trouble tells it a moment later.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(3)


class Output:
    """Decided once per command: whether a person or a program reads."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def note(self, text: str) -> None:
        """A remark for a person, on stderr."""
        if not self.quiet:
            print(clean(text), file=sys.stderr, flush=True)

    def result(self, content: Mapping[str, Any], *tables: Any) -> None:
        """The outcome: `content` as JSON, or the tables and lines for a person."""
        if self.as_json:
            told = partial(json.dumps, plain(content), indent=2, default=str, allow_nan=False)
            text = clean(told(ensure_ascii=False))
            print(text if can_print(text) else told())
            return
        from rich.console import Console

        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        for table in tables:
            console.print(clean(table) if isinstance(table, str) else table)

    @contextmanager
    def progress(self, unit: str = "rows") -> Iterator[Progress]:
        """How far the work is, on stderr: a bar on a terminal, else a line now and then."""
        if self.quiet:
            yield lambda name, done, total, tokens=0: None
        elif sys.stderr.isatty():
            with bar(unit) as show:
                yield show
        else:
            yield lines(unit)
