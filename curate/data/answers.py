"""Accepted answers and choices, however they are spelled."""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from curate.errors import DataError, setting
from curate.prompts import LETTERS


class NotTextError(DataError):
    """An object or a list where a text is expected; `fields` are what the object has."""

    def __init__(self, value: Any) -> None:
        self.fields = list(value) if isinstance(value, dict) else []
        kind = f"an object with the fields {', '.join(map(repr, self.fields))}" if self.fields else "a list"
        shown = repr(value)
        super().__init__(
            f"Found {kind} where a text is expected: {shown[:60]}{'…' if len(shown) > 60 else ''}",
            expected="a text, or a list of texts for the answers",
            try_next=setting("answer_column", f"COLUMN.{self.fields[0] if self.fields else 'FIELD'}"),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """As a plain DataError, which has the message."""
        return DataError, self._parts


class CutShortError(DataError):
    """A list that was cut short when it was written, as numpy does with long ones."""


def parse_answers(value: Any) -> tuple[str, ...]:
    """The accepted answers in one cell, in order, blanks and repeats dropped.

    A list gives its elements; a text that spells a list (JSON, Python, numpy, `a|b`) gives that list's elements; any
    other text is one answer as it stands, so "Nan", "None" and "1984" stay text. Null gives no answers. An object gives
    its text and its aliases where it is plain which these are (`{"value": …, "aliases": […]}`), else NotTextError.
    """
    return tuple(dict.fromkeys(text for text in parse_list(value) if text))


def parse_list(value: Any) -> tuple[str, ...]:
    """The texts in one cell, however the list is spelled, blanks and repeats kept; one item if it is no list."""
    value = spelled(value)
    if isinstance(value, dict):
        value = _texts_of(value)
    elif not isinstance(value, (list, tuple)):
        value = _between_pipes(value)
    if any(isinstance(item, dict) for item in value):
        value = [text for item in value for text in (_texts_of(item) if isinstance(item, dict) else [item])]
    return tuple(map(answer_text, value))


def _between_pipes(value: Any) -> list[Any]:
    """The texts between the pipes of one line; the value itself where pipes stand for something else, as in P(A|B)."""
    if not isinstance(value, str) or "|" not in value or "\n" in value:
        return [value]
    pieces = value.split("|")
    whole = all(piece.strip() and piece.count("(") == piece.count(")") for piece in pieces)
    return pieces if whole else [value]


TEXT_FIELDS = ("text", "Text", "value", "Value", "answer", "Answer")
ALIASES = ("aliases", "Aliases", "answer_aliases", "possible_answers")
"""What further accepted answers are called, as fields of an object or as columns beside the answer."""


def _texts_of(found: dict[str, Any]) -> list[Any]:
    """The texts of an object that is an answer: of TriviaQA's `{"Value", "Aliases"}`, of SQuAD's `{"text"}`, …"""
    texts = [found[name] for name in TEXT_FIELDS if found.get(name) is not None]
    if len(texts) > 1 or (found and not {*TEXT_FIELDS} & {*found}):
        raise NotTextError(found)
    parts = [*texts, *(found[name] for name in ALIASES if found.get(name) is not None)]
    return [text for part in parts for text in (part if isinstance(part, (list, tuple)) else [part])]


def answer_text(value: Any) -> str:
    """One answer as text without outer blanks; null and NaN are empty, 1984.0 is "1984". NotTextError for an object."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, (dict, list, tuple, set)):
        raise NotTextError(value)
    return str(value).strip()


MAY_SPELL = r"""^\s*([\[{]|\(\s*u?['"]|((np|numpy)\.)?array\(|(frozen)?set\(|list\(|tuple\(|c\()"""
"""How a text begins that may spell a list or an object."""

_MAY_SPELL = re.compile(MAY_SPELL)


_LOOKS_SPELLED = re.compile(r"\[.*\]|\{.*\}|(\w+\.)?[A-Za-z_]+\(.*\)|.*\bdtype: \w+", re.DOTALL)  # the last: pandas


def misspelled(cells: Iterable[Any]) -> str | None:
    """One of the texts that look like lists or objects and cannot be read; None unless all of them look so."""
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if not all(map(_LOOKS_SPELLED.fullmatch, texts)):
        return None
    return next((text for text in texts if spelled(text) is text), None)


def spelled(value: Any) -> Any:
    """The list or object that a text spells, in JSON or as Python or numpy writes it; anything else as it is.

    >>> spelled("['kiwi' 'apteryx']"), spelled("{'text': array(['kiwi'], dtype=object)}")
    (['kiwi', 'apteryx'], {'text': ['kiwi']})
    """
    if not isinstance(value, str) or value.rstrip()[-1:] not in ("]", "}", ")") or not _MAY_SPELL.match(value):
        return value
    parsed: Any = None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        try:
            parsed = _literal(ast.parse(_TOKEN.sub(_with_comma, value.strip()), mode="eval").body)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return value
    return parsed if isinstance(parsed, (list, dict)) else value


# A text in quotes, a word or number, or a bracket that closes; the blanks behind it; whether something begins there.
_TOKEN = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+.\w]+|[\])}])(\s*)(?=(['"\[({\w.+-])?)""", re.DOTALL)


def _with_comma(token: re.Match[str]) -> str:
    """What numpy writes between the items of an array is blank: to Python, two texts side by side would be one."""
    item, blanks, follows = token.groups()
    if follows and not blanks and item[-1] in "'\"" and follows in "'\"":
        raise ValueError("two texts that touch: one text to Python, a quote within a text elsewhere")
    return f"{item},{blanks}" if follows and blanks else token[0]


def _literal(node: ast.AST) -> Any:
    """What Python code spells that consists of plain values, lists, objects and arrays; ValueError for any other."""
    if isinstance(node, ast.Constant) and node.value is not ...:
        return node.value.decode("utf-8") if isinstance(node.value, bytes) else node.value
    if isinstance(node, ast.List):
        items = [_literal(item) for item in node.elts if ast.unparse(item) != "..."]
        if 1 < len(items) < len(node.elts):
            raise CutShortError(
                f"A list was cut short when it was written, as numpy does: {ast.unparse(node)[:60]}",
                expected="all its items",
                try_next="write the file again with lists in it (frame.map(list)), as .jsonl or .parquet",
            )
        return [_literal(item) for item in node.elts]
    if isinstance(node, (ast.Tuple, ast.Set)):  # of numbers, a place such as (3, 4)
        items = [_literal(item) for item in node.elts]
        if any(isinstance(item, str) for item in items):
            return items
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.UnaryOp):
        return ast.literal_eval(node)
    if isinstance(node, ast.Name) and node.id == "nan":
        return None
    if isinstance(node, ast.Call) and node.args:
        name = ast.unparse(node.func).removeprefix("numpy.").removeprefix("np.")
        items = [_literal(item) for item in node.args]
        texts = all(isinstance(item, str) for item in items)  # c("a", "b") of R, array("a", "b") of PHP
        if name in LISTS and (texts or (len(items) == 1 and isinstance(items[0], list))):
            return items if texts else items[0]
        if name in NUMPY_VALUES and len(items) == 1 and not isinstance(items[0], list):
            return items[0]
    raise ValueError("no plain value")


LISTS = ("array", "list", "tuple", "set", "frozenset", "c")
NUMPY_VALUES = ("str_", "bool_", "int32", "int64", "float32", "float64")

Spelling = Literal["index", "count", "letter", "text"]
Choices = tuple[tuple[str, ...], tuple[str, ...]]
"""The texts of the choices of one row, and their labels: A, B, … where the data has none."""


def parse_choices(cells: Sequence[Any]) -> Choices:
    """The choices of one row, from one cell that holds them all, or from one cell each.

    >>> parse_choices([{"text": ["kiwi", "swift"], "label": ["1", "2"]}])
    (('kiwi', 'swift'), ('1', '2'))
    """
    if len(cells) != 1:
        texts = tuple(map(answer_text, cells))
        while len(texts) > 4 and not texts[-1]:  # a column E that few rows need
            texts = texts[:-1]
        return texts, tuple(LETTERS[: len(texts)])
    cell = spelled(cells[0])
    if isinstance(cell, list) and cell and all(isinstance(item, dict) and "text" in item for item in cell):
        cell = {name: [item.get(name) for item in cell] for name in ("text", "label")}
    if isinstance(cell, dict) and isinstance(cell.get("text"), (list, tuple)):
        texts = tuple(map(answer_text, cell["text"]))
        labels = tuple(map(answer_text, cell.get("label") or ()))
        return texts, labels if len(set(labels)) == len(texts) else tuple(LETTERS[: len(texts)])
    if isinstance(cell, dict) and all(len(name) == 1 and name.upper() in LETTERS for name in cell):
        there = {name: text for name, text in cell.items() if text is not None}
        return tuple(map(answer_text, there.values())), tuple(name.upper() for name in there)
    texts = parse_list(cells[0])
    return texts, tuple(LETTERS[: len(texts)])


def choice_spelling(rows: Iterable[tuple[Any, Choices]], numbered: bool = False) -> Spelling:
    """How a column names the right choices: by index from 0, by counting from 1, by letter or label, or by their text.

    Decided on the whole column, by what names a choice in most rows, since the answer B among the choices A, B, AB and
    O may be a letter or a text. Counting is only where no answer is 0, and one is the number of choices or the choices
    are `numbered` from 1 themselves.
    """
    fits: Counter[Spelling] = Counter()
    zero = last = False
    for value, (choices, labels) in rows:
        for text in _named(value):
            place = int(text) if text.isdecimal() and len(text) < 4 else -1
            fits["index"] += 0 <= place < len(choices)
            fits["count"] += 1 <= place <= len(choices)
            fits["letter"] += text in labels or text.upper() in labels
            fits["text"] += text in choices
            zero, last = zero or place == 0, last or place == len(choices)
    order: list[Spelling] = ["letter", "text", "count" if (last or numbered) and not zero else "index"]
    return max(order, key=lambda spelling: fits[spelling])  # the first of equals


def _named(value: Any) -> tuple[str, ...]:
    """The texts in the cell of a right choice: one, or several where it is a list."""
    if isinstance(spelled(value), (list, dict)):
        return parse_answers(value)
    return (answer_text(value),) if answer_text(value) else ()


def correct_choice(value: Any, choices: Choices, spelling: Spelling) -> tuple[str, ...]:
    """The text of the right choice as the one answer; where it names none, what it says, which is no choice.

    >>> birds = parse_choices([["kiwi", "swift"]])
    >>> correct_choice("B", birds, "letter"), correct_choice(1, birds, "index"), correct_choice("E", birds, "letter")
    (('swift',), ('swift',), ('E',))
    """
    texts, labels = choices
    found = []
    for text in _named(value):
        place = -1
        if spelling == "letter":
            place = next((labels.index(label) for label in (text, text.upper()) if label in labels), -1)
        elif spelling != "text" and text.isdecimal() and len(text) < 4:
            place = int(text) - (spelling == "count")
        if 0 <= place < len(texts):
            found.append(texts[place])
        elif spelling == "text" or text not in texts:
            found.append(text)
    return tuple(found)
