"""Which column holds the question, the answers, the subject: recognised by name, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from curate.errors import ColumnError


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table by the role they play; None where the table has no such column."""

    question: str
    answers: str
    subject: str | None = None
    relation: str | None = None
    id: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Role to column name, for manifests."""
        return asdict(self)


# The first name that is there plays the role. PopQA calls its columns possible_answers, subj and prop.
USUAL_NAMES = {
    "question": ("question", "Question", "query"),
    "answers": ("possible_answers", "answers", "answer", "Answer"),
    "subject": ("subject", "subj", "entity"),
    "relation": ("relation", "prop"),
}

FLAGS = {role: f"--{role}-column" for role in ("question", "subject", "relation", "id")} | {
    "answers": "--answer-column"
}


def recognise(names: Sequence[str], overrides: Mapping[str, str | None], where: str) -> Columns:
    """The columns of a table with these `names`; `overrides` (role to column) come before the usual names.

    Raises ColumnError when a column that was asked for is absent, or when no question or answers column
    can be found. `where` names the table in the message.
    """
    wanted = {role: name for role, name in overrides.items() if name is not None}
    listed = ", ".join(map(repr, names))
    for role, name in wanted.items():
        if name not in names:
            raise ColumnError(
                f"{where} has no column {name!r} (asked for with {FLAGS[role]}).",
                expected=f"one of its columns: {listed}",
                try_next=f"{FLAGS[role]} NAME, with a name from that list",
            )
    usual = {role: next((n for n in tried if n in names), None) for role, tried in USUAL_NAMES.items()}
    found: dict[str, str | None] = {**usual, **wanted}
    for role in ("question", "answers"):
        if found[role] is None:
            raise ColumnError(
                f"{where} has no column that looks like the {role}; it has {listed}.",
                expected=f"a column named {', '.join(USUAL_NAMES[role])}",
                try_next=f"{FLAGS[role]} NAME, with a name from the file",
            )
    return Columns(**found)  # type: ignore[arg-type]
