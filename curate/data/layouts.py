"""The known datasets, and how they are recognised."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import pyarrow as pa

from curate.data.answers import (
    ALIASES,
    NotTextError,
    answer_text,
    choice_spelling,
    correct_choice,
    misspelled,
    parse_answers,
    parse_list,
    spelled,
)
from curate.data.columns import (
    Columns,
    cells_of,
    choices_of,
    column_list,
    columns_of,
    columns_read,
    is_made,
    paths_of,
    statement,
    try_column,
)
from curate.errors import ColumnError, DataError, setting
from curate.settings import ReadSettings

log = logging.getLogger(__name__)


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
            Columns("Question", "Answer", None, "subject", None, ("A", "B", "C", "D")),
            Columns("question", "answer", None, "subject", None, ("options",)),
            Columns("question", "answerKey", None, "subject", None, ("choices",)),
            Columns("question.stem", "answerKey", None, "subject", None, ("question.choices",)),
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
            Columns("last_user(messages)", "last_assistant(messages)", turns="turns_before(messages)"),
            Columns("last_turn(prompt)", "last_assistant(completion)", turns="all_but_last(prompt)"),
        ),
    ),
    Preset(
        "sharegpt",
        (Columns("last_user(conversations)", "last_assistant(conversations)", turns="turns_before(conversations)"),),
    ),
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
SUBJECT_NAMES = ("subject_label", "subject_name", "subj_label", "sub_label", "s_label", "entity_label", "entity_name")
"""Names of subjects where a column of the usual name holds Wikidata items."""

CHOICE_LISTS = ("choices", "options", "Choices", "Options")
CHOICE_RUNS = ("{}", "choice{}", "choice_{}", "Choice {}", "option{}", "option_{}", "Option {}", "op{}")
CHOICE_LABELS = ("ABCDEFGHIJ", "abcdefghij", "0123456789", "123456789")
"""What columns of choices are called: one of lists, or one each, as A, B, … or choice_1, choice_2, …"""

_ITEM = re.compile(r"(.*[/:])?Q[1-9]\d*")


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
    if "question" in wanted:  # which is then no turn of a chat
        found = replace(found, turns=None)
    if wanted.get("subject") == found.relation:
        found = replace(found, relation=None)
    found = replace(found, **wanted | ({"choices": (wanted["choices"],)} if "choices" in wanted else {}))
    if settings.preset is not None or not remembered:
        found = _by_content(head, found, wanted, where)
    _check_texts(head, found, where)
    return found


def _by_content(head: pa.Table, found: Columns, wanted: Mapping[str, str], where: str) -> Columns:
    """The roles that nobody named, set right by what the columns hold: choices, aliases, subjects that are no names."""
    names = head.column_names
    if not found.choices and "choices" not in wanted:
        fields = next((fields for fields in _choice_fields(names) if _named_by(head, found.answers, fields)), ())
        found = replace(found, choices=fields)
        if fields and "subject" not in wanted:  # what kind of thing is asked
            found = replace(found, subject=None, relation=found.relation or found.subject)
        if not fields and found.answers in names and _only_letters(head[found.answers].to_pylist()):
            log.warning("%s: the answers in %r are single letters, and no column holds choices.", where, found.answers)
    if found.choices == tuple("ABCD"):  # rows with more choices than most
        found = replace(found, choices=next(_choice_fields([n for n in names if n not in CHOICE_LISTS])))
    if not found.choices and "answers" not in wanted:
        base = ("answer", "answers", "Answer") if found.answers in ALIASES else (found.answers,)
        answers = next((name for name in base if name in names), "")
        if answers and (aliases := [name for name in ALIASES if name in names]):
            found = replace(found, answers=f"all_of({', '.join([answers, *aliases])})")
    nested = {field.name for field in head.schema if pa.types.is_nested(field.type)}
    objects = [role for role in ("subject", "relation") if role not in wanted and getattr(found, role) in nested]
    no_names: dict[str, Any] = dict.fromkeys(objects)
    found = replace(found, **no_names)
    if "subject" not in wanted and found.subject in names and _items(head[found.subject].to_pylist()):
        usual = [name for name in (*USUAL_NAMES["subject"], *SUBJECT_NAMES) if name in names]
        named = next((name for name in usual if not _items(head[name].to_pylist())), None)
        if named is None:
            log.warning("%s: %r holds Wikidata items, which are no names of subjects.", where, found.subject)
        found = replace(found, subject=named)
    return found


def _choice_fields(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The columns that may hold the choices: one of lists, or a run of one each; the longest run first."""
    there = set(names)
    yield from ((name,) for name in CHOICE_LISTS if name in there)
    runs = [
        tuple(takewhile(there.__contains__, map(form.format, labels)))
        for form in CHOICE_RUNS
        for labels in (CHOICE_LABELS if form != "{}" else CHOICE_LABELS[:2])
    ]
    yield from sorted((run for run in runs if len(run) > 1), key=len, reverse=True)


def _named_by(head: pa.Table, answers: str, fields: Sequence[str]) -> bool:
    """Whether most answers name one of the choices in some columns, whichever way."""
    try:
        rows = list(zip(cells_of(head, answers), choices_of(head, fields), strict=True))
        if fields[0] == "a" and not all(answer_text(cell).isalpha() for cell, _ in rows if cell is not None):
            return False  # columns a and b of numbers, such as those of a sum
        spelling = choice_spelling(rows)
        named = [(correct_choice(cell, choices, spelling), choices[0]) for cell, choices in rows]
    except NotTextError:
        return False
    asked = [(found, choices) for found, choices in named if found]
    return 0 < len(asked) <= 2 * sum(found[0] in choices for found, choices in asked)


