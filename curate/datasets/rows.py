"""A scored table of any size: single columns at once, whole rows as a stream, out of Parquet files or memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from curate.datasets.answers import Spelling, choice_spelling
from curate.datasets.arrow import as_indices, empty_table, encode
from curate.datasets.columns import Columns
from curate.datasets.fields import cells_of, columns_read, values_of
from curate.datasets.ids import ID_COLUMN
from curate.datasets.read import COLUMN_ARGUMENTS, QATable, manifest_in, read, remembered_columns
from curate.datasets.recognise import FIRST_ROWS, recognise
from curate.datasets.remote import RemoteFile, is_url, open_remote
from curate.datasets.sources import Source, file_fingerprint, find_files
from curate.datasets.stream import read_ahead
from curate.errors import DataError
from curate.hashing import hash_texts
from curate.records import Example

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

BATCH = 100_000
"""Rows in a batch of the stream; a row group of at most WHOLE_GROUP rows is one batch."""

WHOLE_GROUP = 250_000


class Store(Protocol):
    """Where the rows lie."""

    schema: pa.Schema
    rows: int

    def columns(self, names: Sequence[str]) -> pa.Table:
        """All rows of some columns."""

    def head(self, rows: int) -> pa.Table:
        """The first rows."""

    def batches(self, names: Sequence[str] | None = None, rows: range | None = None) -> Iterator[pa.Table]:
        """All rows in order, or a stretch of them, a batch at a time: all columns, or some."""

    def fingerprint(self) -> str:
        """Changes whenever the content does."""


@dataclass(frozen=True)
class ScoredRows:
    """A scored table: its name, its columns by role, and where its rows lie.

    `restore` turns an Arrow table into the kind of thing that was given.
    """

    name: str
    roles: Columns
    store: Store
    restore: Callable[[pa.Table], Any]

    def __len__(self) -> int:
        return self.store.rows

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, and what the metadata says."""
        return self.store.schema

    @property
    def manifest(self) -> dict[str, Any]:
        """How the table was made; empty when curate did not make it."""
        return manifest_in(empty_table(self.schema))

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column, or what lies at a dotted path, or what is made of columns (fields.py)."""
        return values_of(self.table_of([name]), name)

    def encoded(self, name: str) -> pa.ChunkedArray:
        """The same, a column of plain values dictionary-encoded, so that repeated texts take little memory."""
        import pyarrow as pa

        if name not in self.schema.names or pa.types.is_nested(self.schema.field(name).type):
            return self.column(name)
        parts = [encode(batch[name]) for batch in self.store.batches([name])]
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks])

    def table_of(self, fields: Sequence[str]) -> pa.Table:
        """All rows of the columns that some fields read."""
        return self.store.columns(columns_read(fields, self.schema.names))

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """All columns of some rows; their numbers (k,) must ascend."""
        import numpy as np
        import pyarrow as pa

        parts, start = [empty_table(self.schema)], 0
        for batch in self.store.batches():
            first, last = np.searchsorted(rows, (start, start + batch.num_rows))
            parts.append(batch.take(as_indices(rows[first:last] - start)))
            start += batch.num_rows
        return pa.concat_tables(parts)

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the content does."""
        return self.store.fingerprint()

    def fingerprint_in_background(self) -> threading.Thread:
        """Hash the content while something else is done; join the thread before asking for the fingerprint."""

        def work() -> None:
            with suppress(Exception):  # whoever asks for it meets the error again, where it can be told
                _ = self.fingerprint

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def examples(
        self, batch: pa.Table, ids: Sequence[str] | None = None, extra: Sequence[str] = ()
    ) -> Iterator[Example]:
        """The examples of one batch of the stream, with the `extra` columns that the batch must have."""
        part = QATable(Source(batch, self.name, "", self.restore), self.roles)
        return part.iterate([""] * batch.num_rows if ids is None else ids, extra, self.spelling)

    @cached_property
    def spelling(self) -> Spelling:
        """How the answers name the right choices; one way for all rows."""
        if not self.roles.choices:
            return "text"
        answers = self.roles.answers
        batches = self.store.batches(columns_read([answers], self.schema.names))
        return choice_spelling(cell for batch in batches for cell in cells_of(batch, answers))

    def id_hashes(self) -> NDArray[np.uint64]:
        """A 64-bit hash of the id of every row: `curate_id` where curate wrote it, else made from the content. (N,)"""
        import numpy as np

        if ID_COLUMN in self.schema.names:
            parts = read_ahead(self.store.batches([ID_COLUMN]))
            return np.concatenate([hash_texts(batch[ID_COLUMN]) for batch in parts])
        table = self.table_of(self.roles.fields())
        return hash_texts(QATable(Source(table, self.name, "", self.restore), self.roles).ids)


def open_rows(data: Any, **settings: str | None) -> ScoredRows:
    """Open what `curate.read` opens, with the same settings.

    Parquet files, on this machine or in some storage, are left where they are until rows are asked for; then only
    the columns that are wanted are read.
    """
    if isinstance(data, (str, Path)) and settings.get("split") is None:
        store = _open_store(str(data))
        if store is not None:
            name = Path(data).name
            return ScoredRows(name, _columns(store, name, settings), store, lambda table: table)
    table = read(data, **settings)
    return ScoredRows(
        table.source.name,
        table.columns,
        MemoryStore(table.table, table.source.fingerprint),
        table.source.restore,
    )


