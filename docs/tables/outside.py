"""A hook of mkdocs: what lies outside docs/ (measurements, the bundled world, the changelog) becomes pages of the site.

Links are written as they lead on GitHub (`../benchmarks/results/loss.md`). Here they lead to the page that is made of
that file; where there is none, to nothing: what they say is kept.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PAGES = {
    "CHANGELOG.md": "changelog.md",
    **{f"benchmarks/results/{path.name}": f"benchmarks/{path.name}" for path in ROOT.glob("benchmarks/results/*.md")},
    **{
        f"examples/{path.parent.name}/README.md": f"examples/{path.parent.name.replace('_', '-')}.md"
        for path in ROOT.glob("examples/*/README.md")
    },
}
"""File of the repository: page of the site."""

SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def with_arguments(markdown: str) -> str:
    """The page of the Python functions with a table of what each takes, as the command of that name says it."""
    import curate
    from curate.cli.app import app

    group: Any = typer.main.get_command(app)

    def table(found: re.Match[str]) -> str:
        options = {option.name: option for option in group.commands[found[1]].params}
        rows = []
        for parameter in inspect.signature(getattr(curate, found[1])).parameters.values():
            option, default = options.get(parameter.name), parameter.default
            text = getattr(option, "help", None) or "see above"
            text = text.replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")
            shown = "" if default in (parameter.empty, None, ()) else f"`{default!r}`"
            rows.append(f"| `{parameter.name}` | {shown} | {text} |")
        head = ["| argument | default | meaning; options are those of the command |", "|---|---|---|"]
        return "\n".join([f"::: curate.{found[1]}", "", *head, *rows, ""])

    return re.sub(r"^::: curate\.(score|merge|select|validate|run|simulate)$", table, markdown, flags=re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads every relative link to the page that its file has become."""
    here = page.file.src_uri
    markdown = with_arguments(markdown) if here == "python.md" else markdown
    source = SOURCES.get(here, f"docs/{here}")

    def lead(found: re.Match[str]) -> str:
        image, text, target, anchor = found.groups()
        goal = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if goal.startswith("docs/tables/"):
            return text
        there = goal.removeprefix("docs/") if goal.startswith("docs/") else PAGES.get(goal)
        if there is None:
            return text
        return f"{image}[{text}]({posixpath.relpath(there, posixpath.dirname(here) or '.')}{anchor or ''})"

    return LINK.sub(lead, markdown)
