"""The protocol every estimator follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

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

    def prepare(self, examples: Sequence[Example]) -> None:
        """Told of all examples before the first chunk is scored."""