def _open_store(name: str) -> Store | None:
    if is_url(name):
        files = open_remote(name)
        return None if files is None else open_remote_parquet(files)
    paths = [] if name == "-" else find_files(name)
    return open_parquet(paths) if all(path.suffix.lower() == ".parquet" for path in paths) else None


def _columns(store: Store, name: str, settings: Mapping[str, str | None]) -> Columns:
    remembered = remembered_columns(empty_table(store.schema))
    asked = {role: settings.get(argument) for role, argument in COLUMN_ARGUMENTS.items()}
    if remembered and not any(settings.values()):
        return remembered
    return recognise(store.head(FIRST_ROWS), asked, name, settings.get("preset"), remembered)


class MemoryStore:
    """Rows of an Arrow table."""

    def __init__(self, table: pa.Table, fingerprint: str) -> None:
        self.table = table
        self.schema = table.schema
        self.rows = int(table.num_rows)
        self._fingerprint = fingerprint

    def columns(self, names: Sequence[str]) -> pa.Table:
        """All rows of some columns."""
        return self.table.select(list(names))

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        return self.table.slice(0, rows)

    def batches(self, names: Sequence[str] | None = None, rows: range | None = None) -> Iterator[pa.Table]:
        """Slices of the table."""
        table = self.table if names is None else self.columns(names)
        table = table if rows is None else table.slice(rows.start, len(rows))
        for start in range(0, table.num_rows, BATCH):
            yield table.slice(start, BATCH)

    def fingerprint(self) -> str:
        """The one the table was read with."""
        return self._fingerprint


def _within(tables: Iterable[pa.Table], start: int, wanted: range) -> Iterator[pa.Table]:
    """What lies in a stretch of rows of tables that follow each other, the first beginning at row `start`."""
    for table in tables:
        first, last = max(wanted.start - start, 0), min(wanted.stop - start, table.num_rows)
        if first < last:
            yield table.slice(first, last - first)
        start += table.num_rows


def open_parquet(paths: Sequence[Path]) -> ParquetStore | None:
    """Files that are Parquet, have rows and one schema; None if anything else, which `read` can read or explain."""
    files = _open_alike(paths, pre_buffer=False)  # pre-buffering reads slower here
    return None if files is None else ParquetStore(paths, files)


def open_remote_parquet(remote: Sequence[RemoteFile]) -> RemoteStore | None:
    """The same for files in some storage."""
    files = _open_alike([file.open() for file in remote], pre_buffer=True)
    return None if files is None else RemoteStore(remote, files)


def _open_alike(sources: Sequence[Any], pre_buffer: bool) -> list[Any] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        files = [pq.ParquetFile(source, pre_buffer=pre_buffer) for source in sources]
    except (pa.ArrowException, OSError):
        return None
    alike = all(file.schema_arrow == files[0].schema_arrow and file.metadata.num_rows for file in files)
    return files if files and alike else None


class ParquetStore:
    """Rows of Parquet files of one schema, in the order of the files; memory holds a batch at a time."""

    def __init__(self, paths: Sequence[PurePath], files: Sequence[Any]) -> None:
        self.paths = paths
        self.files = files
        self.schema = files[0].schema_arrow
        self.rows = sum(file.metadata.num_rows for file in files)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """All rows of some columns."""
        import pyarrow as pa

        with self._readable():
            tables = [file.read(columns=list(names)) for file in self.files]
        return pa.concat_tables(tables).select(list(names))

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        import pyarrow as pa

        with self._readable():
            return pa.Table.from_batches([next(self.files[0].iter_batches(rows))])

    def batches(self, names: Sequence[str] | None = None, rows: range | None = None) -> Iterator[pa.Table]:
        """Row groups of ordinary size, and large ones in pieces; those outside of the stretch are not read."""
        wanted = range(self.rows) if rows is None else rows
        start = 0
        for file in self.files:
            for number in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(number).num_rows
                if start < wanted.stop and start + size > wanted.start:
                    yield from _within(self._row_group(file, number, names), start, wanted)
                start += size

    def _row_group(self, file: Any, number: int, names: Sequence[str] | None) -> Iterator[pa.Table]:
        import pyarrow as pa

        with self._readable():
            if file.metadata.row_group(number).num_rows <= WHOLE_GROUP:
                yield file.read_row_group(number, names)
            else:
                for batch in file.iter_batches(BATCH, [number], names):
                    yield pa.Table.from_batches([batch])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{', '.join(path.name for path in self.paths)} cannot be read: {str(error).splitlines()[0]}",
                expected="whole Parquet files",
                try_next="make the damaged file again",
            ) from error

    def fingerprint(self) -> str:
        """SHA-256 of the files' bytes, one after the other."""
        with self._readable():
            return file_fingerprint([Path(path) for path in self.paths])


class RemoteStore(ParquetStore):
    """The same for files in some storage, of which only the columns that are asked for are read."""

    def __init__(self, remote: Sequence[RemoteFile], files: Sequence[Any]) -> None:
        super().__init__([PurePosixPath(file.path) for file in remote], files)
        self.remote = remote

    def fingerprint(self) -> str:
        """SHA-256 of what the storage says of the files: hashing their bytes would be reading all of them."""
        with self._readable():
            versions = "\n".join(file.version() for file in self.remote)
        return f"storage:{hashlib.sha256(versions.encode()).hexdigest()}"
