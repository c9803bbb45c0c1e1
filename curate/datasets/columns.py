"""Which column holds the question, the answers, the subject: recognised by name, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curate.errors import ColumnError


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table by the role they play; None where the table has no such column."""

    question: str
    answers: str
    subject: str | None = None
    relation: str | None = None
    id: str | None = None
    choices: tuple[str, ...] = ()
    """One column of lists, or one column a choice, in order."""

    def as_dict(self) -> dict[str, Any]:
        """Role to column name, for manifests."""
        return asdict(self)


# The first name that is there plays the role. PopQA calls its columns possible_answers, subj and prop.
USUAL_NAMES = {
    "question": ("question", "Question", "query"),
    "answers": ("possible_answers", "answers", "answer", "Answer"),
    "subject": ("subject", "subj", "entity"),
    "relation": ("relation", "prop"),
}

# The layouts of multiple choice: a list (MMLU on the Hub), or a column each (MMLU's CSV files, with a header or not).
USUAL_CHOICES = (("choices",), ("choice0", "choice1", "choice2", "choice3"), ("A", "B", "C", "D"))

FLAGS = {role: f"--{role}-column" for role in ("question", "subject", "relation", "id", "choices")} | {
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
    choices = _choices(names, wanted.get("choices"))
    if choices and "relation" not in wanted and "subject" not in wanted:
        # MMLU's `subject` is a school subject: what kind of thing is asked, not whom it is asked about.
        found |= {"subject": None, "relation": found["relation"] or found["subject"]}
    return Columns(**(found | {"choices": choices}))  # type: ignore[arg-type]


def _choices(names: Sequence[str], wanted: str | None) -> tuple[str, ...]:
    if wanted is not None:
        return (wanted,)
    return next((usual for usual in USUAL_CHOICES if all(name in names for name in usual)), ())
