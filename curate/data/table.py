"""`read`: any QA dataset as a `QATable`, the input columns untouched beside what they mean."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.answers import (
    CutShortError,
    NotTextError,
    Spelling,
    answer_text,
    choice_spelling,
    correct_choice,
    parse_answers,
    parse_list,
)
from curate.data.columns import (
    Columns,
    cells_of,
    choices_of,
    column_list,
    columns_of,
    columns_read,
    unmasked,
    values_of,
)
from curate.data.files import METADATA_KEY, manifest_in, manifest_path, read_manifest, splits_in, versions
from curate.data.ids import (
    ID_COLUMN,
    DuplicateCounter,
    check_key,
    content_hashes,
    hash_texts,
    hex_ids,
    key_texts,
    number_ids,
)
from curate.data.layouts import FIRST_ROWS, PRESETS, default_template, recognise
from curate.data.sources import check_named, open_data, stem
from curate.data.stores import MemoryRows, Rows, as_arrow, encode, in_order
from curate.errors import ColumnError, DataError, setting
from curate.prompts import TEMPLATES, Template, count_chats, find_template
from curate.records import Example
from curate.settings import ReadSettings, takes

log = logging.getLogger(__name__)

RELATION = "relation"
T = TypeVar("T")

SLICE = 10_000
"""Rows that are Python objects at once while an answer is looked for."""


@dataclass(frozen=True)
class QATable:
    """A table of examples: where its `rows` lie, and by `roles` which column is the question, the answers, …

    `path` is what it was opened by if that was a path or URL. Rows of Parquet files are read when they are asked for,
    and only the columns that are.
    """

    rows: Rows
    roles: Columns
    path: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """What messages and manifests call it."""
        return self.rows.name

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, and what the metadata says."""
        return self.rows.schema

    @property
    def manifest(self) -> dict[str, Any]:
        """How the table was made; empty when curate did not make it."""
        return manifest_in(self.schema)

    def template(self, by: str | None = None, asked: str | None = None, system: str | None = None) -> Template:
        """What its questions are asked with: as its manifest tells, or as suits its layout. `by` is a score.

        If it is `asked` for, another one, and in chats another `system`; where there are choices, chats show them.
        """
        if whole_prompts(self.manifest):
            found = TEMPLATES["plain"]
        else:
            found = template_in(self.manifest, by) or TEMPLATES[default_template(self.roles)]
        if asked or system is not None:
            found = find_template(asked or found, system)
        return found.with_choices() if self.roles.choices else found

    def chats(self) -> dict[str, int]:
        """How many rows have a `system` prompt, how many have `earlier` turns; empty where the data is no chats."""
        if self.roles.turns is None:
            return {}
        field = self.roles.turns
        return count_chats(cell for batch in self._slices([field]) for cell in cells_of(batch, field))

    @property
    def fingerprint(self) -> str:
        """Changes whenever the content does."""
        return self.rows.fingerprint

    def hashing(self) -> AbstractContextManager[None]:
        """Make the fingerprint while the block does something else; given up, for now, if that fails."""
        return self.rows.hashing()

    def restore(self, table: pa.Table) -> Any:
        """A table of these rows, or some of them, as the kind of thing that was given."""
        return self.rows.restore(table)

    @cached_property
    def table(self) -> pa.Table:
        """The input, every column untouched and in order."""
        return self.rows.columns()

    def table_of(self, fields: Sequence[str]) -> pa.Table:
        """All rows of the columns that some fields read."""
        return self.rows.columns(columns_read(fields, self.schema.names))

    def column(self, field: str) -> pa.ChunkedArray:
        """One whole column, or what lies at a dotted path, or what is made of columns. (N,)"""
        return values_of(self.table_of([field]), field)

    def encoded(self, name: str) -> pa.ChunkedArray:
        """The same, a column of plain values dictionary-encoded, so that repeated texts take little memory. (N,)"""
        if name not in self.schema.names or pa.types.is_nested(self.schema.field(name).type):
            return self.column(name)
        parts = self.map(lambda _, batch: encode(batch[name]), [name], dictionaries=True)
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks])

    def batches(self, names: Sequence[str] | None = None, rows: range | None = None) -> Iterator[pa.Table]:
        """All rows in order, or a stretch of them, all columns or some."""
        return (read() for _, read in self.rows.pieces(names, rows))

    def map(
        self, work: Callable[[int, pa.Table], T], names: Sequence[str] | None = None, dictionaries: bool = False
    ) -> Iterator[T]:
        """What `work` makes of every batch, in order; it is given the number of the first row too. Threads do it.

        With `dictionaries`, texts that repeat may come as such; `in_types_of` the schema makes them texts again.
        """
        pieces = self.rows.pieces(names, None, dictionaries)
        return in_order(partial(lambda start, read: work(start, read()), *piece) for piece in pieces)

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """All columns of some rows; their numbers (k,) must ascend."""
        parts, start = [pa.Table.from_batches([], self.schema)], 0
        for batch in self.batches():
            first, last = np.searchsorted(rows, (start, start + batch.num_rows))
            parts.append(batch.take(as_arrow(rows[first:last] - start)))
            start += batch.num_rows
        return pa.concat_tables(parts)

    @cached_property
    def ids(self) -> list[str]:
        """One `curate_id` a row: the user's key, the ids the file already has, or a hash of the content."""
        ids: list[str] = self._id_column().to_pylist()
        return ids

    def id_hashes(self) -> NDArray[np.uint64]:
        """A 64-bit hash of the id of every row: `curate_id` where the table has it, else made. (N,)"""
        if ID_COLUMN in self.schema.names:
            return np.concatenate(list(self.map(lambda _, batch: hash_texts(batch[ID_COLUMN]), [ID_COLUMN])))
        return hash_texts(self._id_column())

    def check_ids(self) -> None:
        """ColumnError if the ids that the data brings cannot be used: a key, or a column `curate_id`."""
        if self.roles.id is not None:
            check_key(self.column(self.roles.id), self.roles.id, self.name)
        elif ID_COLUMN in self.schema.names and self.manifest:  # somebody may have put files of curate together
            check_key(self.column(ID_COLUMN), ID_COLUMN, self.name)
        elif ID_COLUMN in self.schema.names and self.column(ID_COLUMN).to_pylist() != self._made_ids().to_pylist():
            raise ColumnError(
                f"{self.name} has a column {ID_COLUMN!r} that curate did not write.",
                expected="another name for that column, since curate adds one of its own",
                try_next=f"{setting('id_column', ID_COLUMN)}, if it is a complete and unique key",
            )

    def _id_column(self) -> pa.ChunkedArray:
        self.check_ids()
        key = self.roles.id or (ID_COLUMN if ID_COLUMN in self.schema.names else None)
        return self._made_ids() if key is None else key_texts(self.column(key))

    def _made_ids(self) -> pa.ChunkedArray:
        ids = IdNumbers(self)
        batches = self.batches(columns_read(self.roles.fields(), self.schema.names))
        return pa.chunked_array([ids.of(batch) for batch in batches], pa.string())

    def examples(self, extra: Sequence[str] = ()) -> list[Example]:
        """One Example a row, in order; `extra` names further columns whose values each example carries."""
        for name in extra:
            if columns_of(name, self.schema.names) is None:
                raise ColumnError(
                    f"{self.name} has no column {name!r}.",
                    expected=f"one of its columns: {column_list(self.schema.names)}",
                    try_next="a name from that list",
                )
        ids = iter(self.ids)
        batches = self.batches(columns_read([*self.roles.fields(), *extra], self.schema.names))
        return [e for batch in batches for e in self.examples_of(batch, islice(ids, batch.num_rows), extra)]

    def examples_of(
        self, batch: pa.Table, ids: Iterable[str] | None = None, extra: Sequence[str] = ()
    ) -> Iterator[Example]:
        """The examples of some rows, which have the columns that the roles and `extra` need."""
        roles = self.roles
        spelling: Spelling = self.spelling if roles.choices else "text"
        fields = (roles.question, roles.answers, roles.subject, roles.relation)
        ids = [""] * batch.num_rows if ids is None else ids
        with _naming(self.name):
            cells = [[None] * batch.num_rows if field is None else cells_of(batch, field) for field in fields]
            turns = [()] * batch.num_rows if roles.turns is None else cells_of(batch, roles.turns)
            extras = {name: cells_of(batch, name) for name in extra}
            for row, (id_, choices, question, answers, subject, relation) in enumerate(
                zip(ids, choices_of(batch, roles.choices), *cells, strict=True)
            ):
                yield Example(
                    id=id_,
                    question=unmasked(answer_text(question)),
                    answers=correct_choice(answers, choices, spelling) if roles.choices else parse_answers(answers),
                    subject=answer_text(subject) or None,
                    relation=answer_text(relation) or None,
                    choices=choices[0],
                    extra={name: values[row] for name, values in extras.items()},
                    turns=turns[row],
                )

    def check_answers(self) -> None:
        """DataError unless some row has an answer; reads no further than to the first that has one."""
        if not any(map(parse_answers, self._answer_cells())):
            raise DataError(
                f"{self.name}: no row has an answer in the column {self.roles.answers!r}.",
                expected="at least one example with an answer",
                try_next=f"{setting('answer_column', 'NAME')}, with the column that holds the answers",
            )

    @cached_property
    def spelling(self) -> Spelling:
        """How the answers name the right choices; one way for all rows, and logged where they count from 1."""
        choices = self.roles.choices
        pairs = (
            pair
            for batch in self._slices([self.roles.answers, *choices])
            for pair in zip(cells_of(batch, self.roles.answers), choices_of(batch, choices), strict=True)
        )
        numbered = len(choices) > 1 and all(name.endswith(str(place)) for place, name in enumerate(choices, 1))
        spelling = choice_spelling(pairs, numbered)
        if spelling == "count":
            why = "so do the columns of choices" if numbered else "one is their number"
            log.warning("%s: the answers count the choices from 1: none is 0, and %s.", self.name, why)
        return spelling

    def blank_answers(self) -> int:
        """How many answers were dropped because nothing, or only blanks, is in them."""
        return sum(parse_list(cell).count("") for cell in self._answer_cells())

    def _answer_cells(self) -> Iterator[Any]:
        for part in self._slices([self.roles.answers]):
            yield from cells_of(part, self.roles.answers)

    def _slices(self, fields: Sequence[str]) -> Iterator[pa.Table]:
        for batch in self.batches(columns_read(fields, self.schema.names)):
            yield from (batch.slice(start, SLICE) for start in range(0, batch.num_rows, SLICE))


