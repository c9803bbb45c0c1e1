"""What an estimator is; a chunk that makes one fail is scored in halves until the rows at fault stand alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from curate.errors import CurateError
from curate.records import Example, Score


class Estimator(Protocol):
    """Something that tells how well known each example is.

    The direction is settled here and nowhere else: a higher value always means better known.
    """

    name: str
    """Becomes the column `score_<name>` and the prefix of the evidence columns."""

    columns: Sequence[str]
    """Input columns whose values the estimator wants to find in `Example.extra`."""

    evidence: Mapping[str, str]
    """Evidence fields and their Arrow types (`float64`, `int64`, `string`); each is a column `<name>_<field>`."""

    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change the numbers; goes into the manifest and keys resumable work."""

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        """One Score an example, in the same order."""


@runtime_checkable
class PreparedEstimator(Protocol):
    """An estimator that keeps what it learned by itself, so that finished chunks need not be kept for it."""

    def prepare(self, examples: Iterable[Example]) -> None:
        """Told of all examples before the first chunk is scored; they pass by once."""


@runtime_checkable
class ColumnwiseEstimator(Protocol):
    """An estimator that can score a whole column of numbers at once."""

    def score_column(self, column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array] | None:
        """Values (float64) and statuses, the ones that `score` gives; None where only `score` can tell."""


@runtime_checkable
class EagerEstimator(Protocol):
    """An estimator that works elsewhere, on several chunks at a time."""

    ahead: int
    """Chunks to begin before the first one's scores are asked for."""

    def begin(self, examples: Sequence[Example], allowed: int) -> Callable[[], list[Score]]:
        """Begin on a chunk of which so many rows may fail; what is given waits for its scores, one an example."""


Report = Callable[[float, int], None]
"""Called with the share of the work that is done, from 0 to 1, and the tokens read since the last call."""


@runtime_checkable
class ReportingEstimator(Protocol):
    """An estimator that tells how far it is while it scores; whoever wants to know sets `report`."""

    report: Report


FAILED = "failed"
"""The status of a row that an estimator fails on."""
MOST_FAILED = 16
"""More such rows in one chunk are not a matter of rows: something is wrong with the run."""

ScoreThem = Callable[[Sequence[Example]], Iterable[Score]]


def may_fail(rows: int, first: bool) -> int:
    """How many rows of a chunk may fail: MOST_FAILED, but not all of the first chunk of a run."""
    return min(MOST_FAILED, rows - 1 if first else rows)


def scores_apart(score: ScoreThem, examples: Sequence[Example], allowed: int) -> list[Score]:
    """One score an example; what cannot be scored even alone has the status `failed`.

    A CurateError is something that the user can fix, and goes through. So does any other error if more than
    `allowed` rows fail.
    """
    try:
        return list(score(examples))
    except CurateError:
        raise
    except Exception:
        if allowed < 1:
            raise
        if len(examples) == 1:
            return [Score(None, FAILED)]
        middle = len(examples) // 2
        scores = scores_apart(score, examples[:middle], allowed)
        return scores + scores_apart(score, examples[middle:], allowed - count_failed(scores))


def count_failed(scores: Iterable[Score]) -> int:
    """How many rows an estimator failed on."""
    return sum(score.status == FAILED for score in scores)
