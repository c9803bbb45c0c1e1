"""Which column means what: roles, dotted paths, and texts made of cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from curate.data.answers import Choices, answer_text, parse_choices, parse_list, spelled
from curate.data.json_rows import to_array
from curate.errors import EstimatorError, setting

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields of a table by the role they play; None where the table has no such field.

    A field is a column, a dotted path into one, or a text made of these by one of DERIVED. `preset` is the known layout
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
    turns: str | None = None
    """In chats, what was said before the question."""

    def as_dict(self) -> dict[str, Any]:
        """Role to field, for manifests."""
        told = asdict(self)
        return told if self.turns else {role: name for role, name in told.items() if role != "turns"}

    def fields(self) -> tuple[str, ...]:
        """All fields, each once."""
        named = (self.question, self.answers, self.subject, self.relation, self.id, *self.choices, self.turns)
        return tuple(dict.fromkeys(name for name in named if name is not None))


MOST_NAMES = 30


def nearest(name: str, names: Sequence[str]) -> str:
    """For a message: which of the names may have been meant.

    >>> nearest("veiws", ["question", "views"])
    'views'
    >>> nearest("popularity", ["question", "views"])
    'NAME, with a name from that list'
    """
    return next(iter(get_close_matches(name, names, n=1)), "NAME, with a name from that list")


def try_column(option: str, name: str, names: Sequence[str]) -> str:
    """For a message: the setting with the name that may have been meant."""
    alike = get_close_matches(name, names, n=1)
    return setting(option, alike[0]) if alike else f"{setting(option, 'NAME')}, with a name from that list"


def number_within(schema: pa.Schema, name: str) -> str | None:
    """For a message: the path to the first number in a column of objects; None if the column holds none."""
    kind = schema.field(name).type if name in schema.names else pa.null()
    inner = [kind.field(place) for place in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    numbers = (f.name for f in inner if pa.types.is_integer(f.type) or pa.types.is_floating(f.type))
    return next((f"{name}.{number}" for number in numbers), None)


def column_list(names: Sequence[str]) -> str:
    """Column names for a message, the first of very many."""
    shown = ", ".join(map(repr, names[:MOST_NAMES]))
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown


_MADE = re.compile(r"^(\w+)\(([^()]*)\)$")

DERIVED: dict[str, Callable[..., Any]] = {}
"""The functions that make a text out of cells, by name; a field calls them as `statement(template, sub_label)`."""


def derived(function: F) -> F:
    """The function may be named in a field."""
    DERIVED[function.__name__] = function
    return function


def columns_of(field: str, names: Collection[str]) -> tuple[str, ...] | None:
    """The columns among `names` that a field reads; None if one of them is not there."""
    paths = [field] if field in names else _split(field)[1]
    found = [_column_and_steps(path, names) for path in paths]
    return None if None in found else tuple(dict.fromkeys(each[0] for each in found if each))


def columns_read(fields: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that some fields, which are there, read, each once."""
    return list(dict.fromkeys(column for field in fields for column in columns_of(field, names) or ()))


def paths_of(*fields: str) -> list[str]:
    """The paths that fields read, each once."""
    return list(dict.fromkeys(path for field in fields for path in _split(field)[1]))


def is_made(field: str) -> bool:
    """Whether a field is written as a text that is made."""
    return _split(field)[0] is not None


def values_of(table: pa.Table, field: str) -> pa.ChunkedArray:
    """The value of a field in every row, as Arrow: the column itself, what lies in it, or what is made of it."""
    if field in table.column_names or not is_made(field):
        column, steps = _walk(table, field)
        if not steps:
            return column
    return pa.chunked_array([to_array(cells_of(table, field))])


def cells_of(table: pa.Table, field: str) -> list[Any]:
    """The same as a list."""
    maker, paths = (None, [field]) if field in table.column_names else _split(field)
    walked = [_walk(table, path) for path in paths]
    cells = [[_reach(cell, steps) for cell in column.to_pylist()] for column, steps in walked]
    return cells[0] if maker is None else [DERIVED[maker](*row) for row in zip(*cells, strict=True)]


def choices_of(table: pa.Table, fields: Sequence[str]) -> list[Choices]:
    """The choices of every row; none without fields."""
    cells = [cells_of(table, field) for field in fields]
    return [parse_choices(row) for row in zip(*cells, strict=True)] if cells else [((), ())] * table.num_rows


def _split(field: str) -> tuple[str | None, list[str]]:
    """The function and the paths of a made text; None and the path itself of anything else."""
    match = _MADE.match(field)
    if match is None or match[1] not in DERIVED:
        return None, [field]
    return match[1], [path.strip() for path in match[2].split(",")]


def _column_and_steps(path: str, names: Collection[str]) -> tuple[str, list[str]] | None:
    """The column a path begins with, the longest name first (names may have dots in them), and the steps into it."""
    steps = path.split(".")
    for length in range(len(steps), 0, -1):
        if (column := ".".join(steps[:length])) in names:
            return column, steps[length:]
    return None


