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


def scores_apart(score: ScoreThem, examples: Sequence[Example]) -> list[Score]:
    """One score an example; what cannot be scored even alone has the status `failed`.

    A CurateError is something that the user can fix, and goes through. So does any other error if more rows than
    MOST_FAILED fail, or all of them.
    """
    try:
        return list(score(examples))
    except CurateError:
        raise
    except Exception:
        scores: list[Score] = []
        for half in halves(examples):
            scores += _half_scores(score, half, MOST_FAILED - count_failed(scores))
        if count_failed(scores) == len(scores):
            raise
        return scores


def _half_scores(score: ScoreThem, examples: Sequence[Example], allowed: int) -> list[Score]:
    """The same for a part of a chunk, of which all rows may fail if they are no more than `allowed`."""
    try:
        return list(score(examples))
    except CurateError:
        raise
    except Exception:
        if allowed < 1:
            raise
        if len(examples) == 1:
            return [Score(None, FAILED)]
        scores: list[Score] = []
        for half in halves(examples):
            scores += _half_scores(score, half, allowed - count_failed(scores))
        return scores


def halves(examples: Sequence[Example]) -> list[Sequence[Example]]:
    """The first half and the other, which has one more if the number is odd; one example has no halves but itself."""
    middle = len(examples) // 2
    return [part for part in (examples[:middle], examples[middle:]) if part]


def count_failed(scores: Iterable[Score]) -> int:
    """How many rows an estimator failed on."""
    return sum(score.status == FAILED for score in scores)
