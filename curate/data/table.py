"""`read`: any QA dataset as a table, the input columns untouched beside what they mean."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.answers import Spelling, answer_text, choice_spelling, correct_choice, parse_answers, parse_list
from curate.data.columns import Columns, cells_of, column_list, columns_of, columns_read, is_made, values_of
from curate.data.files import in_order, manifest_in, versions
from curate.data.ids import ID_COLUMN, check_key, content_ids, hash_texts, number_repeats
from curate.data.layouts import FIRST_ROWS, PRESETS, recognise
from curate.data.sources import Source, open_source
from curate.data.stores import MemoryStore, Read, Store, as_indices, empty_table, encode, open_store
from curate.errors import ColumnError, DataError
from curate.records import Example

RELATION = "relation"
COLUMN_ARGUMENTS: dict[str, str] = {
    role: f"{role}_column" for role in ("question", "subject", "relation", "choices", "id")
} | {"answers": "answer_column"}
"""The argument of `read` that names the column of a role."""

SLICE = 10_000
"""Rows that are Python objects at once while the first answer is looked for."""


@dataclass(frozen=True)
class QATable:
    """A table of examples: `table` as it came, `columns` says which column is the question, the answers, …"""

    source: Source
    columns: Columns

    @property
    def table(self) -> pa.Table:
        """The input, every column untouched and in order."""
        return self.source.table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def ids(self) -> list[str]:
        """One `curate_id` a row: the user's key, the ids the file already has, or a hash of the content."""
        if self.columns.id is not None:
            return check_key(self._values(self.columns.id), self.columns.id, self.source.name)
        fresh = number_repeats(content_ids((e.question, e.answers, e.subject) for e in self.iterate([""] * len(self))))
        if ID_COLUMN in self.table.column_names and self.table[ID_COLUMN].to_pylist() != fresh:
            return self._own_ids()
        return fresh

    def _own_ids(self) -> list[str]:
        """The ids of a file that curate wrote and somebody has filtered or reordered since."""
        if not manifest_in(self.table):
            raise ColumnError(
                f"{self.source.name} has a column {ID_COLUMN!r} that curate did not write.",
                expected="another name for that column, since curate adds one of its own",
                try_next=f"--id-column {ID_COLUMN}, if it is a complete and unique key",
            )
        return check_key(self.table[ID_COLUMN].to_pylist(), ID_COLUMN, self.source.name)

    def examples(self, extra: Sequence[str] = ()) -> list[Example]:
        """One Example a row, in order; `extra` names further columns whose values each example carries."""
        return list(self.iterate(self.ids, extra))

    def blank_answers(self) -> int:
        """How many answers were dropped because nothing, or only blanks, is in them."""
        return sum(parse_list(cell).count("") for cell in self._values(self.columns.answers))

    def iterate(
        self, ids: Sequence[str], extra: Sequence[str] = (), spelling: Spelling | None = None
    ) -> Iterator[Example]:
        """The examples with these `ids`; `spelling`: how the table of which this may be a part names choices."""
        for name in extra:
            if name not in self.table.column_names:
                raise ColumnError(
                    f"{self.source.name} has no column {name!r}.",
                    expected=f"one of its columns: {column_list(self.table.column_names)}",
                    try_next="a name from that list",
                )
        roles = [self.columns.question, self.columns.answers, self.columns.subject, self.columns.relation]
        cells = [self._values(name) for name in roles]
        extras = {name: self._values(name) for name in extra}
        spelling = spelling or (choice_spelling(cells[1]) if self.columns.choices else "text")
        for row, (id_, choices, question, answers, subject, relation) in enumerate(
            zip(ids, self._choices(), *cells, strict=True)
        ):
            yield Example(
                id=id_,
                question=answer_text(question),
                answers=correct_choice(answers, choices, spelling) if choices else parse_answers(answers),
                subject=answer_text(subject) or None,
                relation=answer_text(relation) or None,
                choices=choices,
                extra={name: values[row] for name, values in extras.items()},
            )

    def _choices(self) -> list[tuple[str, ...]]:
        columns = [self._values(name) for name in self.columns.choices]
        if len(columns) == 1:
            return [parse_list(cell) for cell in columns[0]]
        return [tuple(map(answer_text, cells)) for cells in zip(*columns, strict=True)] or [()] * len(self)

    def _values(self, name: str | None) -> list[Any]:
        if name is None:
            return [None] * len(self)
        if not is_made(name):
            return cells_of(self.table, name)
        if name not in self._made:
            self._made[name] = cells_of(self.table, name)
        return self._made[name]

    @cached_property
    def _made(self) -> dict[str, list[Any]]:
        """Texts made once (finding a subject by its template takes a while), by field."""
        return {}


