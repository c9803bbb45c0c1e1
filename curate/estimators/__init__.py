"""Estimators: each gives every example a score, higher for better known. Adding one is its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curate.errors import EstimatorError, setting
from curate.estimators.base import Estimator
from curate.estimators.column import ColumnEstimator
from curate.estimators.known import KnownEstimator
from curate.estimators.loss import LossEstimator
from curate.estimators.pageviews import PageViewsEstimator

ESTIMATORS: dict[str, type[Estimator]] = {
    "column": ColumnEstimator,
    "known": KnownEstimator,
    "loss": LossEstimator,
    "pageviews": PageViewsEstimator,
}


def find_estimator(spec: str) -> tuple[type[Estimator], str]:
    """The estimator that a spec names, and what stands behind its colon; EstimatorError if there is none such."""
    name, _, argument = spec.partition(":")
    found = ESTIMATORS.get(name)
    if found is None or (":" in found.usage) != bool(argument):
        raise EstimatorError(
            f"There is no estimator {spec!r}.",
            expected=f"{setting('by')} with one of: {', '.join(known.usage for known in ESTIMATORS.values())}",
            try_next=f"{setting('by', 'column:NAME')} takes a column of numbers; "
            f"{setting('by', 'loss')} {setting('model', 'MODEL')} asks the model; "
            f"{setting('by', 'pageviews')} {setting('contact', 'YOU')} asks Wikipedia",
        )
    return found, argument


def make_estimator(spec: str, options: Mapping[str, Any], columns: Sequence[str] = ()) -> Estimator:
    """The estimator that a spec names, its settings among `options`, for data with these columns."""
    found, argument = find_estimator(spec)
    return found.make(argument, found.Settings.of(options), columns)
