"""Chunks on their way through a pool of workers: what is left of them to do, and who is to blame when workers die."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from curate.errors import EngineError
from curate.isolating import FAILED
from curate.records import Example, Score

MOST_DEATHS = 5
"""Workers that may die over a chunk before it is taken for the cause and cut in halves."""


@dataclass(eq=False)
class Chunk:
    """A chunk, how many of its rows may fail, and its scores, which may come in parts."""

    examples: Sequence[Example]
    allowed: int
    future: Future[list[Score]] = field(default_factory=Future)
    failed: int = 0

    def __post_init__(self) -> None:
        self._scores: list[Score | None] = [None] * len(self.examples)
        self._left = len(self.examples)

    def put(self, start: int, scores: Sequence[Score]) -> None:
        """Take the scores of some rows; the last ones complete the chunk."""
        self._scores[start : start + len(scores)] = scores
        self._left -= len(scores)
        if not self._left:
            self.future.set_result([score for score in self._scores if score is not None])


@dataclass(eq=False)
class Task:
    """Rows of a chunk that a worker is given at once: all of them, unless workers died over them."""

    chunk: Chunk
    start: int
    stop: int
    deaths: int = 0

    @property
    def examples(self) -> Sequence[Example]:
        """The rows."""
        return self.chunk.examples[self.start : self.stop]

    def done(self, scores: Sequence[Score]) -> None:
        """Hand in the scores of all rows."""
        self.chunk.put(self.start, scores)

    def after_death(self) -> list[Task]:
        """What is to be tried now that a worker died over these rows: the same, halves, or nothing for a single row.

        A single row gets the status `failed`. Raises EngineError when that happens to too many rows of a chunk.
        """
        self.deaths += 1
        if self.deaths < MOST_DEATHS:
            return [self]
        if self.stop - self.start > 1:
            middle = (self.start + self.stop) // 2
            return [Task(self.chunk, *part, MOST_DEATHS - 1) for part in ((self.start, middle), (middle, self.stop))]
        self.chunk.failed += 1
        if self.chunk.failed > self.chunk.allowed:
            raise EngineError(
                f"Workers die over {self.chunk.failed} rows of one chunk: it is not the rows.",
                expected="workers that stay alive",
                try_next="look into the logs of Ray; with more memory a worker, or --dtype bfloat16, it may fit",
            )
        self.done([Score(None, FAILED)])
        return []
