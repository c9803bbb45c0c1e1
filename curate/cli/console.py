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
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperGroup
from typer.models import OptionInfo

from curate.data.export import as_jsonl
from curate.data.files import plain
from curate.display import Progress, bar, clean, lines
from curate.engines import is_first
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

PANEL = "Output"
"""The part of a help page with what all commands share."""


def choices(*names: str, help: str = "", option: Sequence[str] = (), **more: Any) -> Any:
    """An option with its choices on the help page and in the shell's completion; whoever takes it refuses others."""

    return typer.Option(*option, help=help, metavar=f"[{'|'.join(names)}]", autocompletion=starting(names), **more)


def starting(names: Sequence[str]) -> Callable[[str], list[str]]:
    """For a shell's completion: the names that go on from what is typed."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


LOG_LEVELS = ("debug", "info", "warning", "error")
Force = Annotated[
    bool, typer.Option("--force", help="Replace what was made there in another way.", rich_help_panel=PANEL)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and its cost; write nothing.", rich_help_panel=PANEL)
]
Open = Annotated[bool, typer.Option("--open", help="Show the report in the browser.", rich_help_panel=PANEL)]


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

    Its first parameter is the Output to print with, which stands for the options of all commands. One whose type is a
    group of settings stands for an option each, and the function is given the group. One that is named in `several`
    stands for the options of several groups, and the function is given a mapping. What is not typed of an option is
    what CURATE_ and its name say in the environment, else the file of --config.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        groups = {name: [hint] for name, hint in hints.items() if is_group(hint)}
        taken = {name: _on_command_line(found) for name, found in (groups | several).items()}

        @functools.wraps(function)
        def wrapped(json: bool, quiet: bool, log_level: str | None, config: Any, **given: Any) -> None:
            with messages(), logged(log_level):
                for name, settings in taken.items():
                    values = {item.name: _value(item, given.pop(item.name)) for item in settings}
                    given[name] = groups[name][0].of(values) if name in groups else values
                function(Output(json, quiet), **given)

        parameters: list[inspect.Parameter] = []
        for parameter in [*inspect.signature(function).parameters.values()][1:]:
            own = [parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY)]
            parameters += map(_as_parameter, taken[parameter.name]) if parameter.name in taken else own
        common = get_type_hints(_common, include_extras=True)
        kept = inspect.signature(_common).parameters.values()
        parameters += [p.replace(annotation=common[p.name], kind=p.KEYWORD_ONLY) for p in kept]
        for parameter in parameters:
            for about in get_args(parameter.annotation)[1:]:
                if isinstance(about, OptionInfo):
                    about.envvar, about.show_envvar = f"CURATE_{parameter.name.strip('_').upper()}", False
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        wrapped.__doc__ = unwrapped(function.__doc__ or "")
        app.command()(wrapped)
        return wrapped

    return register


def unwrapped(text: str) -> str:
    """A docstring with a line a paragraph, since a terminal has its own width; lines of commands stay."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p if p.startswith("\b") else " ".join(p.split()) for p in paragraphs)


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
    told: dict[str, Any] = {"help": item.about["help"], "rich_help_panel": item.panel}
    told |= {"min": item.about["least"]} if kind is int else {}
    told |= {"show_default": later} if (later := item.about["shown_default"]) else {}
    known = item.about["choices"]
    about = choices(*known, **told) if known else typer.Option(*names, **told)
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


def _take_from(context: typer.Context, file: Path | None) -> Path | None:
    """Options that are not typed are what the file says of them."""
    if file is not None and not context.resilient_parsing:
        with messages():
            context.default_map = {**(context.default_map or {}), **options_in(file, context)}
    return file


def options_in(file: Path, context: typer.Context) -> dict[str, Any]:
    """What a file says of the options of a command; SettingError for one that no command has."""
    import yaml

    try:
        # Every scalar is a text, as if it were typed: `tune: off` is no truth value.
        said = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"{file} cannot be read: {error}", expected="YAML, an option a line: model: gpt2") from error
    if not isinstance(said, dict):
        raise SettingError(f"{file} holds no options.", expected="YAML, an option a line: model: gpt2")
    commands = _options_of(context.find_root().command)
    every = {name: about for options in commands.values() for name, about in options.items()}
    sections = {name: inner for name, inner in said.items() if name in commands and isinstance(inner, dict)}
    shared = {name: value for name, value in said.items() if name not in sections}
    for section, values in {"": shared, **sections}.items():
        known = commands.get(section, every)
        for name in values:
            if name.replace("-", "_") not in known:
                close = get_close_matches(name.replace("-", "_"), [*known, *([] if section else commands)], n=1)
                raise SettingError(
                    f"{file}: {name} is no option of {f'curate {section}' if section else 'a command'}.",
                    expected=f"what curate {section or 'COMMAND'} --help names, without the dashes",
                    try_next=close[0] if close else None,
                )
    here = commands[str(context.info_name)]
    found = {**shared, **sections.get(str(context.info_name), {})}
    named = {name.replace("-", "_"): value for name, value in found.items()}
    return {
        here[name].name: _as_typed(value, several=here[name].multiple, where=f"{file}: {name}")
        for name, value in named.items()
        if name in here and value not in ("", "~", "null")
    }


