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
    ├── ModelError          a model or tokenizer that cannot be loaded or used
    └── OutputError         a place that cannot be written

On the command line each of them ends in exit code 1 and no traceback.
"""

from __future__ import annotations


class CurateError(Exception):
    """A problem the user can fix: `found`, what was `expected`, and what to `try_next`.

    Examples:
        >>> print(CurateError("There is no file popqa.tsv.", "a file, or a Hub id", "ls").message())
        There is no file popqa.tsv.
        Expected: a file, or a Hub id
        Try: ls
    """

    def __init__(self, found: str, expected: str | None = None, try_next: str | None = None) -> None:
        self.found = found
        self.expected = expected
        self.try_next = try_next
        super().__init__(self.message())

    def __reduce__(self) -> tuple[type[CurateError], tuple[str, str | None, str | None]]:
        """Errors of a helper process reach its owner whole."""
        return type(self), (self.found, self.expected, self.try_next)

    def message(self) -> str:
        """All three parts as lines of text."""
        lines = [self.found]
        if self.expected:
            lines.append(f"Expected: {self.expected}")
        if self.try_next:
            lines.append(f"Try: {self.try_next}")
        return "\n".join(lines)


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


class ModelError(CurateError):
    """A model or tokenizer that cannot be loaded or used."""


class OutputError(CurateError):
    """A place that cannot be written."""
