"""A chunk that makes an estimator fail is scored in halves, and these again, until the rows at fault stand alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from curate.errors import CurateError
from curate.records import Example, Score

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
