"""The known datasets, and how they are recognised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from curate.data.answers import parse_answers
from curate.data.columns import (
    Columns,
    cells_of,
    column_list,
    columns_of,
    columns_read,
    is_made,
    paths_of,
    try_column,
)
from curate.errors import ColumnError, DataError, setting
from curate.settings import ReadSettings


@dataclass(frozen=True, slots=True)
class Preset:
    """A known layout, in one or more versions.

    A version fits a table if its question, answers and choices, a subject that is made, and every field of `tells`
    give something in half of the first rows or more; a relation, and a subject that is a column, are taken where they
    are there. `exactly` asks for a table without further columns. `template` is the prompt that suits the layout:
    `qa` for questions, `plain` for texts to go on with. `relation_file` finds the relation in the name of a file,
    where the rows do not tell it.
    """

    name: str
    versions: tuple[Columns, ...]
    tells: tuple[str, ...] = ()
    exactly: bool = False
    template: str = "qa"
    relation_file: str | None = None


# The first that fits is taken, so the layouts that ask for most stand first.
_ALL = (
    Preset(
        "popqa",
        (
            Columns("question", "possible_answers", "subj", "prop"),
            Columns("question", "all_of(answer, aliases)", "popqa_subject(question)", "popqa_relation(question)"),
        ),
    ),
    Preset(
        "counterfact",
        (
            Columns(
                "statement(requested_rewrite.prompt, requested_rewrite.subject)",
                "requested_rewrite.target_true.str",
                "requested_rewrite.subject",
                "requested_rewrite.relation_id",
            ),
            Columns("prompt", "target_true", "subject", "relation_id"),
        ),
        template="plain",
    ),
    Preset(
        "pararel",
        (
            Columns("statement(query, subject)", "object", "subject", "relation"),
            Columns("statement(pattern, sub_label)", "obj_label", "sub_label", "predicate_id"),
        ),
        template="plain",
    ),
    Preset(
        "lama",
        (
            Columns("statement(template, sub_label)", "obj_label", "sub_label", "predicate_id"),
            Columns("statement(masked_sentences)", "obj_label", "sub_label", "predicate_id"),
            Columns("statement(masked_sentence)", "obj_label", "sub_label", "predicate_id"),
            Columns("statement(evidences.masked_sentence)", "obj_label", "sub_label", "predicate_id"),
        ),
        template="plain",
        relation_file=r"(P\d+|date_of_birth|place_of_birth|place_of_death)(_test)?",
    ),
    Preset(
        "mmlu",
        (
            Columns("question", "answer", None, "subject", None, ("choices",)),
            Columns("question", "answer", None, "subject", None, ("choice0", "choice1", "choice2", "choice3")),
            Columns("question", "answer", None, "subject", None, ("A", "B", "C", "D")),
        ),
        relation_file=r"(.+)_(dev|val|test|train)",
    ),
    Preset("triviaqa", (Columns("question", "all_of(answer.value, answer.aliases)"),)),
    Preset("squad", (Columns("question", "answers.text", "title"),), tells=("context", "answers.answer_start")),
    Preset("webquestions", (Columns("question", "answers", "page_name(url)"),)),
    Preset(
        "simpleqa",
        (
            Columns("problem", "as_text(answer)", None, "metadata.topic"),
            Columns("problem", "as_text(answer)", None, "topic"),
        ),
    ),
    Preset(
        "entityquestions",
        (Columns("question", "answers", "entityquestions_subject(question)", "entityquestions_relation(question)"),),
        relation_file=r"(P\d+)\.(train|dev|test)",
    ),
    Preset("nq-open", (Columns("question", "answer"),), tells=("listed(answer)",), exactly=True),
    Preset(
        "messages",
        (
            Columns("last_user(messages)", "last_assistant(messages)"),
            Columns("last_turn(prompt)", "last_assistant(completion)"),
        ),
    ),
    Preset("sharegpt", (Columns("last_user(conversations)", "last_assistant(conversations)"),)),
    Preset(
        "alpaca",
        (Columns("with_input(instruction, input)", "as_text(output)"), Columns("instruction", "as_text(output)")),
    ),
    Preset(
        "prompt-completion",
        (Columns("prompt", "as_text(completion)"),),
        template="plain",
    ),
)
PRESETS = {preset.name: preset for preset in _ALL}


def default_template(columns: Columns) -> str:
    """The template for a dataset with these columns: `mmlu` with choices, else the one of its preset, else `qa`."""
    if columns.choices:
        return "mmlu"
    return PRESETS[columns.preset].template if columns.preset in PRESETS else "qa"


def find_preset(name: str) -> Preset:
    """The preset of that name; DataError when there is none."""
    if name not in PRESETS:
        raise DataError(
            f"There is no preset {name!r}.",
            expected=f"one of {', '.join(PRESETS)}",
            try_next=setting("preset", "popqa"),
        )
    return PRESETS[name]


FIRST_ROWS = 50
"""So many rows are looked at."""

COLUMN_SETTINGS = {
    "question": "question_column",
    "answers": "answer_column",
    "subject": "subject_column",
    "relation": "relation_column",
    "choices": "choices_column",
    "id": "id_column",
}
"""The setting that names the column of a role."""

# Where no preset fits: the first name that is there plays the role.
USUAL_NAMES = {
    "question": ("question", "Question", "query"),
    "answers": ("possible_answers", "answers", "answer", "Answer"),
    "subject": ("subject", "subj", "entity"),
    "relation": ("relation", "prop"),
}


def recognise(head: pa.Table, settings: ReadSettings, where: str, remembered: Columns | None = None) -> Columns:
    """The fields of a table by role, from its first rows.

    The columns that the settings name come first, then the preset they name, the columns `remembered` from the file's
    own manifest, the first preset that fits, the usual names. Raises ColumnError when a field that was asked for is
    absent, when the table has not the columns of the preset, or when nothing looks like the question or the answers.
    `where` names the table in messages.
    """
    asked = {role: getattr(settings, option) for role, option in COLUMN_SETTINGS.items()}
    wanted: dict[str, Any] = {role: field for role, field in asked.items() if field is not None}
    for role, field in wanted.items():
        _check_field(head, field, COLUMN_SETTINGS[role], where)
    if settings.preset is not None:
        found = _forced(head, find_preset(settings.preset), where)
    else:
        found = remembered or _fitting(head) or _by_name(head.column_names, wanted, where)
    if wanted.get("subject") == found.relation:
        found = replace(found, relation=None)
    return replace(found, **wanted | ({"choices": (wanted["choices"],)} if "choices" in wanted else {}))


def _check_field(head: pa.Table, field: str, option: str, where: str) -> None:
    """Raise ColumnError unless the table has the field; `option` is the setting that asked for it."""
    columns = columns_of(field, head.column_names)
    if columns is None:
        raise ColumnError(
            f"{where} has no column {field!r} (asked for with {setting(option)}).",
            expected=f"one of its columns: {column_list(head.column_names)}",
            try_next=try_column(option, field, head.column_names),
        )
    if field not in columns and head.num_rows and not any(cell is not None for cell in cells_of(head, field)):
        raise ColumnError(
            f"{where} has nothing at {field!r} (asked for with {setting(option)}) in its first {head.num_rows} rows.",
            expected=f"a field of {columns[0]!r}, which holds {head.schema.field(columns[0]).type}",
            try_next=f"{setting(option, f'{columns[0]}.NAME')}, with a name from that list",
        )


def _forced(head: pa.Table, preset: Preset, where: str) -> Columns:
    """The first version of a preset that fits, or else that the table has the columns for."""
    found = list(_versions(head, preset))
    if not found:
        needed = " or ".join(", ".join(paths_of(*_needed(version))) for version in preset.versions)
        raise ColumnError(
            f"{where} has not the columns of the preset {preset.name!r}; it has {column_list(head.column_names)}.",
            expected=needed,
            try_next=f"leave out {setting('preset')}, or name the columns with {setting('question_column')} and "
            f"{setting('answer_column')}",
        )
    return next((columns for columns, fits in found if fits), found[0][0])


def _fitting(head: pa.Table) -> Columns | None:
    """The first version of any preset that fits."""
    found = (version for preset in PRESETS.values() for version in _versions(head, preset))
    return next((columns for columns, fits in found if fits), None)


def _versions(head: pa.Table, preset: Preset) -> Iterator[tuple[Columns, bool]]:
    """The versions of a preset that the table has the columns for, and whether they fit."""
    for version in preset.versions:
        if columns := _present(head, version, preset):
            yield columns, _fits(head, version, preset)


def _present(head: pa.Table, version: Columns, preset: Preset) -> Columns | None:
    """The version with those roles that the table has the columns for; None if it lacks question, answers, choices.

    A column that is named like its role comes before a text made for it.
    """
    names = head.column_names
    if any(columns_of(field, names) is None for field in _needed(version)):
        return None
    roles: dict[str, Any] = {"preset": preset.name}
    for role in ("subject", "relation"):
        field = getattr(version, role)
        school_subject = role == "subject" and version.choices  # MMLU's `subject` is what kind of thing is asked
        usual = None if school_subject else next((name for name in USUAL_NAMES[role] if name in names), None)
        if field is None or columns_of(field, names) is None or (is_made(field) and usual):
            roles[role] = usual
    return replace(version, **roles)


def _needed(version: Columns) -> list[str]:
    return [version.question, version.answers, *version.choices]


def _fits(head: pa.Table, version: Columns, preset: Preset) -> bool:
    needed = [*_needed(version), *preset.tells]
    if version.subject and is_made(version.subject):
        needed.append(version.subject)
    if any(columns_of(field, head.column_names) is None for field in needed):
        return False
    if preset.exactly and set(head.column_names) != set(columns_read(needed, head.column_names)):
        return False
    return all(_gives(head, field) for field in needed)


def _gives(head: pa.Table, field: str) -> bool:
    """Whether a field gives something in at least half of the rows."""
    cells = cells_of(head, field)
    return 2 * sum(bool(parse_answers(cell)) for cell in cells) >= len(cells)


def _by_name(names: Sequence[str], wanted: Mapping[str, str], where: str) -> Columns:
    found = {role: next((n for n in tried if n in names), None) for role, tried in USUAL_NAMES.items()}
    for role in ("question", "answers"):
        if role not in wanted and found[role] is None:
            raise ColumnError(
                f"{where} has no column that looks like the {role}; it has {column_list(names)}.",
                expected=f"a column named {', '.join(USUAL_NAMES[role])}, or a known layout: {', '.join(PRESETS)}",
                try_next=f"{setting(COLUMN_SETTINGS[role], 'NAME')}, with a name from the file",
            )
    if "choices" in wanted:
        found |= {"subject": None, "relation": found["relation"] or found["subject"]}
    return Columns(found["question"] or "", found["answers"] or "", found["subject"], found["relation"])
