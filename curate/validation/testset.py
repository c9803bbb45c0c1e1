"""The test set: what every arm is asked, how popular each example is, and what it shares with the arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.datasets.read import QATable
from curate.errors import ColumnError, DataError
from curate.prompts import DEFAULT, Template
from curate.records import Example
from curate.selecting import SCORE_PREFIX, score_column, score_values
from curate.validation.arms import Arm, sample, usable_examples
from curate.validation.compare import popularity_percentiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TestSet:
    """The examples every arm is tested on, with their popularity percentiles (NaN where unknown)."""

    examples: Sequence[Example]
    percentiles: NDArray[np.float64]
    popularity: str | None
    unusable: int
    __test__ = False  # not a test case, whatever pytest makes of the name


def make_test_set(
    data: QATable, by: str | None = None, limit: int | None = None, template: Template = DEFAULT
) -> TestSet:
    """The usable examples of an evaluation set (a sample of `limit`), with percentiles if it has a score."""
    import numpy as np

    examples = data.examples()
    column = popularity_column(data, by)
    scores = np.full(len(data), np.nan) if column is None else score_values(data.table, column)
    popularity = {example.id: score for example, score in zip(examples, scores, strict=True)}
    usable = usable_examples(examples, template)
    if not usable:
        raise DataError(f"{data.source.name} has no example with a question and an answer to test on.")
    tested = sample(usable, limit)
    percentiles = popularity_percentiles(np.array([popularity[e.id] for e in tested]), [e.id for e in tested])
    return TestSet(tested, percentiles, column, len(examples) - len(usable))


def popularity_column(data: QATable, by: str | None) -> str | None:
    """The column of an evaluation set that tells popularity: a score, any column of numbers by name, or none."""
    import pyarrow as pa

    names = data.table.column_names
    if by is not None and f"{SCORE_PREFIX}{by}" not in names:
        column = by.removeprefix("column:")
        if column not in names:
            raise ColumnError(
                f"{data.source.name} has no score and no column named {by!r}.",
                expected=f"one of its columns: {', '.join(names)}",
                try_next="--by NAME, with a column of numbers, higher for better known",
            )
        kind = data.table.schema.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise ColumnError(
                f"The column {column!r} of {data.source.name} holds {kind}, not numbers.",
                expected="a column of numbers, higher for better known",
                try_next="--by NAME, with such a column",
            )
        return column
    if by is None and not any(name.startswith(SCORE_PREFIX) for name in names):
        return None
    return score_column(data.table, by, data.source.name)


def count_leakage(arms: Sequence[Arm], test: TestSet) -> dict[str, dict[str, int]]:
    """For each arm, how many test examples share their question, and how many their subject, with its training set.

    Capitals and white space make no difference.
    """
    counts = {}
    for arm in arms:
        questions = {_folded(e.question) for e in arm.examples}
        subjects = {_folded(e.subject) for e in arm.examples if e.subject}
        counts[arm.name] = {
            "question": sum(_folded(e.question) in questions for e in test.examples),
            "subject": sum(_folded(e.subject) in subjects for e in test.examples if e.subject),
        }
    return counts


def _folded(text: str) -> str:
    """Capitals and white space aside."""
    return " ".join(text.casefold().split())
