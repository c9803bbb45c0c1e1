"""From whatever the user holds (a path, a Hub id, a data frame) to one Arrow table, and back in kind."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.hub import is_hub_id, read_hub
from curate.datasets.jsonfile import read_json, table_from_rows
from curate.datasets.text import read_delimited
from curate.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
COMPRESSED = (".gz", ".zst", ".bz2")


@dataclass(frozen=True)
class Source:
    """A table and where it came from; `fingerprint` changes whenever the content does.

    `restore` turns a table with the same rows, or fewer, into the kind of thing that was given.
    """

    table: pa.Table
    name: str
    fingerprint: str
    restore: Callable[[pa.Table], Any]


def open_source(data: Any) -> Source:
    """Read a path, a folder, a glob, `-` (JSONL on standard input), a Hub id, or a table in memory."""
    if isinstance(data, (str, Path)):
        return _open_named(str(data))
    table, restore = _from_memory(data)
    return Source(table, type(data).__name__, table_fingerprint(table), restore)


def table_fingerprint(table: pa.Table) -> str:
    """SHA-256 of the table's values and types (not of how it happens to be chunked)."""
    import pyarrow as pa

    digest = hashlib.sha256()
    with pa.ipc.new_stream(pa.PythonFile(_HashSink(digest), mode="w"), table.schema) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    return digest.hexdigest()


class _HashSink:
    """A file that only remembers the hash of what is written to it."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _open_named(name: str) -> Source:
    if name == "-":
        content = sys.stdin.buffer.read()
        if not content.strip():
            raise DataError("Standard input is empty.", expected="one JSON object a line")
        table = read_json(content, "standard input")
        return Source(_not_empty(table, name), "standard input", _sha256(content), _as_table)
    paths = find_files(name)
    if not paths:
        if is_hub_id(name):
            table, revision = read_hub(name)
            return Source(_not_empty(table, name), name, f"{name}@{revision}", _as_table)
        raise DataError(
            f"There is no file, folder or dataset {name!r}.",
            expected=f"a path to {', '.join(SUFFIXES)}, a folder or glob of them, or a Hub id (owner/name)",
            try_next="ls, to see what is in this folder",
        )
    import pyarrow as pa

    contents = [(path, _read_bytes(path)) for path in paths]
    tables = [_not_empty(_parse(path, content), path) for path, content in contents]
    table = tables[0] if len(tables) == 1 else _concatenate(paths, tables)
    fingerprint = _sha256(*(content for _, content in contents))
    assert isinstance(table, pa.Table)
    return Source(table, Path(name).name, fingerprint, _as_table)


def find_files(name: str) -> list[Path]:
    """The data files that a path, a folder or a glob names, sorted; none when nothing is there."""
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.is_file() and data_suffix(p) in SUFFIXES]
        found = [p for p in found if not p.name.endswith(".manifest.json") and p.name != "manifest.json"]
        if not found:
            raise DataError(
                f"The folder {path} holds no data files.", expected=f"files ending in {', '.join(SUFFIXES)}"
            )
        return found
    if any(sign in name for sign in "*?["):
        root = Path(path.anchor)
        return sorted(p for p in root.glob(str(path.relative_to(root))) if p.is_file())
    return []


def data_suffix(path: Path) -> str:
    """The suffix that tells the format, compression aside: `.csv` for `a.csv.gz`."""
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_bytes(path: Path) -> bytes:
    import pyarrow as pa

    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).", expected="a file with at least one example")
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            return stream.read()
    except OSError as error:
        packed = path.suffix.lower() in COMPRESSED
        raise DataError(
            f"{path} cannot be read: {error}",
            expected=f"a whole {path.suffix} file, as its name says" if packed else "a readable file",
            try_next="rename it after what it holds" if packed else "ls -l, to see whether you may read it",
        ) from error


def _parse(path: Path, content: bytes) -> pa.Table:
    suffix = data_suffix(path)
    if suffix == ".parquet":
        return _read_parquet(path, content)
    if content[:4] == b"PAR1":
        raise DataError(
            f"{path} is a Parquet file, not what its name says.",
            expected=f"a {suffix} file",
            try_next=f"rename it to {path.with_suffix('.parquet').name}",
        )
    if suffix in (".csv", ".tsv"):
        return read_delimited(content, "," if suffix == ".csv" else "\t", path)
    if suffix in (".json", ".jsonl", ".ndjson"):
        return read_json(content, path)
    raise DataError(
        f"{path} has a name that tells no format.",
        expected=f"one of {', '.join(SUFFIXES)} (compressed too: {', '.join(COMPRESSED)})",
        try_next="rename it after what it holds",
    )


def _read_parquet(path: Path, content: bytes) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        what = "cut off or damaged" if content[:4] == b"PAR1" else "not a Parquet file, whatever its name says"
        raise DataError(
            f"{path} is {what} ({str(error).splitlines()[0]}).",
            expected="a whole Parquet file",
            try_next="make it again, or rename it after what it holds (.csv, .tsv, .jsonl, .json)",
        ) from error


def _concatenate(paths: list[Path], tables: list[pa.Table]) -> pa.Table:
    import pyarrow as pa

    for path, table in zip(paths, tables, strict=True):
        if set(table.column_names) != set(tables[0].column_names):
            raise DataError(
                f"{path} has other columns than {paths[0]}: {', '.join(table.column_names)}.",
                expected=f"the same columns in every file: {', '.join(tables[0].column_names)}",
                try_next="one dataset at a time",
            )
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"The {len(paths)} files do not fit one table: {error}", expected="files with the same columns"
        ) from error


def _not_empty(table: pa.Table, name: object) -> pa.Table:
    if table.num_rows == 0:
        raise DataError(f"{name} holds no examples: it has columns but no rows.", expected="at least one row")
    return table


def _from_memory(data: Any) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    import pyarrow as pa

    kind = f"{type(data).__module__.split('.')[0]}.{type(data).__name__}"
    if isinstance(data, pa.Table):
        return data, _as_table
    if kind == "pandas.DataFrame":
        return _from_pandas(data), lambda table: table.to_pandas()
    if kind == "polars.DataFrame":
        return data.to_arrow(), lambda table: type(data)(table)
    if kind == "datasets.Dataset":
        return data.with_format("arrow")[:], lambda table: _to_dataset(table, data)
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        return table_from_rows(data), lambda table: table.to_pylist()
    raise DataError(
        f"Cannot read examples from a {type(data).__name__}.",
        expected="a path, a datasets.Dataset, a pandas or polars DataFrame, a pyarrow Table or a list of dicts",
    )


def _from_pandas(frame: Any) -> pa.Table:
    """The frame with its index (a plain range index costs no column), so that what comes back has it too."""
    import pyarrow as pa

    try:
        return pa.Table.from_pandas(frame)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"The DataFrame does not fit an Arrow table: {error}.",
            expected="columns of different names, each of one type",
            try_next="frame.astype({NAME: str}) for a column that mixes types",
        ) from error


def _to_dataset(table: pa.Table, like: Any) -> Any:
    """A `datasets.Dataset` whose columns have the features they had before (the names of a ClassLabel, say)."""
    from datasets import Features

    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"huggingface"}
    made = type(like)(table.replace_schema_metadata(metadata))
    return made.cast(Features({name: like.features.get(name, feature) for name, feature in made.features.items()}))


def _as_table(table: pa.Table) -> pa.Table:
    return table


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
