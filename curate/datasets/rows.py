"""A scored table of any size: single columns at once, whole rows as a stream, out of Parquet files or memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curate.datasets.answers import Spelling, choice_spelling
from curate.datasets.arrow import as_indices, empty_table, encode
from curate.datasets.columns import Columns
from curate.datasets.fields import cells_of, columns_read, values_of
from curate.datasets.ids import ID_COLUMN
from curate.datasets.read import COLUMN_ARGUMENTS, QATable, manifest_in, read, remembered_columns
from curate.datasets.recognise import FIRST_ROWS, recognise
from curate.datasets.sources import Source
from curate.datasets.stores import MemoryStore, Read, Store, open_store
from curate.datasets.stream import in_order
from curate.errors import DataError
from curate.hashing import hash_texts
from curate.records import Example

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


T = TypeVar("T")


@dataclass(frozen=True)
class ScoredRows:
    """A scored table: its name, its columns by role, and where its rows lie.

    `restore` turns an Arrow table into the kind of thing that was given, `path` is what it was opened by if that was a
    path or URL.
    """

    name: str
    roles: Columns
    store: Store
    restore: Callable[[pa.Table], Any]
    path: str | None = None

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
        parts = self._mapped(name, encode, dictionaries=True)
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks])

    def _mapped(self, name: str, work: Callable[[pa.ChunkedArray], T], dictionaries: bool = False) -> Iterator[T]:
        """What becomes of a column, batch by batch; threads do it."""
        reads = self.store.reads([name], dictionaries=dictionaries)
        return in_order(partial(_work_on, work, read, name) for read in reads)

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

    @property
    def fingerprint(self) -> str:
        """Changes whenever the content does."""
        return self._hashing[0].result()

    @contextmanager
    def hashing(self) -> Iterator[None]:
        """Begin with the fingerprint while something else is done; give it up, for now, if that fails."""
        hashing, given_up = self._hashing
        try:
            yield
        except BaseException:
            if not hashing.done():
                given_up.set()
                del self.__dict__["_hashing"]
            raise

    @cached_property
    def _hashing(self) -> tuple[Future[str], threading.Event]:
        """The fingerprint in the making, and what ends that: whoever asks for it waits, or meets the error."""
        hashing: Future[str] = Future()
        given_up = threading.Event()

        def work() -> None:
            try:
                hashing.set_result(self.store.fingerprint(given_up))
            except Exception as error:
                hashing.set_exception(error)

        threading.Thread(target=work, name="curate-hash", daemon=True).start()  # no exit waits for a daemon
        return hashing, given_up

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
            return np.concatenate(list(self._mapped(ID_COLUMN, hash_texts)))
        table = self.table_of(self.roles.fields())
        return hash_texts(QATable(Source(table, self.name, "", self.restore), self.roles).ids)


def open_rows(data: Any, **settings: str | None) -> ScoredRows:
    """Open what `curate.read` opens, with the same settings.

    Parquet files, on this machine or in some storage, are left where they are until rows are asked for; then only
    the columns that are wanted are read. DataError for a folder of several splits.
    """
    if isinstance(data, (str, Path)) and settings.get("split") is None:
        _check_no_splits(Path(data).expanduser())
        store = open_store(str(data))
        if store is not None:
            name = Path(data).name
            return ScoredRows(name, _columns(store, name, settings), store, lambda table: table, str(data))
    table = read(data, **settings)
    return ScoredRows(
        table.source.name,
        table.columns,
        MemoryStore(table.table, table.source.fingerprint),
        table.source.restore,
        str(data) if isinstance(data, (str, Path)) else None,
    )


def _check_no_splits(folder: Path) -> None:
    """DataError for a folder of several splits: they share rows, and some are to be tested on."""
    splits = [p.name.removesuffix(".manifest.json") for p in sorted(folder.glob("*.manifest.json")) if _is_of_split(p)]
    if len(splits) > 1:
        raise DataError(
            f"{folder} is a folder of splits: {', '.join(splits)}.",
            expected="one of them, or the file that they were selected from",
            try_next=str(folder / splits[0]),
        )


def _is_of_split(manifest: Path) -> bool:
    try:
        content = json.loads(manifest.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("command") == "select"


def _columns(store: Store, name: str, settings: Mapping[str, str | None]) -> Columns:
    remembered = remembered_columns(empty_table(store.schema))
    asked = {role: settings.get(argument) for role, argument in COLUMN_ARGUMENTS.items()}
    if remembered and not any(settings.values()):
        return remembered
    return recognise(store.head(FIRST_ROWS), asked, name, settings.get("preset"), remembered)


def _work_on(work: Callable[[pa.ChunkedArray], T], read: Read, name: str) -> T:
    return work(read.table()[name])
