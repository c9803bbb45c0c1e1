"""Estimators: each gives every example a score, higher for better known. Adding one is its file and a line here.

One of your own needs no line here: `by` also takes an object, a function, `module:Name`, or the name of an entry point
in the group `curate.estimators` of an installed package (docs/own-estimator.md).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from curate.errors import EstimatorError, setting
from curate.estimators.base import ColumnEstimator, Estimator
from curate.estimators.known import KnownEstimator
from curate.estimators.loss import LossEstimator
from curate.estimators.pageviews import PageViewsEstimator, SitelinksEstimator
from curate.records import Example, Score

ESTIMATORS: dict[str, type[Estimator]] = {
    "column": ColumnEstimator,
    "known": KnownEstimator,
    "loss": LossEstimator,
    "pageviews": PageViewsEstimator,
    "sitelinks": SitelinksEstimator,
}

ENTRY_POINTS = "curate.estimators"
"""The group of entry points under which an installed package offers estimators by name."""

Scorer = Callable[[Sequence[Example]], Sequence[float | None]]
By = str | Estimator | Scorer
"""One estimator, as `by` takes it."""


class FunctionEstimator(Estimator):
    """A plain function of examples: a number each, higher for better known; None or NaN where it has none."""

    resumable = False  # what a function depends on cannot be told

    def __init__(self, function: Scorer) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "")
        if not self.name.isidentifier():
            raise EstimatorError(
                f"{function!r} has no name, which its column of scores would have.",
                expected="a function that is defined by def, or an object of a subclass of Estimator",
            )

    def fingerprint(self) -> Mapping[str, Any]:
        """Where the function is, and a hash of its own lines."""
        try:
            source = inspect.getsource(self.function)
        except (OSError, TypeError):
            source = ""
        where = f"{self.function.__module__}:{self.name}"
        return {"estimator": where, "sha256": hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]}

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        """What the function says; EstimatorError for anything but numbers, as many as there are examples."""
        values = list(self.function(examples))
        if len(values) != len(examples):
            raise EstimatorError(
                f"{self.name} gave {len(values)} scores for {len(examples)} examples.", expected="one score an example"
            )
        for value in values:
            try:
                number = math.nan if value is None else float(value)
            except (TypeError, ValueError):
                raise EstimatorError(f"{self.name} gave {value!r}.", expected="a number, or None") from None
            yield Score(None, "missing") if math.isnan(number) else Score(number)


def find_estimator(spec: str) -> tuple[type[Estimator] | Estimator, str]:
    """The estimator that a spec names, and what stands behind its colon; EstimatorError if there is none such."""
    name, _, argument = spec.partition(":")
    found = ESTIMATORS.get(name)
    if found is not None and (":" in found.usage) == bool(argument):
        return found, argument
    if found is None and argument:
        return _from_module(spec, name, argument), ""
    from importlib.metadata import entry_points  # a search through all installed packages

    for point in entry_points(group=ENTRY_POINTS, name=spec):
        return _from_module(spec, point.module, point.attr), ""
    raise EstimatorError(
        f"There is no estimator {spec!r}.",
        expected=f"{setting('by')} with one of: {', '.join(known.usage for known in ESTIMATORS.values())}, "
        "module:Name, or an installed one",
        try_next=f"{setting('by', 'column:NAME')} takes a column of numbers; "
        f"{setting('by', 'loss')} {setting('model', 'MODEL')} asks the model; "
        f"{setting('by', 'pageviews')} {setting('contact', 'YOU')} asks Wikipedia",
    )


def imported(module: str, name: str) -> Any:
    """A name of somebody's module, which may lie in the working folder. It may fail in any way, or end the program."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return attrgetter(name)(importlib.import_module(module))


def _from_module(spec: str, module: str, name: str) -> type[Estimator] | Estimator:
    """A class, object or function of somebody's module."""
    try:
        found = imported(module, name)
    except (Exception, SystemExit) as error:
        raise EstimatorError(
            f"{setting('by', spec)} cannot be imported: {type(error).__name__}: {error}.",
            expected="a module in the working folder or an installed package, and the name of an estimator in it",
            try_next=f'python -c "import {module}; {module}.{name}"',
        ) from error
    if isinstance(found, Estimator) or (isinstance(found, type) and issubclass(found, Estimator)):
        return found
    if isinstance(found, type) or not callable(found):
        kind = "a class" if isinstance(found, type) else type(found).__name__
        raise EstimatorError(
            f"{setting('by', spec)} is {kind} {name!r}, and no estimator.",
            expected="a subclass of curate.Estimator, an object of one, or a function of examples",
        )
    return FunctionEstimator(found)


def make_estimator(by: By, options: Mapping[str, Any], columns: Sequence[str] = ()) -> Estimator:
    """The estimator that is named or given, its settings among `options`, for data with these columns."""
    if isinstance(by, str):
        found, argument = find_estimator(by)
        return found.make(argument, found.Settings.of(options), columns) if isinstance(found, type) else found
    return by if isinstance(by, Estimator) else FunctionEstimator(by)


def is_own(estimator: Estimator) -> bool:
    """Whether the code of an estimator is the user's, and none of curate's."""
    return isinstance(estimator, FunctionEstimator) or not type(estimator).__module__.startswith("curate.")
