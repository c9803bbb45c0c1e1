"""Score: read a dataset, ask every estimator, write one file. A batch of rows is in memory at a time; resumable."""

from __future__ import annotations

import os
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import __version__
from curate.checkpoint import Checkpoint, is_made, key_of, manifest_of
from curate.data.columns import column_list, columns_of, columns_read, nearest, number_within, values_of
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
from curate.data.repeats import count_ambiguous, shared_parts
from curate.data.sources import is_dataset_dict, is_ray_dataset
from curate.data.stores import open_parquet_file, read_ahead
from curate.data.table import IdNumbers, QATable, make_manifest, read
from curate.display import Progress, bar_in_python
from curate.engines import Here, Pool, Work, choose_devices, in_processes, on_ray
from curate.errors import ColumnError, CurateError, DataError, EstimatorError, SettingError, setting
from curate.estimators import ESTIMATORS, By, find_estimator, is_own, make_estimator
from curate.estimators.base import ANOTHER_CHANCE, Estimator, ModelEstimator, commonest, measured_nothing
from curate.prompts import CHAT, chats_left_out
from curate.records import FAILED, OK, Example, Score
from curate.settings import EngineSettings, ReadSettings, takes
from curate.shards import Shard, fingerprint_of

CHUNK = 1024
"""Examples that an estimator is given at once.

The unit of everything that may be done elsewhere or later: a stopped run resumes after a chunk, a shard is a stretch
of chunks, a worker scores a chunk. A number may depend on the other rows of its chunk in its last bits, and on
nothing else. Smaller ones share fewer beginnings: PopQA reads 1.6% more tokens than with 2,048.
"""
BATCH = 96
"""Chunks that are in memory at once."""
MOST_FAILED = 16
"""More rows of one chunk that an estimator fails on are not a matter of rows: something is wrong with the run."""


@dataclass(frozen=True)
class Scored:
    """What came of scoring: `table` is None where it was written. `unmeasured` rows lack at least one score."""

    manifest: dict[str, Any]
    rows: int
    unmeasured: int
    seconds: float
    estimators: Sequence[Estimator]
    table: Any = None
    earlier: bool = False
    """Whether the file was there already, made by the same command."""
    data: QATable | None = None

    def notes(self) -> list[str]:
        """What a person should know of how it was scored, a sentence each; nothing where it had been scored before."""
        found = [] if self.earlier else [note for estimator in self.estimators for note in estimator.notes()]
        chats = self.data.chats() if self.data and not self.earlier else {}
        for estimator in (e for e in self.estimators if isinstance(e, ModelEstimator) and any(chats.values())):
            found += chats_left_out(chats, estimator.template, estimator.name)
        return found

    @property
    def ambiguous(self) -> Mapping[str, int] | None:
        """How many examples have an ambiguous question or subject; None of very many examples."""
        return None if self.data is None else count_ambiguous(self.data)

    @property
    def shared(self) -> list[dict[str, Any]]:
        """What the test parts of the dataset share with its training part, where it has such parts."""
        return [] if self.data is None else shared_parts(self.data)


