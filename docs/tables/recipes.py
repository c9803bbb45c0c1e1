"""The tables of keys in docs/recipes.md, made from the settings themselves; a test fails when they are stale.

python docs/tables/recipes.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from curate.recipes.recipe import Recipe

PAGE = Path(__file__).parents[1] / "recipes.md"
BEGIN, END = "<!-- keys: made by docs/tables/recipes.py -->", "<!-- end of keys -->"

COMMANDS = {
    "model": "validate",
    "dataset": "score",
    "estimators": "score",
    "selection": "select",
    "finetuning": "validate",
    "validation": "validate",
}
"""The command whose options the keys of a section are."""


def tables() -> str:
    """A table for the keys at the top, and one for each section."""
    hints = get_type_hints(Recipe)
    top = [item for item in fields(Recipe) if not is_dataclass(hints[item.name])]
    parts = ["| key | default | |\n|---|---|---|", *(row("", item) for item in top)]
    for name in COMMANDS:
        about = " ".join((hints[name].__doc__ or "").split("\n\n")[0].split())
        parts += [f"\n### {name}\n\n{about}\n", "| key | default | |\n|---|---|---|", *rows(name, hints[name])]
    return "\n".join(parts)


def rows(path: str, section: Any) -> Iterator[str]:
    """A row a key, those of a section within it by their dotted names."""
    hints = get_type_hints(section)
    for item in fields(section):
        if is_dataclass(hints[item.name]):
            yield from rows(f"{path}.{item.name}", hints[item.name])
        else:
            yield row(path, item)


def row(path: str, item: Field[Any]) -> str:
    """One key, its default, and what it means."""
    name = f"{path}.{item.name}" if path else item.name
    about = item.metadata.get("about") or option_help(COMMANDS[path.split(".")[0]], item.name)
    return f"| `{name}` | {default(item)} | {escaped(about)} |"


def default(item: Field[Any]) -> str:
    """The default in YAML's words."""
    value = item.default_factory() if callable(item.default_factory) else item.default
    if value is MISSING:
        return "*required*"
    if value is None or value == () or value == {}:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def option_help(command: str, name: str) -> str:
    """What `--help` says of the option of that name."""
    import typer

    from curate.cli.app import app

    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return str(next(parameter.help for parameter in parameters if parameter.name == name))


def escaped(text: str) -> str:
    """Fit for a cell of a table, on a site that would take `[X]` for a link."""
    return text.strip().replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")


def page() -> str:
    """The page with its tables made anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