def _only_letters(cells: Sequence[Any]) -> bool:
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    return len(set(texts)) > 1 and all(len(text) == 1 and text.upper() in "ABCDEFGHIJ" for text in texts)


def _items(cells: Sequence[Any]) -> bool:
    texts = [cell for cell in cells if cell is not None]
    return bool(texts) and all(isinstance(text, str) and _ITEM.fullmatch(text.strip()) for text in texts)


def _check_texts(head: pa.Table, found: Columns, where: str) -> None:
    """ColumnError where questions, answers or choices are objects or lists of which it is not plain what they say."""
    prompts = is_made(found.question) or found.preset == "prompt-completion"  # texts, whatever they look like
    readings: dict[str, Callable[[], Any]] = {
        "question": lambda: [answer_text(c if prompts else spelled(c)) for c in cells_of(head, found.question)],
        "choices": lambda: choices_of(head, found.choices),
        "answers": lambda: list(map(parse_answers, cells_of(head, found.answers))),
    }
    for role, reading in readings.items():
        try:
            reading()
        except NotTextError as error:
            paths = paths_of(*(found.choices if role == "choices" else [getattr(found, role)]))
            path = next((path for path in paths if _holds_no_texts(head, path)), paths[0])
            if role == "answers" and path != paths[0]:
                raise ColumnError(
                    f"{where}: {path!r} holds no further answers. {error.found}",
                    expected="a text, or a list of texts, in every row",
                    try_next=f"{setting('answer_column', paths[0])}, which leaves them out",
                ) from error
            raise ColumnError(
                f"{where}: {path!r} cannot be the {role}. {error.found}",
                expected="one text a row" if role == "question" else "a text, or a list of texts, in every row",
                try_next=setting(COLUMN_SETTINGS[role], f"{path}.{error.fields[0]}")
                + (f"; its fields are {column_list(error.fields)}" if len(error.fields) > 1 else "")
                if error.fields
                else f"{setting(COLUMN_SETTINGS[role], 'NAME')}, with another column, or a file with one example a row",
            ) from error
    cells = cells_of(head, found.choices[0]) if len(found.choices) == 1 else []
    one_text = [
        cell for cell in cells if isinstance(cell, str) and len(parse_list(cell)) == 1 and spelled(cell) is cell
    ]
    if cells and len(one_text) == len(cells):
        raise ColumnError(
            f"{where}: the choices in {found.choices[0]!r} are one text, not a list of them: {one_text[0][:60]!r}",
            expected='a list in every row, as JSON or Python write it: ["kiwi", "swift"]',
            try_next="write the file again with lists there, or with another name for what are no choices",
        )
    answers = [] if found.choices else [text for cell in cells_of(head, found.answers) for text in parse_answers(cell)]
    if _items(answers):
        log.warning("%s: the answers in %r are Wikidata items, not their names.", where, found.answers)
    if not found.choices and (odd := misspelled(cells_of(head, found.answers))):
        raise ColumnError(
            f"{where}: the answers in {found.answers!r} look like lists or objects that cannot be read: {odd[:60]}",
            expected='lists as JSON or Python write them: ["kiwi", "apteryx"]',
            try_next="write the file again from where the lists are, as .jsonl or .parquet",
        )


def _holds_no_texts(head: pa.Table, path: str) -> bool:
    try:
        list(map(parse_list, cells_of(head, path)))
    except NotTextError:
        return True
    return False


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
    found = list(_versions(head, preset, dict.fromkeys(head.column_names)))
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
    names = dict.fromkeys(head.column_names)
    found = (version for preset in PRESETS.values() for version in _versions(head, preset, names))
    return next((columns for columns, fits in found if fits), None)


def _versions(head: pa.Table, preset: Preset, names: Mapping[str, None]) -> Iterator[tuple[Columns, bool]]:
    """The versions of a preset that the table has the columns for, and whether they fit."""
    for version in preset.versions:
        if columns := _present(names, version, preset):
            yield columns, _fits(head, version, preset)


def _present(names: Mapping[str, None], version: Columns, preset: Preset) -> Columns | None:
    """The version with those roles that the table has the columns for; None if it lacks question, answers, choices.

    A column that is named like its role comes before a text made for it.
    """
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
    needed = [version.question, version.answers, *preset.tells]
    if version.subject and is_made(version.subject):
        needed.append(version.subject)
    if any(columns_of(field, head.column_names) is None for field in needed):
        return False
    if preset.exactly and set(head.column_names) != set(columns_read(needed, head.column_names)):
        return False
    # A statement may have text behind its blank in every row: they are of this layout, and each will have a status.
    paths = [path for f in needed for path in (paths_of(f) if f.startswith(f"{statement.__name__}(") else [f])]
    try:
        found = [[bool(parse_answers(cell)) for cell in cells_of(head, path)] for path in paths]
        found += [[bool(texts) for texts, _ in choices_of(head, version.choices)]] if version.choices else []
    except NotTextError:
        return bool(version.choices)  # of this layout, and then refused
    return all(2 * sum(gives) >= len(gives) for gives in found)


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