class IdNumbers:
    """Makes the ids of a table's rows from their content, batch after batch; repeats are numbered.

    `before` rows come before the first batch: what is in them counts.
    """

    def __init__(self, data: QATable, before: int = 0) -> None:
        self._data = data
        self._counter = DuplicateCounter(len(data))
        if before:
            for batch in data.batches(columns_read(data.roles.fields(), data.schema.names), range(before)):
                self._counter.add(self._hashes(batch))

    def of(self, batch: pa.Table) -> pa.Array:
        """The ids of the next rows. (N,)"""
        hashes = self._hashes(batch)
        return number_ids(hex_ids(hashes), *self._counter.add(hashes))

    def _hashes(self, batch: pa.Table) -> NDArray[np.uint64]:
        with _naming(self._data.name):
            return content_hashes(batch, self._data.roles, lambda: list(self._data.examples_of(batch)))


@contextmanager
def _naming(table: str) -> Iterator[None]:
    """An error about one cell says which table it is in."""
    try:
        yield
    except NotTextError as error:
        raise DataError(f"{table}: {error.found}", error.expected, "mend or leave out that row") from error
    except CutShortError as error:
        raise DataError(f"{table}: {error.found}", error.expected, error.try_next) from error


@takes(ReadSettings)
def read(data: Any, **options: Any) -> QATable:
    """Read a QA dataset: a path, a URL, a Hub id, a `datasets.Dataset`, a data frame, an Arrow table, a list of dicts.

    Known layouts are recognised from columns and values; `preset` forces one and the column arguments override it:
    each is a column, or a dotted path into one (`answer.aliases`). `split` names a split of a Hub dataset. A file that
    curate wrote remembers its columns; what was read already is returned as it is. Parquet files, on this machine or in
    some storage, are left where they are until rows are asked for. Raises DataError when nothing can be read, when no
    row has an answer, and for a folder of several splits, and ColumnError when no question or answers column is found.

    Examples:
        >>> table = read([{"question": "Who wrote Emma?", "answer": "Jane Austen"}])
        >>> table.examples()[0].answers
        ('Jane Austen',)
    """
    return read_with(data, ReadSettings.of(options))


