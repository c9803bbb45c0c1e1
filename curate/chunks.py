"""Asking an estimator chunk by chunk; finished chunks are kept on the disk, from where a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from curate import __version__
from curate.datasets.write import whole_file
from curate.estimators.base import EagerEstimator, Estimator, PreparedEstimator, ReportingEstimator
from curate.isolating import count_failed, may_fail, scores_apart
from curate.records import Example, Score

CHUNK = 1024
"""Examples that an estimator is given at once.

The unit of everything that may be done elsewhere or later: a stopped run resumes after a chunk, a shard is a stretch
of chunks, a worker scores a chunk. A number may depend on the other rows of its chunk in its last bits, and on
nothing else. Smaller ones share fewer beginnings: PopQA reads 1.6% more tokens than with 2,048.
"""


class Progress(Protocol):
    """Called with estimator name, examples done and in all, and tokens read since the last call.

    The first call tells where this run begins: at 0, or after the examples that an earlier run had scored.
    """

    def __call__(self, name: str, done: float, total: int, tokens: int = 0) -> None: ...


def parts_beside(output: Path | None) -> Path | None:
    """The folder where an unfinished run keeps what it has: `.scored.parquet.parts`."""
    return None if output is None else output.with_name(f".{output.name}.parts")


def score_in_chunks(
    estimator: Estimator,
    examples: Sequence[Example],
    parts: Path | None = None,
    progress: Progress | None = None,
    before: int = 0,
    total: int | None = None,
) -> list[Score]:
    """One score an example; `before` of `total` examples were scored earlier, which only the progress needs."""
    return Chunks(estimator, examples, parts, before == 0).scores(progress, before, total)


class Chunks:
    """Some examples in chunks, begun at once by an estimator that works elsewhere, else one after the other.

    `first`: whether the first of them is the first of the run; if all of its rows fail, so would the others.
    """

    def __init__(
        self, estimator: Estimator, examples: Sequence[Example], parts: Path | None = None, first: bool = True
    ) -> None:
        self.estimator = estimator
        self.rows = len(examples)
        self.parts = None if isinstance(estimator, PreparedEstimator) or estimator.columns else parts
        starts = range(0, len(examples), CHUNK)
        self._chunks = [self._begun(examples[start : start + CHUNK], first and start == 0) for start in starts]

    def scores(self, progress: Progress | None = None, before: int = 0, total: int | None = None) -> list[Score]:
        """One score an example, in order."""
        total = self.rows if total is None else total
        scores: list[Score] = []
        for chunk in self._chunks:
            if chunk.kept is None and progress:
                _announce(self.estimator, progress, before + len(scores), len(chunk.examples), total)
            scores.extend(self._finished(chunk) if chunk.kept is None else chunk.kept)
        if progress:
            progress(self.estimator.name, before + self.rows, total)
        return scores

    def _begun(self, examples: Sequence[Example], first: bool) -> _Chunk:
        part = None if self.parts is None else self.parts / f"{chunk_key(self.estimator, examples)}.json"
        kept = _kept(part)
        allowed = may_fail(len(examples), first)
        if kept is None and isinstance(self.estimator, EagerEstimator):
            return _Chunk(examples, part, None, self.estimator.begin(examples, allowed))
        return _Chunk(examples, part, kept, lambda: scores_apart(self.estimator.score, examples, allowed))

    def _finished(self, chunk: _Chunk) -> list[Score]:
        """The chunk's scores, kept for a run that goes on later; a row that failed then gets another chance."""
        scores = chunk.work()
        assert len(scores) == len(chunk.examples), "one score per example"
        if chunk.part is not None and not count_failed(scores):
            with whole_file(chunk.part) as temporary:
                temporary.write_text(json.dumps([[s.value, s.status, dict(s.evidence)] for s in scores]))
        return scores


@dataclass(frozen=True)
class _Chunk:
    """A chunk, the file for its scores, those that an earlier run left there, and else the work that gives them."""

    examples: Sequence[Example]
    part: Path | None
    kept: list[Score] | None
    work: Callable[[], list[Score]]


def _announce(estimator: Estimator, progress: Progress, before: int, rows: int, total: int) -> None:
    """Tell where a chunk begins, and have the estimator tell how far it is within it if it can."""
    progress(estimator.name, before, total)
    if isinstance(estimator, ReportingEstimator):
        estimator.report = lambda share, tokens: progress(estimator.name, before + share * rows, total, tokens)


def _kept(part: Path | None) -> list[Score] | None:
    """A chunk's scores as an earlier run left them, made where everything that matters was the same."""
    if part is None or not part.is_file():
        return None
    return [Score(*fields) for fields in json.loads(part.read_text())]


def chunk_key(estimator: Estimator, chunk: Sequence[Example]) -> str:
    """The same only for the same numbers: of curate's version, the estimator's settings, and all of the examples."""
    made_by = [__version__, estimator.fingerprint()]
    digest = hashlib.sha256(json.dumps(made_by, sort_keys=True, default=str).encode())
    for example in chunk:
        digest.update(repr(_content(example)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _content(example: Example) -> tuple[Any, ...]:
    """All of an example that an estimator may use; a template may name its subject and relation."""
    return example.question, example.answers, example.choices, example.subject, example.relation
