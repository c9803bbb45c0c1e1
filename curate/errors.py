"""What can go wrong that the user can fix.

    CurateError             catch this one: every message says what was found, what was expected, what to type next
    ├── DataError           a file or table that cannot be read as QA examples
    │   └── ColumnError     a column that is missing, ambiguous or of the wrong type
    ├── SettingError        a number or name among the options that cannot be
    ├── RecipeError         a recipe that is no YAML, or says what cannot be; with file, line and key
    ├── EstimatorError      an unknown estimator, or one that lacks something it needs
    │   └── PageViewsError  page views that cannot be had: a server that refuses, a damaged cache, table or dump
    ├── SelectionError      a selection that cannot be made from this pool
    ├── EngineError         workers that cannot be had, or do not stay alive
    ├── ExtraError          a library that comes with an extra, and is not installed
    ├── ModelError          a model or tokenizer that cannot be loaded or used
    └── OutputError         a place that cannot be written

On the command line each of them ends in exit code 1 and no traceback.

A message names settings by `setting("top", 0.3)`, and whoever shows it spells them: `top=0.3` in Python, `--top 0.3` on
the command line, `selection.top 0.3` for a recipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Spelling = Callable[[str, str], str]
"""From the name of a setting and its value ("" where there is none) to what the user types."""

_OPEN, _VALUE, _CLOSE = "\ue000", "\ue001", "\ue002"  # private use: in nobody's data, and taken out of every message
_MARKED = re.compile(f"{_OPEN}([^{_VALUE}]*){_VALUE}([^{_CLOSE}]*){_CLOSE}")


_NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?")


def setting(name: str, value: object = "") -> str:
    """A setting in a message, to be spelled by whoever shows it.

    >>> print(CurateError("Nothing was asked for.", try_next=setting("top", 0.3)))
    Nothing was asked for.
    Try: top=0.3
    """
    return f"{_OPEN}{name}{_VALUE}{value}{_CLOSE}"


def in_python(name: str, value: str) -> str:
    """A setting as a keyword argument: `top=0.3`, `engine='ray'`."""
    plain = _NUMBER.fullmatch(value) or value in ("True", "False", "None") or value[:1] in ("'", '"', "[", "(", "{")
    return f"{name}={value if plain else repr(value)}" if value else name


def as_option(name: str, value: str) -> str:
    """A setting as an option of the command: `--min-score 0.5`."""
    option = "-o" if name == "output" else f"--{name.replace('_', '-')}"
    return f"{option}{' ' if value else ''}{value}"


def spelled(text: str, spelling: Spelling = in_python) -> str:
    """A message with its settings spelled so."""
    return _MARKED.sub(lambda match: spelling(match[1], match[2]), text)


class CurateError(Exception):
    """A problem the user can fix: `found`, what was `expected`, and what to `try_next`.

    Examples:
        >>> print(CurateError("There is no file popqa.tsv.", "a file, or a Hub id", "ls").message())
        There is no file popqa.tsv.
        Expected: a file, or a Hub id
        Try: ls
    """

    def __init__(self, found: str, expected: str | None = None, try_next: str | None = None) -> None:
        self._parts = (found, expected, try_next)
        super().__init__(self.message())

    def __reduce__(self) -> tuple[type[CurateError], tuple[str, str | None, str | None]]:
        """Errors of a worker process reach its owner whole."""
        return type(self), self._parts

    def spelled(self, spelling: Spelling) -> tuple[str, str | None, str | None]:
        """The three parts with their settings spelled so."""
        found, expected, try_next = (part and spelled(part, spelling) for part in self._parts)
        return found or "", expected, try_next

    @property
    def found(self) -> str:
        """What was found, settings spelled as in Python."""
        return self.spelled(in_python)[0]

    @property
    def expected(self) -> str | None:
        """What was expected."""
        return self.spelled(in_python)[1]

    @property
    def try_next(self) -> str | None:
        """What to type next."""
        return self.spelled(in_python)[2]

    def message(self, spelling: Spelling = in_python) -> str:
        """All three parts as lines of text."""
        found, expected, try_next = self.spelled(spelling)
        lines = [found]
        if expected:
            lines.append(f"Expected: {expected}")
        if try_next:
            lines.append(f"Try: {try_next}")
        return "\n".join(lines)


def settings_in(error: CurateError) -> list[str]:
    """The names of the settings in what an error found."""
    return [name for name, _ in _MARKED.findall(error._parts[0])]


class DataError(CurateError):
    """A file or table that cannot be read as QA examples."""


class ColumnError(DataError):
    """A column that is missing, ambiguous or of the wrong type."""


class SettingError(CurateError):
    """A number or name among the options that cannot be."""


class RecipeError(CurateError):
    """A recipe that is no YAML, or says what cannot be; with file, line and key."""


class EstimatorError(CurateError):
    """An unknown estimator, or one that lacks something it needs."""


class PageViewsError(EstimatorError):
    """Page views that cannot be had: a server that refuses, a damaged cache, table or dump."""


class SelectionError(CurateError):
    """A selection that cannot be made from this pool."""


class EngineError(CurateError):
    """Workers that cannot be had, or do not stay alive."""


class ExtraError(CurateError):
    """A library that comes with an extra, and is not installed."""


class ModelError(CurateError):
    """A model or tokenizer that cannot be loaded or used."""


class OutputError(CurateError):
    """A place that cannot be written."""


_EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "peft", "accelerate", "safetensors", "scipy"), "lm"),
    "gguf": "gguf",
    "ray": "ray",
    "rensa": "dedup",
    "lm_eval": "lm-eval",
}
"""The extra of the distribution that a library comes with."""


def missing_extra(error: ImportError) -> ExtraError | None:
    """What to tell of an import that failed since an extra is not installed; None of any other."""
    library = (error.name or "").partition(".")[0]
    if library not in _EXTRAS:
        return None
    return ExtraError(
        f"This needs {library}, which is not installed.", try_next=f"pip install 'curate-qa[{_EXTRAS[library]}]'"
    )
