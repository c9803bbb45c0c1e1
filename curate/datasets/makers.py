"""Texts made of the cells of a row, where a layout has no column with the question or the subject itself.

Each function takes the cells it is named with (`with_input(instruction, input)`) and gives a text, a list of texts,
or None where there is nothing to make.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from curate.datasets.answers import answer_text, parse_list, spelled
from curate.datasets.templates import ENTITY_QUESTIONS, POPQA, match_template, split_templates

USERS, ASSISTANTS = ("user", "human"), ("assistant", "gpt", "model")
MASK = re.compile(r"\s*(\[MASK\]|\[Y\]|<mask>)\W*$")


def all_of(*cells: Any) -> list[str]:
    """The answers of several cells, one after the other."""
    return [text for cell in cells for text in parse_list(cell)]


def listed(cell: Any) -> list[Any] | None:
    """The items of a cell that is a list or spells one; None of anything else."""
    items = spelled(cell)
    return items if isinstance(items, list) else None


def last_user(messages: Any) -> str | None:
    """What the user says before the last answer of a chat."""
    return _last_pair(messages)[0]


def last_turn(messages: Any) -> str | None:
    """The last text of a chat, whoever says it."""
    turns = _turns(messages)
    return turns[-1][1] if turns else None


def last_assistant(messages: Any) -> list[str]:
    """The last answer of a chat, as the one answer."""
    return as_text(_last_pair(messages)[1])


def as_text(cell: Any) -> list[str]:
    """The text as the one answer, even where it looks like a list of answers."""
    return [answer_text(cell)]


def with_input(instruction: Any, given: Any) -> str:
    """An instruction and, below it, what it is about."""
    return "\n\n".join(text for text in (answer_text(instruction), answer_text(given)) if text)


def statement(sentence: Any, subject: Any = None) -> str | None:
    """A statement up to the blank at its end, its subject filled in; of several sentences the first.

    >>> statement("[X] was born in [Y] .", "Allan Peiper")
    'Allan Peiper was born in'
    """
    sentences = parse_list(sentence)
    if not sentences or not sentences[0]:
        return None
    text = sentences[0].replace("[X]", "{}").replace("{}", answer_text(subject))
    return MASK.sub("", text).strip()


def page_name(url: Any) -> str | None:
    """The last part of an address as words: `justin bieber` of http://www.freebase.com/view/en/justin_bieber."""
    return unquote(answer_text(url).rstrip("/").rpartition("/")[2]).replace("_", " ") or None


def entityquestions_subject(question: Any) -> str | None:
    """The subject in a question made from a template of EntityQuestions."""
    return _matched(question, _ENTITY_QUESTIONS)[1]


def entityquestions_relation(question: Any) -> str | None:
    """The Wikidata property that a template of EntityQuestions asks for; None where two are asked in its words."""
    return ENTITY_QUESTIONS.get(_matched(question, _ENTITY_QUESTIONS)[0])


def popqa_subject(question: Any) -> str | None:
    """The subject in a question made from a template of PopQA."""
    return _matched(question, _POPQA)[1]


def popqa_relation(question: Any) -> str | None:
    """The relation that a template of PopQA asks for."""
    return POPQA.get(_matched(question, _POPQA)[0])


MAKERS: dict[str, Callable[..., Any]] = {
    maker.__name__: maker
    for maker in (
        all_of,
        as_text,
        listed,
        last_user,
        last_assistant,
        last_turn,
        with_input,
        statement,
        page_name,
        entityquestions_subject,
        entityquestions_relation,
        popqa_subject,
        popqa_relation,
    )
}

_ENTITY_QUESTIONS = split_templates(ENTITY_QUESTIONS)
_POPQA = split_templates(POPQA)


def _matched(question: Any, parts: list[tuple[str, str]]) -> tuple[str, str | None]:
    return match_template(answer_text(question), parts) or ("", None)


def _last_pair(messages: Any) -> tuple[str | None, str | None]:
    turns = _turns(messages)
    last = max((i for i, (role, _) in enumerate(turns) if role in ASSISTANTS), default=len(turns))
    asked = [text for role, text in turns[:last] if role in USERS]
    return asked[-1] if asked else None, turns[last][1] if last < len(turns) else None


def _turns(messages: Any) -> list[tuple[str, str]]:
    return [_turn(message) for message in spelled(messages) or () if isinstance(message, Mapping)]


def _turn(message: Mapping[str, Any]) -> tuple[str, str]:
    """Role and text of a message; content in parts (`[{"type": "text", "text": …}]`) is joined."""
    role = message.get("role") or message.get("from")
    content = message.get("content") or message.get("value")
    if isinstance(content, list):
        content = "\n".join(answer_text(part.get("text")) for part in content if isinstance(part, Mapping))
    return answer_text(role), answer_text(content)
