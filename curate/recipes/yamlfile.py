"""From YAML to settings: every value is read as the type of its key, and every message names file, line and key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from curate.errors import CurateError, RecipeError

if TYPE_CHECKING:
    from yaml import MappingNode, Node

NULLS = ("", "~", "null", "Null", "NULL")
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
MAPPING = "the recipe"
"""The name of a recipe that is no file but a mapping in Python."""

KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Override:
    """A setting that was given beside the file: `key` is dotted, `text` is YAML, `said` is how it was given."""

    key: str
    text: str
    said: str


def override(assignment: str) -> Override:
    """From `selection.top=0.3`, as it follows --set."""
    key, sign, text = assignment.partition("=")
    if not sign or not key:
        raise RecipeError(f"--set {assignment} sets nothing.", expected="KEY=VALUE", try_next="--set selection.top=0.3")
    return Override(key.strip(), text, f"--set {assignment}")


def given(key: str, value: Any, said: str) -> Override:
    """A Python value for a key."""
    return Override(key, json.dumps(value, default=str), said)


def parse(text: str, name: str, cls: type, overrides: Sequence[Override] = ()) -> tuple[Any, dict[str, str]]:
    """The settings in a YAML text, overrides in place, and where each of them was said ("popqa.yaml line 3").

    Values are read by the type of their key, not by YAML's rules: `tune: off` is a text, `1e-4` a number, `30:70` a
    band. RecipeError with line and key for whatever is wrong.
    """
    root = compose(text, name)
    _expect_section(root, "", "a recipe")
    for setting in overrides:
        _put(root, setting)
    places: dict[str, str] = {}
    return _section(cls, root, "", places), places


def compose(text: str, name: str) -> Any:
    """The tree of a YAML text, each node with the line it stands on; RecipeError if the text is no YAML."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        loader.name = name
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        tab = "\t" in line[: mark.column + 1] if mark else False
        problem = "a tab indents this line" if tab else error.problem or error.context
        where = place(mark) if mark else name
        raise RecipeError(
            f"{where}: this is not YAML: {problem}.", expected="key: value, indented by spaces"
        ) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise RecipeError(f"{name}: this is not YAML: {str(error).splitlines()[0]}.", expected="plain text") from error
    if root is None:
        raise RecipeError(f"{name} is empty.", expected="a recipe", try_next="curate run popqa --show > my.yaml")
    return root


def place(mark: Any) -> str:
    """`popqa.yaml line 3`, or what said it where that has no lines."""
    without_lines = mark.name.startswith("--") or mark.name == MAPPING
    return str(mark.name) if without_lines else f"{mark.name} line {mark.line + 1}"


def _put(root: MappingNode, setting: Override) -> None:
    """Set a value in the tree, making its section if there is none."""
    node: Any = compose(setting.text, setting.said) if setting.text.strip() else _null(setting.said)
    *sections, key = setting.key.split(".")
    at = root
    for depth, name in enumerate(sections, start=1):
        found = _child(at, name)
        if found is None or _is_null(found):
            found = _empty(_null(setting.said))
            _replace(at, name, found, setting)
        _expect_section(found, ".".join(sections[:depth]), "a section")
        at = found
    _replace(at, key, node, setting)


def _replace(at: MappingNode, name: str, node: Node, setting: Override) -> None:
    from yaml import ScalarNode

    key = ScalarNode("tag:yaml.org,2002:str", name, _null(setting.said).start_mark)
    at.value = [(k, v) for k, v in at.value if k.value != name] + [(key, node)]


def _empty(node: Any) -> Any:
    """A section without keys, standing where `node` does."""
    from yaml import MappingNode

    return MappingNode("tag:yaml.org,2002:map", [], node.start_mark)


def _child(at: MappingNode, name: str) -> Any:
    return next((value for key, value in at.value if key.value == name), None)


def _null(said: str) -> Any:
    return compose("null", said)


def _expect_section(node: Any, path: str, what: str) -> None:
    from yaml import MappingNode

    if not isinstance(node, MappingNode):
        raise RecipeError(
            f"{place(node.start_mark)}: {path or 'the file'} is not {what}.",
            expected=f"keys and values{', indented under ' + path if path else ''}",
        )


