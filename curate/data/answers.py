"""Accepted answers, however they are spelled."""

from __future__ import annotations

import ast
import json
import math
import string
from collections.abc import Iterable, Sequence
from typing import Any, Literal

LETTERS = string.ascii_uppercase


def parse_answers(value: Any) -> tuple[str, ...]:
    """The accepted answers in one cell, in order, blanks and repeats dropped.

    A list gives its elements; a text that spells a list (JSON, a Python repr, `a|b`) gives that list's elements;
    any other text is one answer as it stands, so "Nan", "None" and "1984" stay text. Null gives no answers.
    """
    return tuple(dict.fromkeys(text for text in parse_list(value) if text))


def parse_list(value: Any) -> tuple[str, ...]:
    """The texts in one cell, however the list is spelled, blanks and repeats kept; one item if it is no list."""
    if not isinstance(value, (list, tuple)):
        listed = spelled(value)
        value = listed if isinstance(listed, list) else _between_pipes(value)
    return tuple(map(answer_text, value))


def _between_pipes(value: Any) -> list[Any]:
    """The texts between the pipes of one line; the value itself where pipes stand for something else, as in P(A|B)."""
    if not isinstance(value, str) or "|" not in value or "\n" in value:
        return [value]
    pieces = value.split("|")
    whole = all(piece.strip() and piece.count("(") == piece.count(")") for piece in pieces)
    return pieces if whole else [value]


Spelling = Literal["index", "letter", "text"]


def choice_spelling(values: Iterable[Any]) -> Spelling:
    """How a column names the right choices: by 0-based index, by letter, or by their text.

    Decided on the whole column, since the answer B among the choices A, B, AB and O may be a letter or a text.
    """
    texts = {answer_text(value) for value in values} - {""}
    if all(text.isdecimal() and int(text) < len(LETTERS) for text in texts):
        return "index"
    return "letter" if all(len(text) == 1 and text.upper() in LETTERS for text in texts) else "text"


def correct_choice(value: Any, choices: Sequence[str], spelling: Spelling) -> tuple[str, ...]:
    """The text of the right choice as the one answer; () if there is no such choice.

    >>> correct_choice("B", ["trade", "warfare"], "letter"), correct_choice(1, ["trade", "warfare"], "index")
    (('warfare',), ('warfare',))
    """
    text = answer_text(value)
    if spelling == "text":
        return (text,) if text in choices else ()
    if not text:
        return ()
    index = int(text) if spelling == "index" else LETTERS.index(text.upper())
    return (choices[index],) if index < len(choices) else ()


def answer_text(value: Any) -> str:
    """One answer as text without outer blanks; null and NaN are empty, 1984.0 is "1984"."""
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value).strip()


def spelled(value: Any) -> Any:
    """The list or object that a text spells, in JSON or as Python writes it; anything else as it is."""
    text = value.strip() if isinstance(value, str) else ""
    if (text[:1], text[-1:]) not in (("[", "]"), ("{", "}")):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, (list, dict)):
            return parsed
    return value