@takes(ReadSettings, EngineSettings, *(estimator.Settings for estimator in ESTIMATORS.values()))
def score(
    data: Any,
    by: By | Sequence[By],
    *,
    output: str | Path | None = None,
    shard: str | tuple[int, int] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Any:
    """Give every example a score per estimator; the Python twin of `curate score`.

    `data` is a path, a Hub id, a `datasets.Dataset`, a pandas or polars DataFrame, a pyarrow Table, a list of dicts
    or a `ray.data.Dataset`; `by` is one estimator or several: `"pageviews"`, `"loss"`, `"column:NAME"`, or your own, as
    an `Estimator`, a function of examples or `"module:Name"` (docs/own-estimator.md). Returns the same kind of thing
    with `curate_id`, `score_<name>` and evidence columns added (a path gives a pyarrow Table); with `output`, writes
    Parquet and a manifest there and returns its path; a file that the same call made stays as it is, any other is an
    OutputError unless `force`. `shard=(3, 8)` scores the third of eight parts; `curate.merge` puts the files of all of
    them together. `engine="ray"`, the default for a `ray.data.Dataset`, has the model on every worker of a cluster
    (docs/scaling.md). The other options are those of the command line by the same words (`model="gpt2"`,
    `views_from="api"`, `answer_column="a"`).
    `progress` is called with estimator, rows done and rows in all. `model` is a folder, a Hub id, or one in memory with
    its tokenizer: `(model, tokenizer)`, or a pipeline. Of a DatasetDict every split is scored by itself.

    Raises EstimatorError for an estimator that is unknown or lacks something (`loss` needs `model`), and DataError or
    ColumnError for data that cannot be read. A row that cannot be scored is no error: its score is null, its status
    says why.

    Examples:
        >>> rows = [{"question": "Who wrote Emma?", "answer": "Jane Austen", "views": 90}]
        >>> score(rows, by="column:views")[0]["score_views"]
        90.0
    """
    if is_dataset_dict(data):
        if output is not None or shard is not None:
            raise DataError("A DatasetDict is no one file.", expected="its splits, one at a time: data['train']")
        named = {"force": force, "progress": progress, **options}
        return type(data)({name: score(part, by, **named) for name, part in data.items()})
    target = None if output is None else Path(output)
    with bar_in_python() if progress is None else nullcontext(progress) as show:
        scored = run(data, by, target, Shard.of(shard), options, show, force=force)
    return scored.table if target is None else target


def run(
    data: Any,
    by: By | Sequence[By],
    output: Path | None,
    shard: Shard | None,
    options: Mapping[str, Any],
    progress: Progress | None = None,
    or_nothing: bool = False,
    force: bool = False,
) -> Scored:
    """What `score` does, and what came of it; `options` may hold other things too.

    With `or_nothing`, raises EstimatorError and writes nothing when no estimator could score any row; of a shard
    only `merge_files` can tell.
    """
    table, estimators, engine = opened(data, by, output, options)
    rows = range(len(table)) if shard is None else shard.stretch(len(table), CHUNK)
    if output is not None and is_scored(output, table, estimators, shard, force):
        return scored_before(output, estimators, table)
    for estimator in estimators:
        estimator.draw(partial(all_examples, table))
    counts = StatusCounts(estimators)
    kept = None if output is None else kept_for(output)
    with ExitStack() as stack:
        engines = [stack.enter_context(engine_of(estimator, engine)) for estimator in estimators]
        stages = [Stage(*both, table, len(rows), kept, progress) for both in zip(estimators, engines, strict=True)]
        started = time.perf_counter()
        schema = score_schema(table, estimators)
        batches = scored_batches(table, rows, stages, schema, counts)
        if output is None:
            found = pa.Table.from_batches([part for batch in batches for part in batch.to_batches()], schema)
            manifest = score_manifest(table, stages, counts, shard, rows)
            result = table.restore(with_manifest(found, manifest))
        else:
            with table.hashing(), whole_file(output) as temporary:
                stream = ParquetStream(temporary, schema)
                write_behind(stream, batches)
                manifest = score_manifest(table, stages, counts, shard, rows)
                if or_nothing and shard is None and not counts.measured:
                    raise measured_nothing(manifest)
                stream.close(manifest)
            write_json(manifest, manifest_path(output))
            result = None
    if kept is not None:
        kept.clear()
    seconds = time.perf_counter() - started
    return Scored(manifest, len(rows), counts.unmeasured, seconds, estimators, result, data=table)


def is_scored(output: Path, table: QATable, estimators: Sequence[Estimator], shard: Shard | None, force: bool) -> bool:
    """Whether a file has these scores already, all that can be had; OutputError, unless `force`, if it has others."""

    def same(manifest: Mapping[str, Any]) -> bool:
        place = manifest.get("shard")
        of_shard = None if place is None else (place["number"], place["count"])
        asked = None if shard is None else (shard.number, shard.count)
        return of_shard == asked and manifest.get("request") == request_of(table, estimators)

    if not is_made(output, same, force):
        return False
    statuses = manifest_of(output)["statuses"]
    return not any(counts.get(status) for counts in statuses.values() for status in ANOTHER_CHANCE)


def request_of(table: QATable, estimators: Sequence[Estimator]) -> str:
    """A hash of what is asked for: which scores, of what data."""
    asked = [(estimator.name, estimator.request()) for estimator in estimators]
    return key_of(table.fingerprint, table.roles.as_dict(), plain(asked))[:16]


def scored_before(output: Path, estimators: Sequence[Estimator], table: QATable) -> Scored:
    """What came of scoring once, as the file tells; what a killed run left beside it is put right."""
    started = time.perf_counter()
    scores = open_parquet_file(output).read([f"score_{estimator.name}" for estimator in estimators])
    unmeasured = pc.sum(reduce(pc.or_, map(pc.is_null, scores.columns))).as_py() or 0
    manifest = {**manifest_of(output), "columns": table.roles.as_dict()}
    if not manifest_path(output).exists():
        write_json(manifest, manifest_path(output))
    kept_for(output).clear()
    seconds = time.perf_counter() - started
    return Scored(manifest, scores.num_rows, unmeasured, seconds, estimators, earlier=True, data=table)


def kept_for(output: Path) -> Checkpoint:
    """The chunks that a stopped run has scored."""
    return Checkpoint(output.with_name(f".{output.name}.parts"))


def plan(
    data: Any,
    by: By | Sequence[By],
    output: Path,
    shard: Shard | None,
    options: Mapping[str, Any],
    force: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """What `run` would do and cost, as values and as lines; no model is loaded, no server asked, nothing written.

    Raises what the run would raise before it begins.
    """
    table, estimators, _ = opened(data, by, output, options)
    rows = range(len(table)) if shard is None else shard.stretch(len(table), CHUNK)
    specs = [
        one if isinstance(one, str) else estimator.name for one, estimator in zip(listed(by), estimators, strict=True)
    ]
    roles = table.roles.as_dict()
    content: dict[str, Any] = {"dry_run": True, "rows": len(rows), "columns": roles, "estimators": specs}
    content["output"] = str(output)
    part = "" if shard is None else f"shard {shard}: {len(rows)} of "
    named = ", ".join(f"{role}={name}" for role, name in roles.items() if name)
    lines = [f"{part}{len(table)} examples of {table.name}; columns {named}", f"by {', '.join(specs)}"]
    for estimator in sorted(estimators, key=lambda estimator: estimator.name):
        estimator.draw(partial(all_examples, table))
        cost = estimator.cost(chunks_of(table, rows, estimator.columns))
        if cost is not None:
            content[estimator.name] = cost[0]
            lines.append(cost[1])
    earlier = is_scored(output, table, estimators, shard, force)
    return content, [*lines, f"{output} is already made" if earlier else f"would write {output}"]


def opened(
    data: Any, by: By | Sequence[By], output: Path | None, options: Mapping[str, Any]
) -> tuple[QATable, list[Estimator], EngineSettings]:
    """The dataset, the estimators and where they work, all checked; no row is scored, no model loaded yet."""
    for spec in (one for one in listed(by) if isinstance(one, str)):
        find_estimator(spec)
    default = "ray" if is_ray_dataset(data) else "local"
    engine = EngineSettings.of(options, engine=options.get("engine") or default)
    if output is not None:
        check_not_input(data, output)
        check_writable(output, frozenset({".parquet"}))
    table = read(data, **ReadSettings.of(options).as_dict())
    asked = options.get("template")
    if asked in (None, CHAT):  # of others, those who need one see that it is there
        options = {**options, "template": table.template(None, asked, options.get("system"))}
    estimators = [make_estimator(one, options, table.schema.names) for one in listed(by)]
    check_scorable(table, estimators)
    return table, estimators, engine


def listed(by: By | Sequence[By] | None) -> list[By]:
    """The estimators that are asked for, one each."""
    return [by] if isinstance(by, (str, Estimator)) or callable(by) else list(by or ())


def check_scorable(data: QATable, estimators: Sequence[Estimator]) -> None:
    """Raise unless every estimator has a name of its own, finds its columns, and may add those that it makes.

    The data must have an answer somewhere, and the ids that it brings must be usable.
    """
    if not estimators:
        raise EstimatorError(
            "No estimator was named.",
            try_next=f"{setting('by', 'column:NAME')} or {setting('by', 'loss')} {setting('model', 'MODEL')}",
        )
    name, times = Counter(estimator.name for estimator in estimators).most_common(1)[0]
    if times > 1:
        raise EstimatorError(f"Two estimators are named {name!r}.", expected=f"each {setting('by')} once")
    for estimator in estimators:
        taken = [name for name in estimator.schema.names if name in data.schema.names]
        if taken:
            raise ColumnError(
                f"{data.name} already has a column {taken[0]!r}.",
                expected=f"no column of that name, since the scores of {estimator.name!r} go there",
                try_next="score the original file, or rename that column",
            )
        for name in estimator.columns:
            if columns_of(name, data.schema.names) is None:
                raise ColumnError(
                    f"{data.name} has no column {name!r}.",
                    expected=f"one of its columns: {column_list(data.schema.names)}",
                    try_next=f"the column {nearest(name, data.schema.names)}",
                )
            if numbers := number_within(data.schema, name):
                raise ColumnError(
                    f"The column {name!r} of {data.name} holds objects.",
                    expected="a column of numbers, or a dotted path to one",
                    try_next=setting("by", f"column:{numbers}"),
                )
    data.check_answers()
    data.check_ids()


def engine_of(estimator: Estimator, engine: EngineSettings) -> AbstractContextManager[Here | Pool]:
    """Where an estimator works: here, unless it has a model and is to have it in several processes or on a cluster."""
    if isinstance(estimator, ModelEstimator):
        device, processes = estimator.settings.device, estimator.settings.processes
        if estimator.in_memory:
            if engine.engine == "ray" or processes not in (None, 1):
                raise SettingError(
                    f"{estimator.settings.model} is a model in the memory of this process.",
                    expected=f"its folder or Hub id, for {setting('engine', 'ray')} or {setting('processes')}",
                )
            return nullcontext(Here(estimator.fingerprint(), estimator.score))
        if engine.engine == "ray":
            if processes not in (None, 1):
                raise SettingError(
                    f"{setting('processes', processes)} is for one machine.",
                    expected=f"{setting('workers')}, with {setting('engine', 'ray')}",
                )
            return on_ray(partial(load_estimator, estimator.on(device), engine.cpus), engine, device)
        devices = choose_devices(device, processes)
        if len(devices) > 1:
            import torch

            threads = max(1, torch.get_num_threads() // len(devices))
            return in_processes(partial(load_estimator, estimator.on(device), threads), devices)
    return nullcontext(Here(estimator.fingerprint(), estimator.score))


def load_estimator(estimator: ModelEstimator, threads: int, device: str) -> tuple[Mapping[str, Any], Work]:
    """In a worker: the fingerprint of the estimator, its model being loaded for that, and how it scores."""
    import torch

    torch.set_num_threads(threads)
    here = estimator.on(device)

    def work(examples: Sequence[Example]) -> list[Score]:
        try:
            return list(here.score(examples))
        except RuntimeError as error:
            if "CUDA error" in str(error):
                os._exit(1)  # no kernel runs in this process any more; another one finds the rows at fault
            raise

    return here.fingerprint(), work


class Stage:
    """An estimator at work on one batch after the other, a chunk at a time; chunks of an earlier run are taken over."""

    def __init__(
        self,
        estimator: Estimator,
        engine: Here | Pool,
        table: QATable,
        total: int,
        kept: Checkpoint | None,
        progress: Progress | None,
    ) -> None:
        self.estimator, self.engine, self.fingerprint = estimator, engine, engine.about()
        self._table, self._total, self._progress = table, total, progress
        self._kept = kept if estimator.resumable else None
        self._begun = self._done = 0
        self._errors: Counter[str] = Counter()

    def begin(self, batch: pa.Table) -> Callable[[], list[pa.Array]]:
        """Begin on a batch, where work is done elsewhere; what is given waits for the columns of the estimator."""
        columns = self.estimator.score_table(batch)
        examples = [] if columns else list(self._table.examples_of(batch, extra=self.estimator.columns))
        chunks = [self._begin(examples[start : start + CHUNK]) for start in range(0, len(examples), CHUNK)]

        def finish() -> list[pa.Array]:
            found = columns or self.estimator.as_columns([score for chunk in chunks for score in chunk()])
            self._done += batch.num_rows if columns else 0
            self._tell()
            return found

        return finish

    def _own_faults_said(self, work: Callable[[], list[Score]]) -> list[Score]:
        """The scores; what goes wrong in an estimator of the user's is told as an EstimatorError that says where."""
        try:
            return work()
        except Exception as error:
            if isinstance(error, CurateError) or not is_own(self.estimator):
                raise
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise EstimatorError(
                f"The estimator {self.estimator.name!r} failed: {type(error).__name__}: {error} "
                f"({place.filename}, line {place.lineno}).",
                expected="one score an example",
            ) from error

    def _begin(self, examples: Sequence[Example]) -> Callable[[], list[Score]]:
        """The same of a chunk, for its scores."""
        key = chunk_key(self.fingerprint, examples) if self._kept else ""
        earlier = self._kept.get(key) if self._kept else None
        allowed = min(MOST_FAILED, len(examples) - (self._begun == 0))  # if all of the first fail, all others will
        self._begun += len(examples)
        work = self.engine.begin(examples, allowed, self._failed) if earlier is None else None

        def finish() -> list[Score]:
            if work is None:
                scores = [Score(*fields) for fields in earlier or ()]
            else:
                self._tell()
                self.estimator.report = lambda share, tokens: self._tell(share * len(examples), tokens)
                scores = self._own_faults_said(work)
                failed = any(score.status == FAILED for score in scores)
                if self._kept and not failed:  # a row that failed gets another chance in the next run
                    self._kept.put(key, [[score.value, score.status, dict(score.evidence)] for score in scores])
            self._done += len(examples)
            return scores

        return finish

    def _failed(self, error: Exception) -> Score:
        self._errors[" ".join(f"{type(error).__name__}: {error}".split())] += 1
        return Score(None, FAILED)

    def reasons(self) -> dict[str, int]:
        """Why rows failed, in words, the commonest reasons first."""
        return commonest(self._errors + Counter(self.estimator.reasons()))

    def _tell(self, more: float = 0, tokens: int = 0) -> None:
        if self._progress is not None:
            self._progress(self.estimator.name, self._done + more, self._total, tokens)


def chunk_key(fingerprint: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """The same only for the same numbers: of curate's version, all that made them, and all that may be asked about."""
    content = [(e.question, e.answers, e.choices, e.subject, e.relation, e.extra) for e in examples]
    return key_of(__version__, fingerprint, content)


class StatusCounts:
    """What can be said of the rows after the last one: statuses by estimator, scores, rows that lack at least one."""

    def __init__(self, estimators: Sequence[Estimator]) -> None:
        self.statuses: dict[str, Counter[str]] = {e.name: Counter({OK: 0}) for e in estimators}
        self.measured = self.unmeasured = 0

    def add(self, columns: Sequence[Sequence[pa.Array]]) -> None:
        """Count a batch: for each estimator, its columns."""
        for counts, (values, *_, statuses) in zip(self.statuses.values(), columns, strict=True):
            self.measured += len(values) - values.null_count
            for counted in pc.value_counts(statuses).to_pylist():
                counts[counted["values"]] += counted["counts"]
        self.unmeasured += pc.sum(reduce(pc.or_, [pc.is_null(values) for values, *_ in columns])).as_py() or 0


def scored_batches(
    table: QATable, rows: range, stages: Sequence[Stage], schema: pa.Schema, counts: StatusCounts
) -> Iterator[pa.Table]:
    """The rows in order, with what the estimators add; begun so far ahead that workers elsewhere have enough to do."""
    for stage in stages:
        stage.estimator.prepare(chain.from_iterable(chunks_of(table, rows, stage.estimator.columns)))
    ahead = -(-max(stage.engine.ahead for stage in stages) // BATCH)
    begun: deque[tuple[pa.Table, list[Callable[[], list[pa.Array]]]]] = deque()

    def finished() -> pa.Table:
        batch, work = begun.popleft()
        columns = [finish() for finish in work]
        counts.add(columns)
        return pa.Table.from_arrays([*batch.columns, *chain.from_iterable(columns)], schema=schema)

    for batch in read_ahead(with_ids(table, even_batches(table.batches(rows=rows), BATCH * CHUNK), rows.start)):
        begun.append((batch, [stage.begin(batch) for stage in stages]))
        if len(begun) > ahead:
            yield finished()
    while begun:
        yield finished()


def chunks_of(table: QATable, rows: range, extra: Sequence[str] = ()) -> Iterator[list[Example]]:
    """The examples of some rows, a chunk at a time, from the columns that they need."""
    names = columns_read([*table.roles.fields(), *extra], table.schema.names)
    for batch in even_batches(table.batches(names, rows), CHUNK):
        yield list(table.examples_of(batch, extra=extra))


def all_examples(table: QATable) -> Iterator[Example]:
    """All examples of the dataset with their ids, as they pass by."""
    names = columns_read(table.roles.fields(), table.schema.names)
    if ID_COLUMN in table.schema.names and ID_COLUMN not in names:
        names = [*names, ID_COLUMN]
    for batch in with_ids(table, table.batches(names), 0):
        yield from table.examples_of(batch, ids=batch[ID_COLUMN].to_pylist())


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


def with_ids(table: QATable, batches: Iterable[pa.Table], before: int) -> Iterator[pa.Table]:
    """The batches with their ids, which do not depend on the shard: so many rows come `before` it."""
    key = table.roles.id
    if ID_COLUMN in table.schema.names:
        yield from batches
    elif key is not None:
        yield from (batch.append_column(ID_COLUMN, key_texts(values_of(batch, key))) for batch in batches)
    else:
        made = IdNumbers(table, before)
        yield from (batch.append_column(ID_COLUMN, made.of(batch)) for batch in batches)


def score_schema(table: QATable, estimators: Sequence[Estimator]) -> pa.Schema:
    """The columns of the input, then those that scoring adds."""
    fields = [*table.schema, *([] if ID_COLUMN in table.schema.names else [pa.field(ID_COLUMN, pa.string())])]
    return pa.schema([*fields, *(field for e in estimators for field in e.schema)], table.schema.metadata)


def write_behind(stream: ParquetStream, tables: Iterable[pa.Table]) -> None:
    """Write each table in a thread while the next is made."""
    with ThreadPoolExecutor(1, "curate-write") as writer:
        written = None
        for table in tables:
            if written is not None:
                written.result()
            written = writer.submit(stream.write, table)
        if written is not None:
            written.result()


def score_manifest(
    table: QATable, stages: Sequence[Stage], counts: StatusCounts, shard: Shard | None, rows: range
) -> dict[str, Any]:
    """How the scores were made; of a shard, also its place."""
    failing = [stage for stage in stages if counts.statuses[stage.estimator.name][FAILED]]
    reasons = {stage.estimator.name: why for stage in failing if (why := stage.reasons())}
    manifest = make_manifest(
        "score",
        table,
        estimators=[{"name": stage.estimator.name, **stage.fingerprint} for stage in stages],
        statuses=counts.statuses,
        **({"reasons": reasons} if reasons else {}),
        request=request_of(table, [stage.estimator for stage in stages]),
        **({"made_from": table.manifest} if table.manifest else {}),
    )
    if shard is not None:
        place = {"number": shard.number, "count": shard.count, "first_row": rows.start, "rows": len(rows)}
        manifest["shard"] = place | {"fingerprint": fingerprint_of(manifest)}
    return manifest
