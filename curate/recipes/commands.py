"""The steps of a recipe as the commands that do the same, for a person to read and to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any


def command_line(command: str, *first: object, options: Mapping[str, Any]) -> str:
    """`curate score data.parquet --by loss …`: options by their names in Python, without None and False."""
    words = [
        "curate",
        command,
        *map(str, first),
        *(word for name, value in options.items() for word in _flag(name, value)),
    ]
    return shlex.join(words)


def changed(settings: Any, *without: str) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings) if item.name not in without}
    return {name: value for name, value in values.items() if value != _default(settings, name)}


def _default(settings: Any, name: str) -> Any:
    item = next(item for item in fields(settings) if item.name == name)
    return item.default_factory() if callable(item.default_factory) else item.default


def _flag(name: str, value: Any) -> Iterator[str]:
    flag = "-o" if name == "output" else f"--{name.replace('_', '-')}"
    if value is True:
        yield flag
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flag(name, item)
    elif value is not None and value is not False:
        yield from (flag, str(value))