def _section(cls: type, node: Any, path: str, places: dict[str, str]) -> Any:
    _expect_section(node, path, "a section")
    known = {item.name: item for item in fields(cls)}
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name, where = str(key_node.value), place(key_node.start_mark)
        inner = f"{path}.{name}" if path else name
        if name not in known:
            raise _unknown(where, inner, name, list(known))
        if name in values:
            raise RecipeError(f"{where}: {inner} is given twice; first on {places[inner]}.", expected="one of them")
        places[inner] = where
        values[name] = _value(hints[name], value_node, inner, places)
        _check_alone(cls, name, values[name], where, inner)
    for name, item in known.items():
        if name not in values and not _has_default(item):
            values[name] = _absent(hints[name], item, f"{path}.{name}" if path else name, node, places)
    return cls(**values)


def _absent(kind: Any, item: Field[Any], path: str, node: Any, places: dict[str, str]) -> Any:
    """A section that is left out has its defaults, if all its keys have; else something is missing."""
    if is_dataclass(kind):
        return _section(kind, _empty(node), path, places)  # type: ignore[arg-type]
    where = place(node.start_mark) if node.value else node.start_mark.name
    raise RecipeError(f"{where}: {path} is missing.", item.metadata["about"], item.metadata["flag"])


def _has_default(item: Field[Any]) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _check_alone(cls: type, name: str, value: Any, where: str, path: str) -> None:
    """What the class itself refuses of this one key, said with its line."""
    required = {item.name: _stand_in(item) for item in fields(cls) if not _has_default(item)}
    try:
        cls(**(required | {name: value}))
    except RecipeError:
        raise
    except CurateError as error:
        found = error.found.replace(f"--{name.replace('_', '-')} ", f"{name} ")
        raise RecipeError(f"{where}: {path}: {found}", error.expected, error.try_next) from error


def _stand_in(item: Field[Any]) -> Any:
    return () if "tuple" in str(item.type) else ""


def _unknown(where: str, path: str, name: str, known: Sequence[str]) -> RecipeError:
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    section = path.rpartition(".")[0]
    return RecipeError(
        f"{where}: {path} is not a setting.",
        expected=", ".join(known),
        try_next=f"{section + '.' if section else ''}{close[0]}" if close else None,
    )


def _value(kind: Any, node: Any, path: str, places: dict[str, str]) -> Any:
    """The value of a node as the type of its key."""
    if is_dataclass(kind):
        return _section(kind, _empty(node) if _is_null(node) else node, path, places)  # type: ignore[arg-type]
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if _is_null(node) and (type(None) in kinds or get_origin(kind) in (tuple, Mapping)):
        return None if type(None) in kinds else () if get_origin(kind) is tuple else {}
    if get_origin(kind) is Mapping:
        _expect_section(node, path, "a column and its values")
        return {str(k.value): _texts(v, f"{path}.{k.value}") for k, v in node.value}
    if any(get_origin(k) is tuple for k in kinds):
        return _texts(node, path)
    return _scalar([k for k in kinds if k is not type(None)], node, path)


def _texts(node: Any, path: str) -> tuple[str, ...]:
    """A list of texts, or one text by itself."""
    from yaml import ScalarNode, SequenceNode

    items = node.value if isinstance(node, SequenceNode) else [node]
    if not all(isinstance(item, ScalarNode) and not _is_null(item) for item in items):
        raise RecipeError(f"{place(node.start_mark)}: {path} is no list of texts.", expected="[one, two], or one text")
    return tuple(str(item.value) for item in items)


def _scalar(kinds: Sequence[Any], node: Any, path: str) -> Any:
    from yaml import ScalarNode

    said = " or ".join(KINDS[kind] for kind in kinds)
    if not isinstance(node, ScalarNode):
        raise RecipeError(f"{place(node.start_mark)}: {path} holds a list or a section.", expected=said)
    text, plain = str(node.value), node.style is None
    if _is_null(node):
        raise RecipeError(f"{place(node.start_mark)}: {path} has no value.", expected=said)
    if plain and (int in kinds or float in kinds):
        with suppress(ValueError):
            return int(text)
        with suppress(ValueError):
            if float in kinds:
                return float(text)
    if bool in kinds and plain and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    if str in kinds:
        return text
    raise RecipeError(f"{place(node.start_mark)}: {path} is {text!r}.", expected=said)


def _is_null(node: Any) -> bool:
    from yaml import ScalarNode

    return isinstance(node, ScalarNode) and node.style is None and node.value in NULLS
