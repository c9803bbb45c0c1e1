"""Shards: the parts of a dataset that are scored apart, and `merge`, which puts them together."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.checkpoint import is_made
from curate.data.files import (
    ParquetStream,
    check_writable,
    manifest_in,
    manifest_path,
    plain,
    whole_file,
    write_json,
    written_schema,
)
from curate.data.ids import ID_COLUMN, DuplicateCounter, hash_texts
from curate.data.sources import check_named, find_files
from curate.data.stores import ParquetRows, as_arrow, file_fingerprint, open_parquet_file, read_ahead, valid_rows
from curate.errors import DataError, SettingError, setting
from curate.estimators.base import commonest, measured_nothing

_OWN = ("shard", "statuses", "reasons")
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
                expected=f"{setting('shard', 'I/N')}, with I from 1 to N",
                try_next=setting("shard", f"1/{max(1, self.count)}"),
            )

    @classmethod
    def of(cls, shard: str | tuple[int, int] | None) -> Shard | None:
        """The shard that `"3/8"` or `(3, 8)` names; SettingError for anything else."""
        if shard is None:
            return None
        if not isinstance(shard, str):
            return cls(*shard)
        match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
        if match is None:
            raise SettingError(
                f"{setting('shard', shard)} is not a shard.",
                expected=setting("shard", "I/N"),
                try_next=setting("shard", "1/8"),
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def file_name(self) -> str:
        """`shard-03-of-64.parquet`: the numbers as wide as the count, so that names sort as numbers do."""
        return f"shard-{self.number:0{len(str(self.count))}}-of-{self.count}.parquet"

    def stretch(self, rows: int, chunk: int) -> range:
        """Its rows of a dataset of so many; the shards differ by one chunk at most, and some may be empty."""
        chunks = -(-rows // chunk)
        start, stop = (n * chunks // self.count * chunk for n in (self.number - 1, self.number))
        return range(min(start, rows), min(stop, rows))


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """The same only for shards of one run: of versions, input, columns, and estimators with all their settings."""
    content = json.dumps(plain(shared_part(manifest)), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def shared_part(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifests of the shards of one run have in common."""
    return {name: value for name, value in manifest.items() if name not in _OWN}


@dataclass(frozen=True)
class Merged:
    """The outcome: the manifest of the whole, its shards and rows, and the rows that lack at least one score."""

    manifest: dict[str, Any]
    shards: int
    rows: int
    unmeasured: int
    earlier: bool = False
    """Whether the file was there already."""