def _walk(table: pa.Table, path: str) -> tuple[pa.ChunkedArray, list[str]]:
    """Through structs, as far as Arrow can go: what is reached, and the steps left, into lists or texts."""
    found = _column_and_steps(path, table.column_names)
    assert found is not None, f"columns_of({path!r}) tells whether it is there"
    column, steps = table[found[0]], found[1]
    while steps and pa.types.is_struct(column.type) and column.type.get_field_index(steps[0]) >= 0:
        column, steps = pc.struct_field(column, steps[0]), steps[1:]
    return column, steps


def _reach(cell: Any, steps: Sequence[str]) -> Any:
    """What the steps lead to; in a list, what they lead to in each item. A text that spells an object is one."""
    if not steps:
        return cell
    cell = spelled(cell)
    if isinstance(cell, Mapping):
        return _reach(cell.get(steps[0]), steps[1:])
    if not isinstance(cell, (list, tuple)):
        return None
    found = [_reach(item, steps) for item in cell]
    return [each for item in found for each in (item if isinstance(item, list) else [item])]


BLANK = "[X]"

# The relation templates of EntityQuestions (Sciavolino et al. 2021, MIT licence), which also ask some PopQA relations.
# P131 and P276 are asked in the same words.
ENTITY_QUESTIONS = {
    "Which country is [X] located in?": "P17",
    "Where was [X] born?": "P19",
    "Where did [X] die?": "P20",
    "Who is [X] married to?": "P26",
    "Which continent is [X] located?": "P30",
    "What is the capital of [X]?": "P36",
    "Who is [X]'s child?": "P40",
    "Who is the author of [X]?": "P50",
    "Where was [X] educated?": "P69",
    "What kind of work does [X] do?": "P106",
    "Who founded [X]?": "P112",
    "Who owns [X]?": "P127",
    "Where is [X] located?": None,
    "What type of music does [X] play?": "P136",
    "Where is the headquarter of [X]?": "P159",
    "Who was [X] created by?": "P170",
    "Who performed [X]?": "P175",
    "Which company is [X] produced by?": "P176",
    "What music label is [X] represented by?": "P264",
    "Which language was [X] written in?": "P407",
    "What position does [X] play?": "P413",
    "Which country was [X] created in?": "P495",
    "Where was [X] founded?": "P740",
    "What is [X] famous for?": "P800",
    "What is the birthplace of [X]?": "P19",
    "Where is [X] headquartered?": "P159",
    "Who is the creator of [X]?": "P170",
}

# The relation templates of PopQA (Mallen et al. 2023, MIT licence).
POPQA = {
    "What is [X]'s occupation?": "occupation",
    "In what city was [X] born?": "place of birth",
    "What genre is [X]?": "genre",
    "Who is the father of [X]?": "father",
    "In what country is [X]?": "country",
    "Who was the producer of [X]?": "producer",
    "Who was the director of [X]?": "director",
    "What is [X] the capital of?": "capital of",
    "Who was the screenwriter for [X]?": "screenwriter",
    "Who was the composer of [X]?": "composer",
    "What color is [X]?": "color",
    "What is the religion of [X]?": "religion",
    "What sport does [X] play?": "sport",
    "Who is the author of [X]?": "author",
    "Who is the mother of [X]?": "mother",
    "What is the capital of [X]?": "capital",
}


def split_templates(templates: Iterable[str]) -> list[tuple[str, str]]:
    """What stands before and after the blank of each template; those that say most come first.

    Raises EstimatorError for a template without exactly one [X], or with nothing but it.
    """
    parts = []
    for template in templates:
        before, blank, after = " ".join(template.split()).partition(BLANK)
        if not blank or BLANK in after or not (before or after):
            raise EstimatorError(
                f"The subject template {template!r} does not say where the subject stands.",
                expected=f"a question with {BLANK} once in it",
                try_next=setting("subject_template", f'"Who wrote {BLANK}?"'),
            )
        parts.append((before, after))
    return sorted(parts, key=lambda part: -len(part[0]) - len(part[1]))


def match_template(question: str, parts: Sequence[tuple[str, str]]) -> tuple[str, str] | tuple[None, None]:
    """The template a question was made from and its subject, however its blanks are doubled; None if there is none.

    >>> match_template("Which country is  Darreh Sib located in? ", split_templates(ENTITY_QUESTIONS))
    ('Which country is [X] located in?', 'Darreh Sib')
    """
    text = " ".join(question.split())
    for before, after in parts:
        if text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after):
            subject = text[len(before) : len(text) - len(after)].strip()
            if subject:
                return f"{before}{BLANK}{after}", subject
    return None, None


ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
"""What the parts in a chat are called elsewhere."""
Turns = tuple[tuple[str, str], ...]
"""Role and text of what is said in a chat."""
_BLANK = re.compile(r"\s*(?:\[MASK\]|\[Y\]|<mask>|_{2,})\s*", re.IGNORECASE)


@derived
def all_of(*cells: Any) -> list[str]:
    """The answers of several cells, one after the other."""
    return [text for cell in cells if cell is not None for text in parse_list(cell)]


