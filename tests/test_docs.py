"""The documentation and the program say the same."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

import curate

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_a_shell_block_exists(page: Path) -> None:
    import typer

    from curate.cli.app import app

    group = typer.main.get_command(app)
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL):
        for line in re.findall(r"^curate .*$", block, flags=re.MULTILINE):
            words = line.split("#")[0].split()
            command = group.commands[words[1]]  # type: ignore[attr-defined]
            if hasattr(command, "commands"):  # `curate views build`
                command = command.commands[words[2]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} - known == set(), line


@pytest.mark.parametrize(
    "module",
    [
        "curate.datasets.answers",
        "curate.datasets.read",
        "curate.scoring",
        "curate.selecting",
        "curate.selection",
        "curate.datasets.makers",
        "curate.datasets.templates",
        "curate.validation.subjects",
        "curate.wikipedia.titles",
    ],
)
def test_docstring_examples_are_true(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0


def test_every_public_name_can_be_had() -> None:
    for name in curate.__all__:
        assert getattr(curate, name) is not None
