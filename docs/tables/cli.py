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

What each command says of itself with `--help`. Results go to standard output, all else to standard error. The
[exit codes](files.md#exit-codes) are the same for all commands, and so are these options:

COMMON

**Defaults of your own.** Every option that is not typed is what the environment says, `CURATE_` and its name
(`CURATE_MODEL`, `CURATE_BY="loss column:views"`), else what the file of `--config` says: options for all commands that
have them, and in a section with the name of a command those for this one. A name that no command has is an error.

```yaml
model: HuggingFaceTB/SmolLM2-135M
validate:
  seeds: 5
  learning_rate: 3e-4
```

`curate --install-completion` has the shell complete commands, options and choices.
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
    shell = "\n".join(["```sh", *examples, "```"])
    return f"## {name}\n\n{prose}\n\n{shell}\n\n{table(command, common=False)}"


def table(command: Any, common: bool) -> str:
    """What a command takes, or what all commands take."""
    from curate.cli.console import COMMON

    context = command.context_class(command)
    parameters = [found for found in command.params if (found.name in COMMON) == common]
    records = [found.get_help_record(context) for found in parameters]
    bar = "\\|"
    rows = [f"| `{option.replace('|', bar)}` | {escaped(text)} |" for option, text in filter(None, records)]
    return "\n".join(["| argument or option | meaning |", "|---|---|", *rows])


def escaped(text: str) -> str:
    """Fit for a cell of a table, on a site that would take `[X]` for a link."""
    return text.strip().replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")


def page() -> str:
    """The whole page."""
    found = [*commands()]
    head = HEAD.rstrip().replace("COMMON", table(found[0][1], common=True))
    return "\n\n".join([head, *(described(name, command) for name, command in found)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
