"""The page docs/cli.md, made from the commands themselves; a test fails when it is stale.

python docs/tables/cli.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "cli.md"
HEAD = """# Command line

<!-- made by docs/tables/cli.py: change the commands, then run it -->

What each command says of itself with `--help`. Results go to standard output, all else to standard error; `--json`
prints one object for programs. The [exit codes](files.md#exit-codes) are the same for all commands.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command as it is typed, `curate views build` too, in the order of `curate --help`."""
    import typer

    from curate.cli.app import app

    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield f"curate {name}", command
        else:
            yield from ((f"curate {name} {child}", found) for child, found in inner.items())


def described(name: str, command: Any) -> str:
    """One command: what it does, its examples, its arguments and options."""
    paragraphs = command.help.replace("\b\n", "").split("\n\n")
    examples = [text.removeprefix("Example: ") for text in paragraphs if text.startswith("Example: ")]
    prose = "\n\n".join(text for text in paragraphs if not text.startswith("Example: "))
    context = command.context_class(command, info_name=name)
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [f"| `{option}` | {escaped(text)} |" for option, text in filter(None, records)]
    shell = "\n".join(["```sh", *examples, "```"])
    table = "\n".join(["| argument or option | meaning |", "|---|---|", *rows])
    return f"## {name}\n\n{prose}\n\n{shell}\n\n{table}"


def escaped(text: str) -> str:
    """Fit for a cell of a table, on a site that would take `[X]` for a link."""
    return text.strip().replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.rstrip(), *(described(name, command) for name, command in commands())]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