def _options_of(group: Any) -> dict[str, dict[str, Any]]:
    """The options of every command by their long names, with _ for -."""
    found: dict[str, dict[str, Any]] = {}
    for name, inner in group.commands.items():
        if hasattr(inner, "commands"):
            found |= _options_of(inner)
        else:
            named = {o.opts[0]: o for o in inner.params if o.param_type_name == "option" and o.name != "config"}
            found[name] = {text.lstrip("-").replace("-", "_"): option for text, option in named.items()}
    return found


def _as_typed(value: Any, several: bool, where: str) -> Any:
    """A value of a file as it would be typed: several of an option that is repeatable, else with commas."""
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in items):
        raise SettingError(f"{where} holds a section.", expected="a value, or a list of values")
    return items if several else ",".join(items)


def _common(
    json: Annotated[
        bool, typer.Option("--json", help="Print one machine-readable object on stdout.", rich_help_panel=PANEL)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no notes, only warnings.", rich_help_panel=PANEL)
    ] = False,
    log_level: Annotated[
        str | None, choices(*LOG_LEVELS, help="Also what the libraries log, on stderr.", rich_help_panel=PANEL)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A YAML file with options, for all commands or in a section with the name of one.",
            callback=_take_from,
            is_eager=True,
            rich_help_panel=PANEL,
        ),
    ] = None,
) -> None:
    """The options of all commands."""


COMMON = tuple(inspect.signature(_common).parameters)


@contextmanager
def logged(level: str | None) -> Iterator[None]:
    """What is logged by this library and others, on stderr, from a level on; without one, as Python does."""
    if level is None:
        yield
        return
    if level not in LOG_LEVELS:
        raise SettingError(f"There is no {setting('log_level', level)}.", expected=f"one of {', '.join(LOG_LEVELS)}")
    handler, root = logging.StreamHandler(), logging.getLogger()
    handler.setFormatter(_CleanLog("%(levelname)s %(name)s: %(message)s"))
    before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


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

    def writelines(self, lines: Iterable[str]) -> None:
        """Likewise."""
        for line in lines:
            self.write(line)

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
        with messages(), _sigterm_ends_it():
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


class Terminated(BaseException):
    """SIGTERM. No KeyboardInterrupt, which Typer turns into an exit code of its own."""


@contextmanager
def _sigterm_ends_it() -> Iterator[None]:
    """The first SIGTERM ends the command; a later one would only disturb what is put in order (`timeout` sends two)."""

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Terminated

    if "RANK" in os.environ:
        yield
        return
    try:
        signal.signal(signal.SIGTERM, end)
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


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
    except (KeyboardInterrupt, Terminated) as stopped:
        print("curate: interrupted; type the same command again: what was kept is not done twice", file=sys.stderr)
        raise typer.Exit(EXIT_TERMINATED if isinstance(stopped, Terminated) else EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has what they wanted (curate show … | head)
        raise typer.Exit(0) from None


def _wait_for_the_first_process() -> None:
    """Of several processes (torchrun) that cannot go on, the first tells why, and its end ends the others.

    One that is alone in trouble tells it a moment later.
    """
    if not is_first():
        time.sleep(3)


class Output:
    """Decided once per command: whether a person or a program reads."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._results: TextIO | None = None

    @contextmanager
    def place(self, output: Path, kind: str) -> Iterator[Path]:
        """Where to write: `output`, or for - a file that follows on standard output, Parquet as JSONL.

        Results go to stderr then.
        """
        if str(output) != "-":
            yield output
            return
        self._results = sys.stderr
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"stdout.{kind}"
            yield path
            if path.exists():  # not so of a dry run
                with (as_jsonl(path) if kind == "parquet" else path).open(encoding="utf-8", newline="") as lines:
                    sys.stdout.writelines(lines)

    def note(self, text: str) -> None:
        """A remark for a person, on stderr."""
        if not self.quiet:
            print(clean(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """What a person should not miss, on stderr."""
        print(clean(f"Warning: {text}"), file=sys.stderr, flush=True)

    def result(self, content: Mapping[str, Any], *tables: Any) -> None:
        """The outcome: `content` as JSON, or the tables and lines for a person."""
        if self.as_json:
            told = partial(json.dumps, plain(content), indent=2, default=str, allow_nan=False)
            text = clean(told(ensure_ascii=False))
            print(text if can_print(text) else told(), file=self._results)
            return
        from rich.console import Console

        console = Console(file=self._results, highlight=False, markup=False, emoji=False, soft_wrap=True)
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
