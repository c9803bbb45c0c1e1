"""Score: read a dataset, ask every estimator, write one file. A batch of rows is in memory at a time; resumable."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from curate import __version__
from curate.data.columns import column_list, columns_read, nearest, values_of
from curate.data.files import (
    ParquetStream,
    check_not_input,
    check_writable,
    manifest_path,
    plain,
    whole_file,
    with_manifest,
    write_json,
)
from curate.data.ids import ID_COLUMN, key_texts
from curate.data.layouts import default_template
from curate.data.sources import is_ray_dataset
from curate.data.stores import read_ahead
from curate.data.table import IdNumbers, QATable, make_manifest, read
from curate.engines import estimators_of
from curate.errors import ColumnError, EstimatorError, SettingError
from curate.estimators.base import (
    ColumnwiseEstimator,
    EagerEstimator,
    Estimator,
    PreparedEstimator,
    ReportingEstimator,
    count_failed,
    may_fail,
    scores_apart,
)
from curate.estimators.registry import EstimatorOptions, check_spec
from curate.records import OK, Example, Score
from curate.settings import EngineSettings, ReadSettings
from curate.wikipedia.options import PageviewSettings

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


_OWN = ("shard", "statuses")
"""What differs between the manifests of the shards of one run."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` of `count`, the first being 1.

    A shard is a stretch of whole chunks, so that the model sees the rows in the same company as in a run without
    shards, and gives the same numbers to the last bit.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise SettingError(
                f"There is no shard {self.number} of {self.count}.",
                expected="--shard I/N, with I from 1 to N",
                try_next=f"--shard 1/{max(1, self.count)}",
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def file_name(self) -> str:
        """`shard-03-of-64.parquet`: the numbers as wide as the count, so that names sort as numbers do."""
        return f"shard-{self.number:0{len(str(self.count))}}-of-{self.count}.parquet"

    def stretch(self, rows: int) -> range:
        """Its rows of a dataset of so many; the shards differ by at most one chunk, and some may be empty."""
        chunks = -(-rows // CHUNK)
        start, stop = (n * chunks // self.count * CHUNK for n in (self.number - 1, self.number))
        return range(min(start, rows), min(stop, rows))


def find_shard(shard: str | tuple[int, int] | Shard | None) -> Shard | None:
    """The shard that `"3/8"` or `(3, 8)` names; SettingError for anything else."""
    if shard is None or isinstance(shard, Shard):
        return shard
    if isinstance(shard, str):
        match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
        if match is None:
            raise SettingError(f"--shard {shard} is not a shard.", expected="--shard I/N", try_next="--shard 1/8")
        return Shard(int(match[1]), int(match[2]))
    return Shard(*shard)


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """The same only for shards of one run: of versions, input, columns, and estimators with all their settings."""
    content = json.dumps(plain(shared_part(manifest)), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def shared_part(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifests of the shards of one run have in common."""
    return {name: value for name, value in manifest.items() if name not in _OWN}


Work = Callable[[int], "list[pa.Array]"]
"""The columns of a batch by one estimator, once they are asked for; called with the rows before the batch."""

BATCH = 96 * CHUNK
"""Rows that are in memory at once; whole chunks, so that they do not depend on how the source is stored."""


class ScoringPass:
    """The rows of a dataset with scores, a batch at a time, and what can be said of them after the last one."""

    def __init__(
        self,
        data: QATable,
        estimators: Sequence[Estimator],
        parts: Path | None = None,
        progress: Progress | None = None,
        shard: Shard | None = None,
    ) -> None:
        if not estimators:
            raise EstimatorError("No estimator was named.", try_next="--by column:NAME or --by loss --model MODEL")
        check_names(data, estimators)
        data.check_answers()
        data.check_ids()
        self.data = data
        self.estimators = estimators
        self.rows = range(len(data)) if shard is None else shard.stretch(len(data))
        self.unmeasured = 0
        self.statuses: dict[str, Counter[str]] = {e.name: Counter({OK: 0}) for e in estimators}
        self._measured: Counter[str] = Counter()
        self._parts = parts
        self._progress = progress

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the input, then those that scoring adds."""

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
        done = 0
        for batch, columns in self._begun_batches():
            yield self._scored(batch, columns, done)
            done += batch.num_rows

    @property
    def measured_nothing(self) -> bool:
        """After the last batch: whether no estimator could score any row."""
        return not any(self._measured.values())

    def _begun_batches(self) -> Iterator[tuple[pa.Table, list[Work]]]:
        """Batches and the work on each, begun so far ahead that estimators that work elsewhere have enough to do."""
        ahead = max((e.ahead for e in self.estimators if isinstance(e, EagerEstimator)), default=0)
        begun: deque[tuple[pa.Table, list[Work]]] = deque()
        batches = self._with_ids(even_batches(self.data.batches(rows=self.rows), BATCH))
        for number, batch in enumerate(read_ahead(batches)):
            begun.append((batch, [self._begin(estimator, batch, number == 0) for estimator in self.estimators]))
            if len(begun) > -(-ahead * CHUNK // BATCH):
                yield begun.popleft()
        yield from begun

    def _scored(self, batch: pa.Table, work: Sequence[Work], before: int) -> pa.Table:
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

    def _with_ids(self, batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The batches with their ids, which in a shard are those of the whole dataset."""
        key = self.data.roles.id
        if ID_COLUMN in self.data.schema.names:
            yield from batches
        elif key is not None:
            yield from (batch.append_column(ID_COLUMN, key_texts(values_of(batch, key))) for batch in batches)
        else:
            made = IdNumbers(self.data, before=self.rows.start)
            yield from (batch.append_column(ID_COLUMN, made.of(batch)) for batch in batches)

    def _begin(self, estimator: Estimator, batch: pa.Table, first: bool) -> Work:
        if not isinstance(estimator, EagerEstimator):
            return lambda before: self._columns(estimator, batch, before)
        chunks = Chunks(estimator, list(self.data.examples_of(batch, extra=estimator.columns)), self._parts, first)
        return lambda before: _arrays(estimator, chunks.scores(self._progress, before, len(self.rows)))

    def _columns(self, estimator: Estimator, batch: pa.Table, before: int) -> list[pa.Array]:
        """Score, evidence and status of a batch, in the order of `_new_columns`."""
        if isinstance(estimator, ColumnwiseEstimator):
            found = estimator.score_column(batch[estimator.columns[0]])
            if found is not None:
                if self._progress:
                    self._progress(estimator.name, before + batch.num_rows, len(self.rows))
                return list(found)
        examples = list(self.data.examples_of(batch, extra=estimator.columns))
        scores = score_in_chunks(estimator, examples, self._parts, self._progress, before, len(self.rows))
        return _arrays(estimator, scores)

    def _all_examples(self, estimator: Estimator) -> Iterator[Example]:
        names = columns_read([*self.data.roles.fields(), *estimator.columns], self.data.schema.names)
        for batch in self.data.batches(names, self.rows):
            yield from self.data.examples_of(batch, extra=estimator.columns)


def even_batches(batches: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in batches of exactly so many; the last one may have fewer."""

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

    values: list[list[Any]] = [[s.value for s in scores]]
    values += [[s.evidence.get(name) for s in scores] for name in estimator.evidence]
    values += [[s.status for s in scores]]
    types = map(pa.type_for_alias, _new_columns(estimator).values())
    return [pa.array(column, type_) for column, type_ in zip(values, types, strict=True)]


def _new_columns(estimator: Estimator) -> dict[str, str]:
    """The columns that an estimator adds, with their Arrow types."""
    evidence = {f"{estimator.name}_{field}": arrow_type for field, arrow_type in estimator.evidence.items()}
    return {f"score_{estimator.name}": "float64", **evidence, f"{estimator.name}_status": "string"}


def check_names(data: QATable, estimators: Sequence[Estimator]) -> None:
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
                    expected=f"one of its columns: {column_list(data.schema.names)}",
                    try_next=f"the column {nearest(name, data.schema.names)}",
                )


READING = frozenset(ReadSettings.names())
"""The settings that say how the data is read."""


@dataclass(frozen=True)
class ScoringJob:
    """A dataset that is open, the estimators that were named, and where they work."""

    rows: QATable
    specs: Sequence[str]
    options: EstimatorOptions
    engine: EngineSettings
    shard: Shard | None

    def estimators(self) -> AbstractContextManager[list[Estimator]]:
        """The estimators, their models loaded; workers end with the `with`."""
        return estimators_of(self.specs, self.options, self.engine)


def prepare(
    data: Any, by: str | Sequence[str], output: Path | None, shard: Shard | None, settings: Mapping[str, Any]
) -> ScoringJob:
    """The job that the arguments of `curate.score` (or the options of `curate score`) ask for.

    Of `settings` those are taken that say how to read, estimate and run; None is the default. Raises what
    `curate.score` raises.
    """
    specs = [by] if isinstance(by, str) else list(by or ())
    for spec in specs:
        check_spec(spec)
    engine = _made_of(EngineSettings, settings, engine=settings.get("engine") or _engine_for(data))
    if output is not None:
        check_not_input(data, output)
        check_writable(output, frozenset({".parquet"}))
    rows = read(data, **{name: settings[name] for name in READING & settings.keys()})
    options = _made_of(
        EstimatorOptions,
        settings,
        template=settings.get("template") or default_template(rows.roles),
        pageviews=PageviewSettings.of(settings),
        input_columns=tuple(rows.schema.names),
    )
    return ScoringJob(rows, specs, options, engine, shard)


def _engine_for(data: Any) -> str:
    return "ray" if is_ray_dataset(data) else "local"


def _made_of(kind: type[Any], settings: Mapping[str, Any], **decided: Any) -> Any:
    """A dataclass of options whose fields are those settings that have its names."""
    given = {f.name: settings[f.name] for f in fields(kind) if settings.get(f.name) is not None}
    return kind(**{**given, **decided})


@dataclass(frozen=True)
class Scored:
    """The outcome of scoring a dataset: its manifest, rows, and those that at least one estimator could not score."""

    data: QATable
    manifest: dict[str, Any]
    rows: int
    unmeasured: int

    @property
    def statuses(self) -> dict[str, dict[str, int]]:
        """For each estimator, how many rows have each status."""
        result: dict[str, dict[str, int]] = self.manifest["statuses"]
        return result


def score(
    data: Any,
    by: str | Sequence[str],
    *,
    model: Any = None,
    reduction: str = "token-mean",
    dtype: str = "float32",
    device: str = "auto",
    processes: int | None = None,
    revision: str | None = None,
    template: str | None = None,
    answers: str = "first",
    shots: int = 0,
    shots_from: Any = None,
    allow_pickle: bool = False,
    shard: str | tuple[int, int] | None = None,
    engine: str | None = None,
    ray_address: str | None = None,
    workers: str | int | None = None,
    cpus: int = 1,
    output: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Any:
    """Give every example a score per estimator; the Python twin of `curate score`.

    `data` is a path, a Hub id, a `datasets.Dataset`, a pandas or polars DataFrame, a pyarrow Table, a list of dicts
    or a `ray.data.Dataset`; `by` is one estimator or several (`"pageviews"`, `"loss"`, `"column:NAME"`). Returns the
    same kind of thing with `curate_id`, `score_<name>` and evidence columns added (a path gives a pyarrow Table);
    with `output`, writes Parquet and a manifest there and returns its path. `shard=(3, 8)` scores the third of eight
    parts; `curate.merge` puts the files of all of them together. `engine="ray"`, the default for a
    `ray.data.Dataset`, has the model on every worker of a cluster (docs/scaling.md). `settings` are the column
    arguments of `curate.read` and, for pageviews, the options of the command line by the same words
    (`views_from="api"`, `window="2021-10"`).
    `progress` is called with estimator, rows done and rows in all.

    Raises EstimatorError for an estimator that is unknown or lacks something (`loss` needs `model`), and DataError or
    ColumnError for data that cannot be read. A row that cannot be scored is no error: its score is null, its status
    says why.

    Examples:
        >>> rows = [{"question": "Who wrote Emma?", "answer": "Jane Austen", "views": 90}]
        >>> score(rows, by="column:views")[0]["score_views"]
        90.0
    """
    asked = {**locals(), **settings}
    unknown = settings.keys() - READING - {*PageviewSettings.names()}
    if unknown:
        raise TypeError(f"score() got an unexpected keyword argument {min(unknown)!r}")
    target = None if output is None else Path(output)
    job = prepare(data, by, target, find_shard(shard), asked)
    with job.estimators() as estimators:
        if target is None:
            return job.rows.restore(score_table(job.rows, estimators, progress=progress, shard=job.shard))
        score_file(job.rows, estimators, target, progress, shard=job.shard)
    return target


def score_table(
    data: QATable,
    estimators: Sequence[Estimator],
    parts: Path | None = None,
    progress: Progress | None = None,
    shard: Shard | None = None,
) -> pa.Table:
    """The rows with their scores as one table in memory, its manifest in the schema."""

    going = ScoringPass(data, estimators, parts, progress, shard)
    table = pa.Table.from_batches([b for t in going.batches() for b in t.to_batches()], going.schema)
    return with_manifest(table, _manifest(going, shard))


def score_file(
    data: QATable,
    estimators: Sequence[Estimator],
    output: Path,
    progress: Progress | None = None,
    or_nothing: bool = False,
    shard: Shard | None = None,
) -> Scored:
    """Write the rows with their scores as Parquet, the manifest beside it; finished chunks are kept meanwhile.

    With `or_nothing`, raises EstimatorError and writes nothing when no estimator could score any row; of a shard
    only `merge_files` can tell.
    """
    parts = parts_beside(output)
    going = ScoringPass(data, estimators, parts, progress, shard)
    with data.hashing(), whole_file(output) as temporary:
        stream = ParquetStream(temporary, going.schema)
        _write_behind(stream, going.batches())
        if or_nothing and shard is None and going.measured_nothing:
            raise measured_nothing(going.statuses)
        manifest = _manifest(going, shard)
        stream.close(manifest)
    write_json(manifest, manifest_path(output))
    assert parts is not None
    shutil.rmtree(parts, ignore_errors=True)
    return Scored(data, manifest, len(going.rows), going.unmeasured)


def _write_behind(stream: ParquetStream, tables: Iterable[pa.Table]) -> None:
    """Write each table in a thread while the next is made."""
    with ThreadPoolExecutor(1, "curate-write") as writer:
        written: Future[None] | None = None
        for table in tables:
            if written is not None:
                written.result()
            written = writer.submit(stream.write, table)
        if written is not None:
            written.result()


def _manifest(going: ScoringPass, shard: Shard | None) -> dict[str, Any]:
    data = going.data
    manifest = make_manifest(
        "score",
        data,
        estimators=[{"name": e.name, **e.fingerprint()} for e in going.estimators],
        statuses={name: dict(counts) for name, counts in going.statuses.items()},
        **({"made_from": data.manifest} if data.manifest else {}),
    )
    if shard is not None:
        place = {"number": shard.number, "count": shard.count, "first_row": going.rows.start, "rows": len(going.rows)}
        manifest["shard"] = place | {"fingerprint": fingerprint_of(manifest)}
    return manifest


def measured_nothing(statuses: Mapping[str, Mapping[str, int]]) -> EstimatorError:
    """The error for a run in which no estimator could score any row."""
    counts = [f"{status} {n} ({name})" for name, found in statuses.items() for status, n in found.items() if n]
    return EstimatorError(
        f"No example could be scored: {', '.join(counts)}. Nothing is written.",
        expected="at least one example that can be scored",
        try_next="--max-missing 0, to write the file with the reasons all the same",
    )