@dataclass(frozen=True)
class ShardFile:
    """A shard as it lies on the disk."""

    path: Path
    rows: ParquetRows
    schema: pa.Schema
    manifest: dict[str, Any]

    @property
    def place(self) -> Any:
        """Its number, the count of all shards, its first row and how many rows it has; a fingerprint of the run."""
        return self.manifest["shard"]

    def batches(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Its rows, all columns or some."""
        return (read() for _, read in self.rows.pieces(names))


def merge(
    shards: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    allow_unmeasured: bool = False,
    force: bool = False,
) -> Path:
    """Put the shards of a scored dataset together; the Python twin of `curate merge`. Returns `output`.

    `shards` is a folder, a glob, a file, or several of them. Unlike `curate.score` this always writes a file, a batch
    at a time: who needs shards may have more rows than go into memory. `curate.read` reads it. The file is the one
    that a run without shards would have written, byte for byte. Raises DataError unless every shard is there exactly
    once and all were made of the same data in the same way, EstimatorError when no row at all has a score, unless
    `allow_unmeasured`, and OutputError for an `output` that is there and is not what comes out, unless `force`.
    """
    target = Path(output)
    merge_files([shards] if isinstance(shards, (str, Path)) else shards, target, allow_unmeasured, force)
    return target


def merge_files(
    named: Sequence[str | Path], output: Path, allow_unmeasured: bool = False, force: bool = False
) -> Merged:
    """The same, for what was `named`; tells what came of it."""
    check_writable(output, frozenset({".parquet"}))
    shards = open_shards(named, output)
    check_complete(shards)
    statuses, reasons = _summed(shards, "statuses"), _summed(shards, "reasons")
    manifest = shared_part(shards[0].manifest) | {"statuses": statuses}
    if reasons:
        manifest["reasons"] = {name: commonest(counts) for name, counts in reasons.items()}
    schema, rows = shards[0].schema, int(manifest["input"]["rows"])
    if is_made(output, lambda earlier: earlier == plain(manifest), force):
        scores = open_parquet_file(output).read([f"score_{name}" for name in statuses])
        lacking = sum(any(value is None for value in row) for row in zip(*scores.to_pydict().values(), strict=True))
        return Merged(manifest, len(shards), rows, lacking, earlier=True)
    with whole_file(output) as temporary:
        stream = ParquetStream(temporary, schema)
        repeats, doubtful = DuplicateCounter(rows), set()
        measured = unmeasured = 0
        for batch in read_ahead(batch for shard in shards for batch in shard.batches()):
            stream.write(batch.cast(schema))
            hashes = hash_texts(batch[ID_COLUMN])
            doubtful.update(hashes[repeats.add(hashes)[0]].tolist())
            there = [valid_rows(batch[f"score_{name}"].combine_chunks()) for name in manifest["statuses"]]
            measured += int(np.any(there, axis=0).sum())
            unmeasured += int((~np.all(there, axis=0)).sum())
        if not measured and not allow_unmeasured:
            raise measured_nothing(manifest)
        _check_unique(doubtful, shards)
        stream.close(manifest)
    write_json(manifest, manifest_path(output))
    return Merged(manifest, len(shards), rows, unmeasured)


def _summed(shards: Sequence[ShardFile], name: str) -> dict[str, Counter[str]]:
    """What the manifests of the shards count under a name, by estimator."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for shard in shards:
        for estimator, counts in shard.manifest.get(name, {}).items():
            counted[estimator].update(counts)
    return counted


def open_shards(named: Sequence[str | Path], output: Path) -> list[ShardFile]:
    """The shards among what was named, by number; a file that is none is an error, an earlier `output` left out."""
    found = dict.fromkeys(path.resolve() for name in named for path in _files(str(name)))
    paths = [path for path in found if path != output.expanduser().resolve()]
    if not paths:
        raise DataError(f"There is no shard in {', '.join(map(str, named))}.", expected="files of curate score --shard")
    return sorted((_open(path) for path in paths), key=lambda shard: shard.place["number"])


def check_complete(shards: Sequence[ShardFile]) -> None:
    """DataError unless these are all shards of one run, each once, with all its rows."""
    first = shards[0]
    for shard in shards[1:]:
        if shard.place["fingerprint"] != first.place["fingerprint"]:
            raise _different(first, shard)
    count = first.place["count"]
    if any(shard.place["count"] != count for shard in shards):
        raise DataError(
            f"{first.path.name} is one of {count} shards, others here are of another number of them.",
            expected="the shards of one run",
            try_next="name only the files that belong together",
        )
    times = Counter(shard.place["number"] for shard in shards)
    twice = [shard.path.name for shard in shards if times[shard.place["number"]] > 1]
    if twice:
        raise DataError(f"Some shards are here more than once: {', '.join(twice)}.", expected="each of them once")
    if len(times) != count:
        missing = [f"{n}/{count}" for n in islice((n for n in range(1, count + 1) if n not in times), 20)]
        raise DataError(
            f"{count - len(times)} of {count} shards are missing: {', '.join(missing)}.",
            expected="every shard",
            try_next=f"the same curate score command with --shard {missing[0]}",
        )
    row = 0
    for shard in shards:
        rows = shard.place["rows"]
        if (shard.place["first_row"], rows) != (row, len(shard.rows)):
            raise DataError(
                f"{shard.path.name} has {len(shard.rows)} rows and should have {rows}, from row {row} on.",
                expected="the shards as curate score wrote them",
                try_next=f"the same curate score command with --shard {shard.place['number']}/{count}",
            )
        row += rows
    whole = first.manifest["input"]["rows"]
    if row != whole:
        raise DataError(f"The shards have {row} rows, their input had {whole}.", expected="all rows, each once")


def _check_unique(doubtful: Collection[int], shards: Sequence[ShardFile]) -> None:
    """DataError if two rows have one id; texts are compared only where hashes came twice."""
    if not doubtful:
        return
    ids: Counter[str] = Counter()
    for batch in (batch for shard in shards for batch in shard.batches([ID_COLUMN])):
        rows = np.flatnonzero(np.isin(hash_texts(batch[ID_COLUMN]), list(doubtful)))
        ids.update(batch[ID_COLUMN].take(as_arrow(rows)).to_pylist())
    repeated, times = ids.most_common(1)[0]
    if times > 1:
        raise DataError(
            f"The shards have the id {repeated!r} {times} times.",
            expected="every row once",
            try_next="score the shards again",
        )


def _different(first: ShardFile, other: ShardFile) -> DataError:
    """What two shards that were made in different ways differ in."""
    one, two = (dict(_leaves(shared_part(shard.manifest))) for shard in (first, other))
    for path in sorted({*one, *two}):
        if one.get(path) != two.get(path):
            return DataError(
                f"{first.path.name} and {other.path.name} were not made alike: {path} is {one.get(path)} "
                f"and {two.get(path)}.",
                expected="shards of the same data, made by the same command with the same versions",
                try_next=f"the same curate score command with --shard {other.place['number']}/{other.place['count']}",
            )
    return DataError(f"{other.path.name} has a manifest that was changed.", expected="what curate score wrote")


def _leaves(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All values in it by their paths: `estimators[0].model.name`."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _leaves(value, f"{path}[{number}]")
    else:
        yield path, content


def _files(name: str) -> list[Path]:
    """In a folder only the Parquet files, since unfinished shards have parts beside them."""
    check_named(name)
    path = Path(name).expanduser()
    found = sorted(path.glob("*.parquet")) if path.is_dir() else find_files(name)
    if not found:
        raise DataError(f"There is no shard {name!r}.", expected="a folder, a glob, or files of curate score --shard")
    return found


def _open(path: Path) -> ShardFile:
    if path.suffix.lower() != ".parquet":
        raise DataError(
            f"{path} is no shard: it is not called .parquet.",
            expected="files of curate score --shard",
            try_next=f"curate score {path} --by column:NAME --shard 1/2 -o shards/1.parquet, then 2/2",
        )
    try:
        file = open_parquet_file(path, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).splitlines()[0]}",
            expected="a whole Parquet file, as curate score --shard writes it",
            try_next="score that shard again",
        ) from error
    manifest = manifest_in(file.schema_arrow)
    place = manifest.get("shard")
    if not place or not 1 <= place["number"] <= place["count"] or place["fingerprint"] != fingerprint_of(manifest):
        raise DataError(
            f"{path} is not a shard, or one that was changed.",
            expected="files of curate score --shard, as they were written",
            try_next="curate merge shards/*.parquet -o scored.parquet, with nothing else in that folder",
        )
    rows = ParquetRows(path.name, {path: file}, partial(file_fingerprint, [path]))
    return ShardFile(path, rows, written_schema(file), manifest)
