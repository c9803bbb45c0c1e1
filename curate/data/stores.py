"""Where rows lie, in memory or in Parquet files, and how they are read: batch after batch, in order."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.errors import DataError

T = TypeVar("T")

Piece = tuple[int, Callable[[], pa.Table]]
"""A batch to be read: the number of its first row in the whole, and what reads it; threads may read several at once."""

BATCH = 100_000
"""Rows in a batch, where row groups are not larger."""

WHOLE_ROWS, WHOLE_BYTES = 250_000, 1 << 28
"""A row group of at most so many rows and bytes, decompressed and not decoded, is one batch; others come in pieces."""


PARQUET: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How every Parquet file is written; `seal` comes after."""

SEAL = b"curate\0\1"
SEALED_WHOLE = 1 << 26
"""Bytes up to which a seal covers all of a file. In a larger one the pages have checksums of their own, and next to
nothing lies between them.
"""


def seal(path: Path) -> None:
    """Put a checksum of what no page's checksum covers, names, types, counts and the manifest, before a file's footer.

    Readers of Parquet look only where the footer tells them to.
    """
    with path.open("r+b") as file:
        start, footer = _footer(file)
        checksum = _checksum(file, start, footer)
        file.seek(start)
        file.write(SEAL + checksum + footer)


def check_seal(file: BinaryIO, name: str) -> None:
    """DataError if a Parquet file with a seal is not as it was written; any other is left to its reader."""
    start, footer = _footer(file)
    start -= len(SEAL) + 4
    if start < 4:
        return
    file.seek(start)
    sealed = file.read(len(SEAL) + 4)
    if sealed.startswith(SEAL) and sealed != SEAL + _checksum(file, start, footer):
        raise DataError(
            f"{name} is damaged: it is not as curate wrote it.",
            expected="the file as it was written",
            try_next="make the file again, or copy it again from where it is whole",
        )


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Where the footer of a Parquet file starts, and its bytes, length and mark included; (0, b"") if it has none."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    start = size - 8 - int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or start < 4:
        return 0, b""
    file.seek(start)
    return start, file.read()


def _checksum(file: BinaryIO, start: int, footer: bytes) -> bytes:
    """CRC-32 of the footer, and of the pages before it where those are few."""
    file.seek(0)
    pages = file.read(start) if start <= SEALED_WHOLE else b""
    return zlib.crc32(footer, zlib.crc32(pages)).to_bytes(4, "little")


def open_parquet_file(source: Any, **how: Any) -> pq.ParquetFile:
    """A Parquet file to be read, every page of which is checked; DataError if it is not as curate wrote it.

    `source` is a path, the bytes of a file, or something that Arrow reads.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            check_seal(file, str(source))
        if not in_utf8(source):
            source = pa.OSFile(os.fsencode(source))  # Arrow takes any bytes for a name, but no such text
    elif isinstance(source, bytes):
        check_seal(io.BytesIO(source), "the file")
        source = pa.BufferReader(source)
    return pq.ParquetFile(source, page_checksum_verification=True, **how)


def in_utf8(path: Path) -> bool:
    """Whether the bytes of a file's name are UTF-8, as of nearly all they are."""
    return not re.search("[\ud800-\udfff]", str(path))


def write_table(table: pa.Table, path: Path, **how: Any) -> None:
    """Write a table as Parquet."""
    pq.write_table(table, path, **PARQUET, **how)
    seal(path)


def as_table(table: pa.Table) -> pa.Table:
    """What is read from a file comes back as an Arrow table."""
    return table


