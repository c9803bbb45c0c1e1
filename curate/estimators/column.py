"""`column:NAME`: a number the user already has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.data.columns import values_of
from curate.errors import EstimatorError, setting
from curate.estimators.base import Estimator
from curate.records import OK, Example, Score

MISSING = "missing"


class ColumnEstimator(Estimator):
    """Takes the score from an input column of numbers, or a dotted path into one; higher means better known."""

    usage = "column:NAME"
    resumable = False

    def __init__(self, column: str) -> None:
        self.name = column
        self.columns = (column,)

    @classmethod
    def make(cls, argument: str, settings: Any, columns: Sequence[str]) -> Estimator:
        return cls(argument)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"estimator": "column", "column": self.name}

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        (column,) = self.columns
        for example in examples:
            yield score_of_number(example.extra[column], column)

    def score_table(self, table: pa.Table) -> list[pa.Array] | None:
        """The same for a column of Arrow numbers, without a Python object a row."""
        column = values_of(table, self.name)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            return None
        numbers = pc.cast(column.combine_chunks(), pa.float64(), safe=False)
        measured = pc.fill_null(pc.invert(pc.is_nan(numbers)), False)
        return [pc.if_else(measured, numbers, None), pc.if_else(measured, OK, MISSING)]


def score_of_number(value: Any, column: str) -> Score:
    """The score in one cell: numbers and texts that spell one; empty cells and NaN are `missing`.

    Raises EstimatorError for anything that is not a number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return Score(None, MISSING)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise EstimatorError(
            f"The column {column!r} is not all numbers: it holds {value!r}.",
            expected="a number, or an empty cell, in every row",
            try_next=f"{setting('by', 'column:NAME')}, with a column of numbers; higher must mean better known",
        ) from None
    return Score(None, MISSING) if math.isnan(number) else Score(number, OK)
