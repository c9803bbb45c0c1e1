"""What an estimator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

import curate.settings
from curate.errors import EstimatorError, setting
from curate.records import Example, Score

FAILED = "failed"
"""The status of a row that an estimator fails on."""

Report = Callable[[float, int], None]
"""Called with the share of the work that is done, from 0 to 1, and the tokens read since the last call."""


class Estimator(ABC):
    """Something that tells how well known each example is: a higher score always means better known.

    A new one is a class in a file of its own and a line in `ESTIMATORS`; its options come with its `Settings`. It must
    have a `name`, `fingerprint` and `score`; everything else is there if it needs it.
    """

    usage: ClassVar[str]
    """What is typed after --by: `loss`, `column:NAME`."""

    Settings: ClassVar[type[curate.settings.Settings]] = curate.settings.Settings
    """Its own options, with their help."""

    name: str
    """Becomes the column `score_<name>` and the prefix of the evidence columns."""

    columns: Sequence[str] = ()
    """Input columns whose values it wants to find in `Example.extra`."""

    evidence: Mapping[str, str] = {}
    """Evidence fields and their Arrow types (`float64`, `int64`, `string`); each is a column `<name>_<field>`."""

    resumable = True
    """Whether finished chunks are kept for a run that is started again: not where they cost nothing."""

    report: Report = staticmethod(lambda share, tokens: None)
    """To be called while `score` works, where that takes long."""

    @classmethod
    @abstractmethod
    def make(cls, argument: str, settings: Any, columns: Sequence[str]) -> Estimator:
        """From what stands behind the colon of `usage`, its Settings, and the names of the input columns.

        Quick: no model is loaded, nobody asked. EstimatorError where something is missing.
        """

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change the numbers; goes into the manifest, and into the key of every chunk that is kept."""

    @abstractmethod
    def score(self, examples: Sequence[Example]) -> Iterable[Score]:
        """One Score an example, in the same order."""

    def prepare(self, examples: Iterable[Example]) -> None:  # noqa: B027 most need none
        """Told of all examples before the first chunk is scored; they pass by once."""

    def score_table(self, table: pa.Table) -> list[pa.Array] | None:
        """The scores of a batch as Arrow arrays (value, evidence, status), where its `columns` alone tell them so."""
        return None

    def cost(self, chunks: Iterable[Sequence[Example]]) -> tuple[dict[str, Any], str] | None:
        """What scoring so many examples would cost, for a dry run: as values and as a line; None if nothing."""
        return None


class ModelEstimator(Estimator):
    """An estimator with a model, which may be at work in several processes, a device each.

    Its `settings` have a `device` and a number of `processes`. It can be pickled before its model is loaded, which is
    when `fingerprint` or `score` first wants it.
    """

    settings: Any

    @abstractmethod
    def on(self, device: str) -> ModelEstimator:
        """The same on another device, and in any folder, its model not loaded."""


def measured_nothing(statuses: Mapping[str, Mapping[str, int]]) -> EstimatorError:
    """The error for a run in which no estimator could score any row."""
    counts = [f"{status} {n} ({name})" for name, found in statuses.items() for status, n in found.items() if n]
    return EstimatorError(
        f"No example could be scored: {', '.join(counts)}. Nothing is written.",
        expected="at least one example that can be scored",
        try_next=f"{setting('max_missing', 0)}, to write the file with the reasons all the same",
    )
