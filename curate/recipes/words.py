"""Messages of the commands in a recipe's words: `--contact` is `estimators.pageviews.contact` there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_type_hints

from curate.errors import CurateError
from curate.recipes.recipe import Recipe

E = TypeVar("E", bound=CurateError)


def in_recipe_words(error: E) -> E:
    """The same error with the options it names as keys of a recipe."""
    try_next = _said(error.try_next)
    if try_next != error.try_next:
        try_next = f"{try_next} (in the recipe, or by --set KEY=VALUE)"
    return type(error)(_said(error.found) or "", _said(error.expected), try_next)


def _said(text: str | None) -> str | None:
    return text and re.sub(r"--[a-z][a-z-]+", lambda match: keys().get(match[0], match[0]), text)


@cache
def keys() -> dict[str, str]:
    """An option to the key that is called like it, where only one is; options of `curate run` stay what they are."""
    named = list(_keys(Recipe, ""))
    times = Counter(option for option, _ in named)
    return {option: key for option, key in named if times[option] == 1 and option not in ("--limit", "--seeds")}


def _keys(section: Any, path: str) -> Iterator[tuple[str, str]]:
    hints = get_type_hints(section)
    for item in fields(section):
        if is_dataclass(hints[item.name]):
            yield from _keys(hints[item.name], f"{path}{item.name}.")
        else:
            yield f"--{item.name.replace('_', '-')}", f"{path}{item.name}"
