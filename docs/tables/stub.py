"""What editors know of the package, curate/__init__.pyi, made from the functions; a test fails when it is stale.

python docs/tables/stub.py
"""

from __future__ import annotations

import builtins
import collections.abc
import inspect
import pathlib
import re
import textwrap
import typing
from pathlib import Path
from typing import Any

import curate
import curate.settings

PAGE = Path(curate.__file__).with_name("__init__.pyi")
HEAD = '"""The names of the package for editors, made by docs/tables/stub.py: change the functions, then run it."""'
STANDARD = ("collections.abc", "pathlib", "typing")


def page() -> str:
    """The whole file: classes by their homes, functions with every setting they take."""
    names = [name for name in curate.__all__ if name != "__version__"]
    public = {name: getattr(curate, name) for name in names}
    text = "\n\n".join(definition(name, found) for name, found in public.items() if inspect.isfunction(found))
    lines = []
    for module in STANDARD:
        pattern = rf"\b{re.escape(module)}\.(\w+)"
        lines.append(f"from {module} import {', '.join(sorted(set(re.findall(pattern, text))))}")
        text = re.sub(pattern, r"\1", text)
    lines += ["", *sorted({f"import {module}" for module in re.findall(r"\b(curate(?:\.[a-z_]+)+)\.", text)})]
    classes = [(found.__module__, name) for name, found in public.items() if not inspect.isfunction(found)]
    lines += [f"from {module} import {name} as {name}" for module, name in sorted(classes)]
    return "\n".join([HEAD, "", *lines, "", "__version__: str", "", text, ""])


def definition(name: str, function: Any) -> str:
    """A function, a parameter a line, and its docstring."""
    signature = inspect.signature(function)
    parameters = [*signature.parameters.values()]
    lines = [parameter_line(parameter, function) for parameter in parameters]
    named = next((n for n, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if named is not None:
        lines.insert(named, "    *,")
    head = [f"def {name}(", *lines, f") -> {in_full(signature.return_annotation, function)}:"]
    about = textwrap.indent(f'"""{inspect.getdoc(function)}\n"""', "    ")
    return "\n".join([*head, about])


def parameter_line(parameter: inspect.Parameter, function: Any) -> str:
    """`    model: typing.Any = None,`"""
    mark = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    default = "" if parameter.default is parameter.empty else " = " + repr(parameter.default).replace("'", '"')
    return f"    {mark}{parameter.name}: {in_full(parameter.annotation, function)}{default},"


def in_full(annotation: str, function: Any) -> str:
    """An annotation with each name as it can be imported: `typing.Any`, `curate.records.Score`."""
    places = (builtins, collections.abc, pathlib, typing, inspect.getmodule(function), curate.settings)

    def full_name(name: re.Match[str]) -> str:
        if name[0] in curate.__all__:
            return name[0]
        home: Any = next(place for place in places if hasattr(place, name[0]))
        return name[0] if home is builtins else f"{home.__name__}.{name[0]}"

    return re.sub(r"\b[A-Za-z_]\w*", full_name, annotation)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
