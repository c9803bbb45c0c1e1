"""`read`: any QA dataset as a `QATable`, the input columns untouched beside what they mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from curate.datasets.answers import Spelling, answer_text, choice_spelling, correct_choice, parse_answers, parse_list
from curate.datasets.columns import Columns, listed
from curate.datasets.fields import cells_of, columns_of, is_made
from curate.datasets.ids import ID_COLUMN, check_key, content_ids, number_repeats
from curate.datasets.presets import PRESETS
from curate.datasets.recognise import recognise
from curate.datasets.sources import Source, open_source
from curate.errors import ColumnError, DataError
from curate.records import Example

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = b"curate"
RELATION = "relation"
COLUMN_ARGUMENTS = {role: f"{role}_column" for role in ("question", "subject", "relation", "choices", "id")} | {
    "answers": "answer_column"
}
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
                    expected=f"one of its columns: {listed(self.table.column_names)}",
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


def manifest_in(table: pa.Table) -> dict[str, Any]:
    """The manifest that curate left in a table's schema metadata; empty when there is none."""
    return json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))


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