@derived
def listed(cell: Any) -> list[Any] | None:
    """The items of a cell that is a list or spells one; None of anything else."""
    items = spelled(cell)
    return items if isinstance(items, list) else None


@derived
def last_user(messages: Any) -> str | None:
    """What the user says before the last answer of a chat."""
    turns = _turns(messages)
    asked, _ = _last_pair(turns)
    return None if asked is None else turns[asked][1]


@derived
def last_turn(messages: Any) -> str | None:
    """The last text of a chat, whoever says it."""
    turns = _turns(messages)
    return turns[-1][1] if turns else None


@derived
def last_assistant(messages: Any) -> list[str]:
    """The last answer of a chat, as the one answer."""
    turns = _turns(messages)
    _, answered = _last_pair(turns)
    return as_text(None if answered is None else turns[answered][1])


@derived
def turns_before(messages: Any) -> Turns:
    """What is said in a chat before `last_user`."""
    turns = _turns(messages)
    return turns[: _last_pair(turns)[0] or 0]


@derived
def all_but_last(messages: Any) -> Turns:
    """What is said in a chat before `last_turn`."""
    return _turns(messages)[:-1]


@derived
def as_text(cell: Any) -> list[str]:
    """The text as the one answer, even where it looks like a list of answers."""
    return [answer_text(cell)]


@derived
def with_input(instruction: Any, given: Any) -> str:
    """An instruction and, below it, what it is about."""
    return "\n\n".join(text for text in (answer_text(instruction), answer_text(given)) if text)


_MASK = re.compile(r"\[MASK\]|<mask>|(?<![\w\]])\[Y\]")


def unmasked(question: str) -> str:
    """The question; empty where it has the mark of a masked model, which is no text to go on with."""
    return "" if _MASK.search(question) else question


@derived
def statement(sentence: Any, subject: Any = None) -> str | None:
    """A statement up to the blank at its end, its subject filled in; of several sentences the first that ends so.

    None where something stands behind the blank, nothing before it, or another blank besides: what a model goes on
    with must not tell what comes.

    >>> statement("[X] was born in [Y] .", "Allan Peiper"), statement("[X] is a [Y] by profession .", "Allan Peiper")
    ('Allan Peiper was born in', None)
    """
    texts = [answer_text(text).replace("[X]", "{}") for text in listed(sentence) or [sentence]]
    parts = [_BLANK.split(text) for text in texts if answer_text(subject) or "{}" not in text]
    ends = [pieces[0] for pieces in parts if len(pieces) == 2 and not re.search(r"\w", pieces[1])]
    if len(texts) == 1 and not texts[0].endswith((".", "!")):  # a prompt that ends where its answer begins
        ends += [pieces[0] for pieces in parts if len(pieces) == 1]
    return next(iter(ends), "").strip().replace("{}", answer_text(subject)) or None


@derived
def page_name(url: Any) -> str | None:
    """The last part of an address as words: `justin bieber` of http://www.freebase.com/view/en/justin_bieber."""
    return unquote(answer_text(url).rstrip("/").rpartition("/")[2]).replace("_", " ") or None


_ENTITY_QUESTIONS = split_templates(ENTITY_QUESTIONS)
_POPQA = split_templates(POPQA)


@derived
def entityquestions_subject(question: Any) -> str | None:
    """The subject in a question made from a template of EntityQuestions."""
    return match_template(answer_text(question), _ENTITY_QUESTIONS)[1]


@derived
def entityquestions_relation(question: Any) -> str | None:
    """The Wikidata property that a template of EntityQuestions asks for; None where two are asked in its words."""
    return ENTITY_QUESTIONS.get(match_template(answer_text(question), _ENTITY_QUESTIONS)[0] or "")


@derived
def popqa_subject(question: Any) -> str | None:
    """The subject in a question made from a template of PopQA."""
    return match_template(answer_text(question), _POPQA)[1]


@derived
def popqa_relation(question: Any) -> str | None:
    """The relation that a template of PopQA asks for."""
    return POPQA.get(match_template(answer_text(question), _POPQA)[0] or "")


def _last_pair(turns: Turns) -> tuple[int | None, int | None]:
    """Where the last answer of a chat stands, and what the user says before it; None for what there is not."""
    answered = max((i for i, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    asked = max((i for i, (role, _) in enumerate(turns[:answered]) if role == "user"), default=None)
    return asked, answered


def _turns(messages: Any) -> Turns:
    return tuple(_turn(message) for message in spelled(messages) or () if isinstance(message, Mapping))


def _turn(message: Mapping[str, Any]) -> tuple[str, str]:
    """Role and text of a message; content in parts (`[{"type": "text", "text": …}]`) is joined."""
    role = message.get("role") or message.get("from")
    content = message.get("content") or message.get("value")
    if isinstance(content, list):
        content = "\n".join(answer_text(part.get("text")) for part in content if isinstance(part, Mapping))
    role = answer_text(role)
    return ROLES.get(role, role), "" if isinstance(content, Mapping) else answer_text(content)