@dataclass(frozen=True)
class MemoryRows:
    """Rows of an Arrow table.

    `name` is what messages and manifests call them, `fingerprint` changes whenever the content does. `restore` turns
    a table of the same rows, or fewer, into the kind of thing that was given. `files` are the names of the files the
    rows came from, in order, each with how many.
    """

    table: pa.Table
    name: str
    fingerprint: str
    restore: Callable[[pa.Table], Any] = as_table
    files: tuple[tuple[str, int], ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self.table.schema

    def columns(self, names: Sequence[str] | None = None) -> pa.Table:
        """All rows of some columns, or of all."""
        return self.table if names is None else self.table.select(list(names))

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        return self.table.slice(0, rows)

    def pieces(
        self, names: Sequence[str] | None = None, rows: range | None = None, dictionaries: bool = False
    ) -> Iterator[Piece]:
        """Slices of the table, or of some columns, or of the stretch `rows`."""
        table = self.columns(names)
        wanted = range(len(self)) if rows is None else rows
        for start in wanted[::BATCH]:
            yield start, partial(table.slice, start, min(BATCH, wanted.stop - start))

    def hashing(self) -> AbstractContextManager[None]:
        """Nothing is left to be done."""
        return nullcontext()


class ParquetRows:
    """Rows of Parquet files of one schema, in the order of the files, left there until they are asked for.

    `hash_content` gives the fingerprint, or InterruptedError once the event it is given is set. `with_dictionaries`
    are the same files, opened to read texts that repeat as dictionaries. Whoever reads holds `lock`.
    """

    restore = staticmethod(as_table)

    def __init__(
        self,
        name: str,
        files: Mapping[PurePath, pq.ParquetFile],
        hash_content: Callable[[threading.Event], str],
        with_dictionaries: Mapping[PurePath, pq.ParquetFile] | None = None,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.name = name
        self.files = tuple((path.name, int(file.metadata.num_rows)) for path, file in files.items())
        self._opened = list(files.values())
        self._with_dictionaries = list((with_dictionaries or files).values())
        self.schema = self._opened[0].schema_arrow
        self._hash_content = hash_content
        self._hash: Future[str] | None = None
        self._lock = lock or nullcontext()

    def __len__(self) -> int:
        return sum(rows for _, rows in self.files)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another machine, which may not have the files, is sent the rows."""
        return MemoryRows, (self.columns(), self.name, self.fingerprint, as_table, self.files)

    def columns(self, names: Sequence[str] | None = None) -> pa.Table:
        """All rows of some columns, or of all."""
        with self._readable():
            table = pa.concat_tables(file.read(columns=names) for file in self._opened)
        return table if names is None else table.select(names)

    def head(self, rows: int) -> pa.Table:
        """The first rows, of all columns."""
        with self._readable():
            return pa.Table.from_batches([next(self._opened[0].iter_batches(rows))])

    def pieces(
        self, names: Sequence[str] | None = None, rows: range | None = None, dictionaries: bool = False
    ) -> Iterator[Piece]:
        """Small row groups together, large ones in pieces; those outside of the stretch `rows` are not read.

        With `dictionaries`, texts that repeat may come as such; `in_types_of` the schema makes them texts again.
        """
        wanted = range(len(self)) if rows is None else rows
        start = 0
        for file in self._with_dictionaries if dictionaries else self._opened:
            for groups, count, size in _groups_together(file.metadata):
                part = range(max(wanted.start - start, 0), min(wanted.stop - start, count))
                if part and count <= WHOLE_ROWS and size <= WHOLE_BYTES:
                    yield start + part.start, partial(self._whole, file, groups, names, part)
                elif part:
                    at_once = max(1, min(BATCH, count * WHOLE_BYTES // max(1, size)))
                    yield from self._divided(file.iter_batches(at_once, groups, names), part, start)
                start += count

    def _whole(self, file: pq.ParquetFile, groups: range, names: Sequence[str] | None, part: range) -> pa.Table:
        with self._readable():  # no threads of Arrow's own: those of `in_order` read several pieces at once
            return file.read_row_groups(groups, names, use_threads=False).slice(part.start, len(part))

    def _divided(self, batches: Iterator[pa.RecordBatch], part: range, start: int) -> Iterator[Piece]:
        """A part of a row group that is too large for memory: already read, since its batches come one by one."""
        done = 0
        while done < part.stop:
            with self._readable():
                batch = next(batches)
            first, last = max(part.start - done, 0), min(part.stop - done, batch.num_rows)
            if first < last:
                piece = pa.Table.from_batches([batch])
                yield start + done + first, partial(piece.slice, first, last - first)
            done += batch.num_rows

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{', '.join(name for name, _ in self.files)} cannot be read: {str(error).splitlines()[0]}",
                expected="whole Parquet files",
                try_next="make the damaged file again",
            ) from error

    @property
    def fingerprint(self) -> str:
        """A hash of the content, which takes a while for large files; made once."""
        with self.hashing():
            assert self._hash is not None
            return self._hash.result()

    @contextmanager
    def hashing(self) -> Iterator[None]:
        """Make the fingerprint while the block does something else; given up, for now, if that fails."""
        if self._hash is not None:
            yield
            return
        given_up = threading.Event()
        with ThreadPoolExecutor(1, "curate-hash") as beside:
            self._hash = beside.submit(self._hashed, given_up)
            try:
                yield
            except BaseException:
                given_up.set()
                self._hash = None
                raise

    def _hashed(self, given_up: threading.Event) -> str:
        with self._readable():
            return self._hash_content(given_up)


Rows = MemoryRows | ParquetRows


def open_parquet(name: str, paths: Sequence[Path]) -> ParquetRows | None:
    """Local files that are Parquet, have rows and one schema; None for others, which have to be read, or explained."""
    if any(path.suffix.lower() != ".parquet" for path in paths):
        return None
    files = open_alike({path: path for path in paths}, pre_buffer=False)  # pre-buffering reads slower here
    if not files:
        return None
    columns = dictionary_columns(list(files.values()))
    again = open_alike({path: path for path in files}, pre_buffer=False, read_dictionary=columns) if columns else {}
    same = [file.metadata for file in again.values()] == [file.metadata for file in files.values()]
    return ParquetRows(name, files, partial(file_fingerprint, paths), again if same else None)


def open_alike(sources: Mapping[Any, Any], **how: Any) -> dict[PurePath, pq.ParquetFile]:
    """The files that have rows, opened; none unless all are Parquet, and these have one schema."""
    try:
        files = {path: open_parquet_file(source, **how) for path, source in sources.items()}
    except (pa.ArrowException, OSError):
        return {}
    filled = {path: file for path, file in files.items() if file.metadata.num_rows}
    schemas = [file.schema_arrow for file in filled.values()]
    return filled if all(schema == schemas[0] for schema in schemas) else {}


def _groups_together(footer: pq.FileMetaData) -> Iterator[tuple[range, int, int]]:
    """Row groups that follow each other, as many as are a batch, with their rows and bytes; a larger one alone."""
    numbers, rows, size = range(0), 0, 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        if numbers and (rows + group.num_rows > BATCH or size + group.total_byte_size > WHOLE_BYTES):
            yield numbers, rows, size
            numbers, rows, size = range(number, number), 0, 0
        numbers, rows, size = range(numbers.start, number + 1), rows + group.num_rows, size + group.total_byte_size
    if numbers:
        yield numbers, rows, size


READABLE = {"PLAIN", "RLE", "BIT_PACKED", "RLE_DICTIONARY", "PLAIN_DICTIONARY"}
"""Encodings of which Arrow can make dictionaries; a dictionary itself is plain, and levels are run lengths."""

PLAIN_TEXT = 4
"""Bytes that a text takes at least where it is written plainly, for its length."""


def dictionary_columns(files: Sequence[pq.ParquetFile]) -> list[str]:
    """The columns of texts that lie as dictionaries in all row groups of these open files of one schema."""
    kinds = files[0].schema_arrow
    found = {f.name for f in kinds if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)}
    for footer in (file.metadata for file in files):
        for group in (footer.row_group(number) for number in range(footer.num_row_groups)):
            if not found:
                return []
            for column in (group.column(place) for place in range(group.num_columns)):
                small = column.total_uncompressed_size < PLAIN_TEXT * column.num_values
                if not (small and set(column.encodings) <= READABLE):
                    found.discard(column.path_in_schema)
    return sorted(found)


def in_types_of(schema: pa.Schema, table: pa.Table) -> pa.Table:
    """The table with dictionaries made texts again where the schema says so; a cast of all columns would check them."""
    for place, field in enumerate(schema):
        if table.field(place).type != field.type:
            table = table.set_column(place, field, table.column(place).cast(field.type))
    return table


def encode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column dictionary-encoded with int32, null in no dictionary; as it is if it is so already."""
    if pa.types.is_dictionary(column.type):
        if pa.types.is_int32(column.type.index_type) and not any(c.dictionary.null_count for c in column.chunks):
            return column
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):  # of which Arrow makes dictionaries that it cannot unify
        column = column.cast(pa.string())
    return column.dictionary_encode()


# Arrow's own ways from and to numpy import pandas, which takes longer than to select from a small file.


def as_arrow(values: NDArray[Any]) -> pa.Array:
    """Numbers as an Arrow array of their type, not copied when they lie one after the other. (N,)"""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def as_numpy(array: pa.Array, dtype: Any, null: float | None = None) -> NDArray[Any]:
    """The values of an array of numbers, as they lie in memory, or copied to give `null` its number. (N,)"""
    assert null is not None or not array.null_count
    buffer = array.buffers()[1]
    if buffer is None:
        return np.empty(0, dtype=dtype)
    values = np.frombuffer(buffer, dtype=dtype)[array.offset : array.offset + len(array)]
    return values if not array.null_count else np.where(valid_rows(array), values, dtype(null))


def valid_rows(array: pa.Array) -> NDArray[np.bool_]:
    """Which rows are not null. (N,)"""
    return np.from_dlpack(array.is_valid().cast(pa.uint8())).view(bool)


def file_fingerprint(
    parts: Iterable[Path | bytes], given_up: threading.Event | None = None, kind: str = "sha256"
) -> str:
    """The hash of files, or of their bytes, one after the other; InterruptedError once `given_up` is set."""
    digest = hashlib.new(kind)
    for part in parts:
        with io.BytesIO(part) if isinstance(part, bytes) else part.open("rb") as file:
            while block := file.read(1 << 20):
                if given_up is not None and given_up.is_set():
                    raise InterruptedError("not hashed to the end")
                digest.update(block)
    return digest.hexdigest()


MOST_THREADS = 4
RESULTS_AHEAD = 4
"""Results that are ready or in work for each thread before the first is taken.

With fewer, threads wait for the writer; with more, memory fills. (A result is what a split keeps of a batch.)
"""


def in_order(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What the jobs give, in their order; threads do them, some ahead. Their errors come out here."""
    threads = min(os.cpu_count() or 1, MOST_THREADS)
    begun: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, "curate-read") as pool:
        try:
            for job in read_ahead(jobs):
                begun.append(pool.submit(job))
                if len(begun) >= RESULTS_AHEAD * threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for waiting in begun:
                waiting.cancel()


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, the next one made in another thread while this one is used; its errors come out here."""
    following, end = iter(items), object()
    with ThreadPoolExecutor(1, "curate-read-ahead") as beside:
        ready: Future[Any] = beside.submit(next, following, end)
        while (item := ready.result()) is not end:
            ready = beside.submit(next, following, end)
            yield item
