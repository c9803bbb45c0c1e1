"""Which part of a table is the question, the answers, the subject: a field for every role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields of a table by the role they play; None where the table has no such field.

    A field is a column, a dotted path into one, or a text made of such (fields.py). `preset` is the known layout
    they were taken from.
    """

    question: str
    answers: str
    subject: str | None = None
    relation: str | None = None
    id: str | None = None
    choices: tuple[str, ...] = ()
    """One field of lists, or one field a choice, in order."""
    preset: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Role to field, for manifests."""
        return asdict(self)

    def fields(self) -> tuple[str, ...]:
        """All fields, each once."""
        named = (self.question, self.answers, self.subject, self.relation, self.id, *self.choices)
        return tuple(dict.fromkeys(name for name in named if name is not None))


FLAGS = {role: f"--{role}-column" for role in ("question", "subject", "relation", "id", "choices")} | {
    "answers": "--answer-column"
}

MOST_NAMES = 30


def nearest(name: str, names: Sequence[str]) -> str:
    """For a message: which of the names may have been meant.

    >>> nearest("veiws", ["question", "views"])
    'views'
    >>> nearest("popularity", ["question", "views"])
    'NAME, with a name from that list'
    """
    alike = get_close_matches(name, names, n=1)
    return alike[0] if alike else "NAME, with a name from that list"


def listed(names: Sequence[str]) -> str:
    """Column names for a message, the first of very many."""
    shown = ", ".join(map(repr, names[:MOST_NAMES]))
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown
