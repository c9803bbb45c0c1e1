"""The recipes and data that come with curate."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from curate.errors import RecipeError

BUNDLED = "bundled:"
"""What stands before the name of a file or folder that comes with curate: `bundled:world/model`."""


def names() -> list[str]:
    """The bundled recipes, the paper's experiments first in the order of its tables and figures."""
    order = ("popqa-controlled", "popqa", "entity-questions", "mmlu-history", "world")
    found = sorted(path.stem for path in _folder().glob("*.yaml"))
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def descriptions() -> dict[str, str]:
    """Every bundled recipe with its one line."""
    import yaml

    return {name: yaml.safe_load(recipe_text(name)[0])["description"] for name in names()}


def recipe_text(recipe: str) -> tuple[str, str]:
    """The YAML of a bundled recipe or a file, and what to call it in messages."""
    if recipe in names():
        return (_folder() / f"{recipe}.yaml").read_text(encoding="utf-8"), f"{recipe}.yaml"
    path = Path(recipe).expanduser()
    if not path.is_file():
        close = get_close_matches(recipe, names(), n=1)
        raise RecipeError(
            f"There is no recipe {recipe!r}.",
            expected=f"a YAML file, or one of {', '.join(names())}",
            try_next=f"curate run {close[0]}" if close else "curate run --list",
        )
    try:
        return path.read_text(encoding="utf-8"), path.name
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{recipe} cannot be read: {error}", expected="a YAML file in UTF-8") from error


def local_path(name: str) -> str:
    """A bundled file or folder as a path; any other name as it is."""
    if not name.startswith(BUNDLED):
        return name
    path = Path(str(files("curate"))) / name.removeprefix(BUNDLED)
    if not path.exists():
        raise RecipeError(f"There is no {name!r}.", expected="something that comes with curate, as bundled:world/model")
    return str(path)


def _folder() -> Path:
    return Path(str(files("curate"))) / "recipes" / "bundled"