def read_with(data: Any, settings: ReadSettings, unless_remembered: bool = False) -> QATable:
    """The same; `unless_remembered`, the settings are for data that does not know its columns itself."""
    if isinstance(data, QATable):
        return data
    path = str(data) if isinstance(data, (str, Path)) else None
    if path is not None:
        check_named(path)
    if path is not None and len(splits := splits_in(Path(path).expanduser())) > 1:
        raise DataError(  # they share rows, and some are to be tested on
            f"{splits[0].parent} is a folder of splits: {', '.join(split.name for split in splits)}.",
            expected="one of them, or the file that they were selected from",
            try_next=str(splits[0]),
        )
    rows = with_manifest_beside(open_data(data, settings.split), path)
    remembered = remembered_columns(rows.schema)
    if remembered and (unless_remembered or not settings.given()):
        return _with_file_relations(QATable(rows, remembered, path))
    head = rows.head(FIRST_ROWS)
    with _naming(rows.name):
        roles = recognise(head, settings, rows.name, remembered)
    table = _with_file_relations(QATable(rows, roles, path))
    if not any(map(parse_answers, cells_of(head, roles.answers))):
        table.check_answers()
    return table


def remembered_columns(schema: pa.Schema) -> Columns | None:
    """The columns that the manifest in a table's metadata names, those that are still there; None without any."""
    found = manifest_in(schema).get("columns", {})
    roles = {field.name: found[field.name] for field in fields(Columns) if found.get(field.name)}
    choices = tuple(roles.pop("choices", ()))
    there = {
        role: name for role, name in roles.items() if role == "preset" or columns_of(name, schema.names) is not None
    }
    if "question" not in there or "answers" not in there or None in (columns_of(c, schema.names) for c in choices):
        return None
    return Columns(**there, choices=choices)


