"""Accepted answers, however a dataset spells them, as a tuple of texts."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable
from typing import Any


def parse_answers(value: Any) -> tuple[str, ...]:
    """The accepted answers in one cell, in order, blanks and repeats dropped.

    A list gives its elements; a text that spells a list (JSON, or a Python repr) gives that list's elements;
    any other text is one answer as it stands, so "Nan", "None" and "1984" stay text. Null gives no answers.
    """
    items: Iterable[Any]
    if isinstance(value, str):
        listed = _spelled_list(value)
        items = [value] if listed is None else listed
    elif isinstance(value, (list, tuple)):
        items = value
    else:
        items = [value]
    texts = (answer_text(item) for item in items)
    return tuple(dict.fromkeys(text for text in texts if text))


def answer_text(value: Any) -> str:
    """One answer as text without outer blanks; null and NaN are empty, 1984.0 is "1984"."""
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value).strip()


def _spelled_list(text: str) -> list[Any] | None:
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(stripped)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, list):
            return parsed
    return None
