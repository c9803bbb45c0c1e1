"""`read`: any QA dataset as a `QATable`, the input columns untouched beside what they mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from curate.datasets.answers import answer_text, choice_spelling, correct_choice, parse_answers, parse_list
from curate.datasets.columns import Columns, recognise
from curate.datasets.ids import ID_COLUMN, check_key, content_id, number_repeats
from curate.datasets.sources import Source, open_source
from curate.errors import ColumnError, DataError
from curate.records import Example

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = b"curate"


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
            return check_key(self.table[self.columns.id].to_pylist(), self.columns.id, self.source.name)
        fresh = number_repeats(
            content_id(e.question, e.answers, e.subject) for e in self._examples([""] * len(self), ())
        )
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
        return list(self._examples(self.ids, extra))

    def _examples(self, ids: Sequence[str], extra: Sequence[str]) -> Iterator[Example]:
        for name in extra:
            if name not in self.table.column_names:
                raise ColumnError(
                    f"{self.source.name} has no column {name!r}.",
                    expected=f"one of its columns: {', '.join(map(repr, self.table.column_names))}",
                    try_next="a name from that list",
                )
        roles = [self.columns.question, self.columns.answers, self.columns.subject, self.columns.relation]
        cells = [self._values(name) for name in roles]
        extras = {name: self._values(name) for name in extra}
        spelling = choice_spelling(cells[1]) if self.columns.choices else "text"
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
        return [None] * len(self) if name is None else self.table[name].to_pylist()


def read(
    data: Any,
    *,
    question_column: str | None = None,
    answer_column: str | None = None,
    subject_column: str | None = None,
    relation_column: str | None = None,
    choices_column: str | None = None,
    id_column: str | None = None,
) -> QATable:
    """Read a QA dataset: a path, a Hub id, a `datasets.Dataset`, a data frame, an Arrow table, a list of dicts.

    Columns are recognised by name (PopQA's and the usual ones); the arguments override. A file that curate
    wrote remembers its columns. Raises DataError when nothing can be read, and ColumnError when no question
    or answers column is found, or no row has an answer.

    >>> table = read([{"question": "Who wrote Emma?", "answer": "Jane Austen"}])
    >>> table.examples()[0].answers
    ('Jane Austen',)
    """
    source = open_source(data)
    overrides = {
        "question": question_column,
        "answers": answer_column,
        "subject": subject_column,
        "relation": relation_column,
        "choices": choices_column,
        "id": id_column,
    }
    remembered = _remembered_columns(source.table)
    columns = recognise(source.table.column_names, remembered | _given(overrides), source.name)
    table = QATable(source, columns)
    if not any(parse_answers(value) for value in source.table[columns.answers].to_pylist()):
        raise DataError(
            f"{source.name}: no row has an answer in the column {columns.answers!r}.",
            expected="at least one example with an answer",
            try_next="--answer-column NAME, with the column that holds the answers",
        )
    return table


def manifest_in(table: pa.Table) -> dict[str, Any]:
    """The manifest that curate left in a table's schema metadata; empty when there is none."""
    return json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))


def _remembered_columns(table: pa.Table) -> dict[str, str]:
    columns: Mapping[str, str | None] = manifest_in(table).get("columns", {})
    return {role: name for role, name in columns.items() if isinstance(name, str) and name in table.column_names}


def _given(overrides: Mapping[str, str | None]) -> dict[str, str]:
    return {role: name for role, name in overrides.items() if name is not None}