def with_manifest_beside(rows: Rows, path: str | None) -> Rows:
    """Rows of one file of text, with the manifest that lies beside it, since there is no place for it inside."""
    if path is None or not isinstance(rows, MemoryRows):
        return rows
    try:
        beside = manifest_path(Path(path).expanduser())
        if not beside.is_file() or read_manifest(beside)["command"] != "select":
            return rows
    except (OSError, ValueError):  # a URL, or a folder without a name
        return rows
    metadata = {**(rows.schema.metadata or {}), METADATA_KEY: beside.read_bytes()}
    return replace(rows, table=rows.table.replace_schema_metadata(metadata))


def whole_prompts(manifest: Mapping[str, Any]) -> bool:
    """Whether the questions of a file are prompts already, written so by `curate select`: not where they are chats."""
    export = manifest.get("export", {})
    return bool(export.get("format") == "prompt-completion" and "system" not in export["template"])


def template_in(manifest: Mapping[str, Any], by: str | None = None) -> Template | None:
    """The template of a file's questions, as its manifest tells; None where no score was made with one."""
    told = asked_in(manifest, by)
    return Template(**told["template"]) if told else None


def asked_in(manifest: Mapping[str, Any], by: str | None = None) -> Mapping[str, Any] | None:
    """What a manifest tells of how questions were asked: of the score `by`, the one selected by, or the last one.

    Not of `known`, which asks in a way of its own, whatever is said, unless in a chat.
    """
    if "template" in manifest.get("export", {}):
        return manifest["export"]
    by = by or manifest.get("selection", {}).get("by")
    asking = (e for e in manifest.get("estimators", []) if "template" in e)
    told = {e["name"]: e for e in asking if e.get("estimator") != "known" or "system" in e["template"]}
    if told:
        return told.get(by or "") or list(told.values())[-1]
    earlier = manifest.get("scored") or manifest.get("made_from")
    return asked_in(earlier, by) if earlier else None


def _with_file_relations(data: QATable) -> QATable:
    """The table, with a column `relation` from the names of its files where the rows do not tell the relation."""
    rows, roles = data.rows, data.roles
    pattern = PRESETS[roles.preset].relation_file if roles.preset in PRESETS else None
    matches = [re.fullmatch(pattern, stem(file)) for file, _ in rows.files] if pattern else []
    if not matches or None in matches or RELATION in rows.schema.names:
        return data
    if roles.relation is not None and not data.column(roles.relation).null_count:
        return data
    relations = [match[1] for match, (_, count) in zip(matches, rows.files, strict=True) if match for _ in range(count)]
    table = data.table.append_column(RELATION, [relations])
    named = MemoryRows(table, rows.name, rows.fingerprint, rows.restore, rows.files)
    return replace(data, rows=named, roles=replace(roles, relation=RELATION))


def make_manifest(command: str, data: QATable, **details: Any) -> dict[str, Any]:
    """A manifest for an output of `command` on `data`.

    It holds no time and no folder name: the same inputs and options give the same bytes.
    """
    return {
        "command": command,
        "versions": versions("pyarrow", "numpy"),
        "input": {"name": data.name, "sha256": data.fingerprint, "rows": len(data)},
        "columns": data.roles.as_dict(),
        **details,
    }
