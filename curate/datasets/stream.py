"""Writing some rows of a stream to Parquet: the reader runs ahead in a thread while the writer encodes."""

from __future__ import annotations

import base64
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curate.datasets.arrow import empty_table
from curate.datasets.write import ROW_GROUP, sync, with_manifest
from curate.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
AHEAD = 3
MOST_THREADS = 4
RESULTS_AHEAD = 4
"""How many jobs for each thread are begun before the first result is taken: more of them, and no thread waits for the
writer; fewer, and less lies in memory. A job's result is what a split keeps of a batch, the batch itself is gone."""
ARROW_SCHEMA = b"ARROW:schema"
SAMPLE = 20_000
SMALLER = 0.9
"""A column is dictionary-encoded if that makes a sample of it at least this much smaller."""


def written_schema(file: Any) -> pa.Schema:
    """The schema that a ParquetStream was given; a reader calls the parts of nested columns by other names."""
    import pyarrow as pa

    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(file.metadata.metadata[ARROW_SCHEMA])))


class ParquetStream:
    """One Parquet file (zstd), written a batch at a time in row groups of ROW_GROUP rows.

    The same rows and manifest give the same bytes, however the rows came in batches. The types are exactly the ones
    of `schema`. Every column is given the encoding, dictionary or plain, that made a sample of it smaller.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        _check_types(schema)
        self._path = path
        self._schema = schema
        self._writer: Any = None
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Take some more rows."""
        self._waiting.append(table)
        self._rows += table.num_rows
        if self._rows >= ROW_GROUP:
            self._flush(self._rows - self._rows % ROW_GROUP)

    def close(self, manifest: dict[str, Any]) -> None:
        """Write what is left, and the footer with the manifest, which may count what has been written."""
        self._flush(self._rows)
        schema = with_manifest(empty_table(self._schema), manifest).schema
        arrow = base64.b64encode(schema.serialize().to_pybytes())
        self._writer.add_key_value_metadata({**schema.metadata, ARROW_SCHEMA: arrow})
        self._writer.close()
        sync(self._path)  # here, so that what a caller does beside this goes on meanwhile

    def _flush(self, rows: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        waiting = [table for table in self._waiting if table.num_rows] or [empty_table(self._schema)]
        table = pa.concat_tables(waiting).replace_schema_metadata()
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema.remove_metadata(),
                compression="zstd",
                use_dictionary=columns_to_encode(table[:SAMPLE]),
                write_statistics=columns_to_prune_by(self._schema),
                store_schema=False,  # it comes with the manifest
            )
        for start in range(0, rows, ROW_GROUP):
            group = table.slice(start, min(ROW_GROUP, rows - start)).combine_chunks()  # pages end where chunks do
            self._writer.write_table(group, row_group_size=ROW_GROUP)
        self._waiting = [table.slice(rows)]
        self._rows -= rows


def _check_types(schema: pa.Schema) -> None:
    """DataError for a column of a type that Parquet does not have."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for field in schema:
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
        except pa.ArrowNotImplementedError as error:
            raise DataError(
                f"Parquet has no type for the column {field.name!r}, which is {field.type}.",
                expected="columns of types that Parquet can hold",
                try_next="make it text or numbers, or leave it out",
            ) from error


def columns_to_prune_by(schema: pa.Schema) -> list[str]:
    """The columns whose least and greatest value help a reader to skip rows: numbers and dates, not texts."""
    import pyarrow as pa

    return [field.name for field in schema if pa.types.is_primitive(field.type)]


def columns_to_encode(sample: pa.Table) -> list[str] | bool:
    """The leaf columns that a dictionary makes clearly smaller, by their path in the Parquet schema."""
    plain, encoded = (_column_sizes(sample, use) for use in (False, True))
    return [path for path, size in encoded.items() if size < SMALLER * plain[path]] or False


def _column_sizes(sample: pa.Table, use_dictionary: bool) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(sample, sink, compression="zstd", use_dictionary=use_dictionary)
    footer = pq.read_metadata(pa.BufferReader(sink.getvalue()))
    sizes: dict[str, int] = {}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for column in (group.column(i) for i in range(group.num_columns)):
            sizes[column.path_in_schema] = sizes.get(column.path_in_schema, 0) + column.total_compressed_size
    return sizes


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
    """The same items, made by a thread that runs at most AHEAD items ahead; its errors come out here."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(kind: str, item: Any) -> None:
        while not stopped.is_set():
            try:
                ready.put((kind, item), timeout=0.1)
                break
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=work, name="curate-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