def read(
    data: Any,
    *,
    preset: str | None = None,
    split: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    subject_column: str | None = None,
    relation_column: str | None = None,
    choices_column: str | None = None,
    id_column: str | None = None,
) -> QATable:
    """Read a QA dataset: a path, a URL, a Hub id, a `datasets.Dataset`, a data frame, an Arrow table, a list of dicts.

    Known layouts are recognised from columns and values; `preset` forces one and the column arguments override it:
    each is a column, or a dotted path into one (`answer.aliases`). `split` names a split of a Hub dataset. A file that
    curate wrote remembers its columns; what was read already is returned as it is. Raises DataError when nothing can
    be read or no row has an answer, and ColumnError when no question or answers column is found.

    Examples:
        >>> table = read([{"question": "Who wrote Emma?", "answer": "Jane Austen"}])
        >>> table.examples()[0].answers
        ('Jane Austen',)
    """
    if isinstance(data, QATable):
        return data
    source = open_source(data, split)
    given = locals()
    overrides = {role: given[argument] for role, argument in COLUMN_ARGUMENTS.items()}
    columns = recognise(source.table, overrides, source.name, preset, remembered_columns(source.table))
    table = _with_file_relations(source, columns)
    starts = range(0, len(table), SLICE)
    check_answers((table.table.slice(start, SLICE) for start in starts), columns.answers, source.name)
    return table


def check_answers(batches: Iterable[pa.Table], answers: str, where: str) -> None:
    """DataError unless some row has an answer; looks no further than the first that has one."""
    if not any(parse_answers(cell) for batch in batches for cell in cells_of(batch, answers)):
        raise DataError(
            f"{where}: no row has an answer in the column {answers!r}.",
            expected="at least one example with an answer",
            try_next="--answer-column NAME, with the column that holds the answers",
        )


def remembered_columns(table: pa.Table) -> Columns | None:
    """The columns that the manifest in a table's metadata names, those that are still there; None without any."""
    found = manifest_in(table).get("columns", {})
    roles = {field.name: found[field.name] for field in fields(Columns) if found.get(field.name)}
    choices = tuple(roles.pop("choices", ()))
    there = {
        role: name
        for role, name in roles.items()
        if role == "preset" or columns_of(name, table.column_names) is not None
    }
    if "question" not in there or "answers" not in there or not set(choices) <= set(table.column_names):
        return None
    return Columns(**there, choices=choices)


def _with_file_relations(source: Source, columns: Columns) -> QATable:
    """The table, with a column `relation` from the names of its files where the rows do not tell the relation."""
    pattern = PRESETS[columns.preset].relation_file if columns.preset in PRESETS else None
    matches = [re.fullmatch(pattern, file) for file, _ in source.files] if pattern else []
    if not matches or None in matches or RELATION in source.table.column_names:
        return QATable(source, columns)
    if columns.relation is not None and None not in cells_of(source.table, columns.relation):
        return QATable(source, columns)
    relations = [match[1] for match, (_, rows) in zip(matches, source.files, strict=True) if match for _ in range(rows)]
    table = source.table.append_column(RELATION, [relations])
    return QATable(replace(source, table=table), replace(columns, relation=RELATION))


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


def make_manifest(command: str, data: QATable, **details: Any) -> dict[str, Any]:
    """A manifest for an output of `command` on `data`.

    It holds no time and no folder name: the same inputs and options give the same bytes.
    """
    origin = {"name": data.source.name, "sha256": data.source.fingerprint, "rows": len(data)}
    return manifest_for(command, origin, data.columns.as_dict(), **details)


def manifest_for(
    command: str, origin: Mapping[str, Any], columns: Mapping[str, str | None], **details: Any
) -> dict[str, Any]:
    """The same from its parts: name, SHA-256 and rows of the input, and its columns by role."""
    return {
        "command": command,
        "versions": versions("pyarrow", "numpy"),
        "input": dict(origin),
        "columns": dict(columns),
        **details,
    }
