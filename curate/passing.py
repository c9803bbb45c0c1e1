"""One pass over a dataset that gives every batch of rows its ids, scores and evidence."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.chunks import CHUNK, Chunks, Progress, score_in_chunks
from curate.datasets.batch_ids import check_key_column, content_hashes, number_ids
from curate.datasets.columns import listed, nearest
from curate.datasets.fields import columns_read, values_of
from curate.datasets.ids import ID_COLUMN, hex_ids
from curate.datasets.read import QATable, check_answers
from curate.datasets.repeats import Repeats
from curate.datasets.rows import ScoredRows
from curate.datasets.sources import Source
from curate.datasets.stream import read_ahead
from curate.errors import ColumnError, EstimatorError
from curate.estimators.base import ColumnwiseEstimator, EagerEstimator, Estimator, PreparedEstimator
from curate.records import OK, Example, Score
from curate.sharding import Shard

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Work = Callable[[int], "list[pa.Array]"]
"""The columns of a batch by one estimator, once they are asked for; called with the rows before the batch."""

BATCH = 96 * CHUNK
"""Rows that are in memory at once; whole chunks, so that they do not depend on how the source is stored."""


class ScoringPass:
    """The rows of a dataset with scores, a batch at a time, and what can be said of them after the last one."""

    def __init__(
        self,
        data: ScoredRows,
        estimators: Sequence[Estimator],
        parts: Path | None = None,
        progress: Progress | None = None,
        shard: Shard | None = None,
    ) -> None:
        if not estimators:
            raise EstimatorError("No estimator was named.", try_next="--by column:NAME or --by loss --model MODEL")
        check_names(data, estimators)
        _check_answers(data)
        _check_ids(data)
        self.data = data
        self.estimators = estimators
        self.rows = range(len(data)) if shard is None else shard.stretch(len(data))
        self.unmeasured = 0
        self.statuses: dict[str, Counter[str]] = {e.name: Counter({OK: 0}) for e in estimators}
        self._measured: Counter[str] = Counter()
        self._parts = parts
        self._progress = progress
        self._repeats = Repeats(len(data))

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the input, then those that scoring adds."""
        import pyarrow as pa

        schema = self.data.schema
        if ID_COLUMN not in schema.names:
            schema = schema.append(pa.field(ID_COLUMN, pa.string()))
        for estimator in self.estimators:
            for name, arrow_type in _new_columns(estimator).items():
                schema = schema.append(pa.field(name, pa.type_for_alias(arrow_type)))
        return schema

    def batches(self) -> Iterator[pa.Table]:
        """All rows in order, with `schema`."""
        for estimator in self.estimators:
            if isinstance(estimator, PreparedEstimator):
                estimator.prepare(self._all_examples(estimator))
        self._note_what_comes_before()
        done = 0
        for batch, columns in self._begun_batches():
            yield self._scored(batch, columns, done)
            done += batch.num_rows

    @property
    def measured_nothing(self) -> bool:
        """After the last batch: whether no estimator could score any row."""
        return not any(self._measured.values())

    def _note_what_comes_before(self) -> None:
        """See which contents the rows before a shard have, so that its ids are those it has in the whole dataset."""
        if self.rows.start and self._makes_ids:
            names = columns_read(self.data.roles.fields(), self.data.schema.names)
            for batch in self.data.store.batches(names, range(self.rows.start)):
                self._repeats.add(self._content_hashes(batch))

    @property
    def _makes_ids(self) -> bool:
        return ID_COLUMN not in self.data.schema.names and self.data.roles.id is None

    def _content_hashes(self, batch: pa.Table) -> NDArray[np.uint64]:
        return content_hashes(batch, self.data.roles, lambda: list(self.data.examples(batch)))

    def _begun_batches(self) -> Iterator[tuple[pa.Table, list[Work]]]:
        """Batches and the work on each, begun so far ahead that estimators that work elsewhere have enough to do."""
        ahead = max((e.ahead for e in self.estimators if isinstance(e, EagerEstimator)), default=0)
        begun: deque[tuple[pa.Table, list[Work]]] = deque()
        batches = map(self._with_ids, even_batches(self.data.store.batches(rows=self.rows), BATCH))
        for number, batch in enumerate(read_ahead(batches)):
            begun.append((batch, [self._begin(estimator, batch, number == 0) for estimator in self.estimators]))
            if len(begun) > -(-ahead * CHUNK // BATCH):
                yield begun.popleft()
        yield from begun

    def _scored(self, batch: pa.Table, work: Sequence[Work], before: int) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        arrays = list(batch.columns)
        without = []
        for estimator, finish in zip(self.estimators, work, strict=True):
            columns = finish(before)
            for counted in pc.value_counts(columns[-1]).to_pylist():
                self.statuses[estimator.name][counted["values"]] += counted["counts"]
            self._measured[estimator.name] += batch.num_rows - columns[0].null_count
            without.append(pc.is_null(columns[0]))
            arrays += columns
        self.unmeasured += pc.sum(reduce(pc.or_, without)).as_py()
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _with_ids(self, batch: pa.Table) -> pa.Table:
        """The next batch with its ids, which are made ahead of the scores."""
        return batch if ID_COLUMN in batch.column_names else batch.append_column(ID_COLUMN, self._ids(batch))

    def _ids(self, batch: pa.Table) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        key = self.data.roles.id
        if key is not None:
            keys = values_of(batch, key)
            if pa.types.is_string(keys.type) or pa.types.is_integer(keys.type):
                return pc.cast(keys, pa.string())
            return pa.array([str(value) for value in keys.to_pylist()], pa.string())
        hashes = self._content_hashes(batch)
        return number_ids(hex_ids(hashes), *self._repeats.add(hashes))

    def _begin(self, estimator: Estimator, batch: pa.Table, first: bool) -> Work:
        if not isinstance(estimator, EagerEstimator):
            return lambda before: self._columns(estimator, batch, before)
        chunks = Chunks(estimator, list(self.data.examples(batch, extra=estimator.columns)), self._parts, first)
        return lambda before: _arrays(estimator, chunks.scores(self._progress, before, len(self.rows)))

    def _columns(self, estimator: Estimator, batch: pa.Table, before: int) -> list[pa.Array]:
        """Score, evidence and status of a batch, in the order of `_new_columns`."""
        if isinstance(estimator, ColumnwiseEstimator):
            found = estimator.score_column(batch[estimator.columns[0]])
            if found is not None:
                if self._progress:
                    self._progress(estimator.name, before + batch.num_rows, len(self.rows))
                return list(found)
        examples = list(self.data.examples(batch, extra=estimator.columns))
        scores = score_in_chunks(estimator, examples, self._parts, self._progress, before, len(self.rows))
        return _arrays(estimator, scores)

    def _all_examples(self, estimator: Estimator) -> Iterator[Example]:
        names = columns_read([*self.data.roles.fields(), *estimator.columns], self.data.schema.names)
        for batch in self.data.store.batches(names, self.rows):
            yield from self.data.examples(batch, extra=estimator.columns)


def even_batches(batches: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in batches of exactly so many; the last one may have fewer."""
    import pyarrow as pa

    waiting: pa.Table | None = None
    for batch in batches:
        waiting = batch if waiting is None else pa.concat_tables([waiting, batch])
        while waiting.num_rows >= rows:
            yield waiting.slice(0, rows).combine_chunks()
            waiting = waiting.slice(rows)
    if waiting is not None and waiting.num_rows:
        yield waiting.combine_chunks()


def _arrays(estimator: Estimator, scores: Sequence[Score]) -> list[pa.Array]:
    """Score, evidence and status, in the order of `_new_columns`."""
    import pyarrow as pa

    values: list[list[Any]] = [[s.value for s in scores]]
    values += [[s.evidence.get(name) for s in scores] for name in estimator.evidence]
    values += [[s.status for s in scores]]
    types = map(pa.type_for_alias, _new_columns(estimator).values())
    return [pa.array(column, type_) for column, type_ in zip(values, types, strict=True)]


def _new_columns(estimator: Estimator) -> dict[str, str]:
    """The columns that an estimator adds, with their Arrow types."""
    evidence = {f"{estimator.name}_{field}": arrow_type for field, arrow_type in estimator.evidence.items()}
    return {f"score_{estimator.name}": "float64", **evidence, f"{estimator.name}_status": "string"}


def check_names(data: ScoredRows, estimators: Sequence[Estimator]) -> None:
    """Raise unless every estimator has a name of its own, finds its columns, and may add those that it makes."""
    names = [estimator.name for estimator in estimators]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise EstimatorError(f"Two estimators are named {repeated!r}.", expected="each --by once")
    for estimator in estimators:
        taken = [name for name in _new_columns(estimator) if name in data.schema.names]
        if taken:
            raise ColumnError(
                f"{data.name} already has a column {taken[0]!r}.",
                expected=f"no column of that name, since the scores of {estimator.name!r} go there",
                try_next="score the original file, or rename that column",
            )
        for name in estimator.columns:
            if name not in data.schema.names:
                raise ColumnError(
                    f"{data.name} has no column {name!r}.",
                    expected=f"one of its columns: {listed(data.schema.names)}",
                    try_next=f"the column {nearest(name, data.schema.names)}",
                )


def _check_answers(data: ScoredRows) -> None:
    answers = data.roles.answers
    check_answers(data.store.batches(columns_read([answers], data.schema.names)), answers, data.name)


def _check_ids(data: ScoredRows) -> None:
    """ColumnError if the ids that the data brings cannot be used."""
    if data.roles.id is not None:
        check_key_column(data.column(data.roles.id), data.roles.id, data.name)
    elif ID_COLUMN in data.schema.names:
        if data.manifest:
            check_key_column(data.column(ID_COLUMN), ID_COLUMN, data.name)
        else:
            table = data.table_of([*data.roles.fields(), ID_COLUMN])
            _ = QATable(Source(table, data.name, "", data.restore), data.roles).ids
