"""Score: read a dataset, ask every estimator, write one file. A batch of rows is in memory at a time; resumable."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.chunks import Progress, parts_beside
from curate.datasets.rows import ScoredRows
from curate.datasets.stream import ParquetStream
from curate.datasets.write import manifest_path, whole_file, with_manifest, write_json
from curate.errors import EstimatorError
from curate.estimators.base import Estimator
from curate.job import READING, prepare
from curate.manifest import manifest_for
from curate.passing import ScoringPass
from curate.sharding import Shard, find_shard, fingerprint_of
from curate.wikipedia.options import PageviewOptions

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Scored:
    """The outcome of scoring a dataset: its manifest, rows, and those that at least one estimator could not score."""

    data: ScoredRows
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
    unknown = settings.keys() - READING - PageviewOptions.names()
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
    data: ScoredRows,
    estimators: Sequence[Estimator],
    parts: Path | None = None,
    progress: Progress | None = None,
    shard: Shard | None = None,
) -> pa.Table:
    """The rows with their scores as one table in memory, its manifest in the schema."""
    import pyarrow as pa

    going = ScoringPass(data, estimators, parts, progress, shard)
    table = pa.Table.from_batches([b for t in going.batches() for b in t.to_batches()], going.schema)
    return with_manifest(table, _manifest(going, shard))


def score_file(
    data: ScoredRows,
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
    manifest = manifest_for(
        "score",
        {"name": data.name, "sha256": data.fingerprint, "rows": len(data)},
        data.roles.as_dict(),
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
