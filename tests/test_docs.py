"""The documentation and the program say the same."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import curate

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def with_examples() -> list[str]:
    """The modules whose docstrings hold examples."""
    files = sorted((ROOT / "curate").rglob("*.py"))
    return [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in files
        if re.search(r"^ *>>> ", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def shell_blocks(page: Path) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL)


def load(script: str) -> ModuleType:
    """A script of docs/tables/, as a module."""
    spec = importlib.util.spec_from_file_location(f"tables_{script}", ROOT / "docs" / "tables" / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_a_shell_block_exists(page: Path) -> None:
    import typer

    from curate.cli.app import app

    group = typer.main.get_command(app)
    for block in shell_blocks(page):
        for line in re.findall(r"^curate .*$", block, flags=re.MULTILINE):
            words = line.split("#")[0].split()
            command = group.commands[words[1]]  # type: ignore[attr-defined]
            if hasattr(command, "commands"):  # `curate views build`
                command = command.commands[words[2]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} - known == set(), line


@pytest.mark.parametrize("module", with_examples())
def test_docstring_examples_are_true(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0


def test_the_version_is_the_same_wherever_it_stands() -> None:
    """In the package itself, so that it is known of a checkout too; pyproject.toml and the citation repeat it."""
    for file, line in {"pyproject.toml": 'version = "{}"', "CITATION.cff": "version: {}"}.items():
        assert line.format(curate.__version__) in (ROOT / file).read_text().splitlines()


def test_the_citation_has_what_its_format_asks_for() -> None:
    """Citation File Format 1.2.0: the required keys, of the paper too."""
    import yaml

    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    for reference in (found["preferred-citation"], *found["references"]):
        assert {"type", "title", "authors"} <= reference.keys() and reference["authors"][0]["family-names"] == "Ghosal"


def test_every_public_name_can_be_had() -> None:
    for name in curate.__all__:
        assert getattr(curate, name) is not None


def test_the_site_has_a_row_for_every_argument_of_the_verbs() -> None:
    pytest.importorskip("mkdocs")
    page = load("outside").with_arguments((ROOT / "docs" / "python.md").read_text())
    for verb in ("score", "select", "validate", "run"):
        table = page.partition(f"::: curate.{verb}\n")[2].partition(":::")[0]
        for name in inspect.signature(getattr(curate, verb)).parameters:
            if name not in ("progress", "meter", "options", "settings"):
                assert re.search(rf"^\| `{name}` \| .* \| .+ \|$", table, re.MULTILINE), (verb, name)


def test_every_public_name_has_a_docstring_and_stands_on_the_python_page() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for name in set(curate.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(curate, name)), name
        assert f"::: curate.{name}\n" in page


def test_the_page_of_the_commands_is_what_they_say_now() -> None:
    cli = load("cli")
    assert (ROOT / "docs" / "cli.md").read_text() == cli.page(), "python docs/tables/cli.py writes it anew"


def test_editors_are_told_what_the_functions_take_now() -> None:
    stub = load("stub")
    assert stub.PAGE.read_text() == stub.page(), "python docs/tables/stub.py writes it anew"
    assert stub.PAGE.with_name("py.typed").exists()


def test_the_table_of_what_scores_tell_is_what_was_measured() -> None:
    knowledge = load("knowledge")
    assert knowledge.PAGE.read_text() == knowledge.page(), "python docs/tables/knowledge.py writes it anew"


def test_every_command_has_an_example_to_copy() -> None:
    for name, command in load("cli").commands():
        assert f"Example: {name} " in command.help, name


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert f" {page.relative_to(ROOT / 'docs').as_posix()}\n" in navigation, page


def test_the_quickstart_prints_what_it_shows(tmp_path: Path) -> None:
    quickstart = load("quickstart")
    reader = tmp_path / "reader"
    reader.mkdir()
    for block in quickstart.blocks(quickstart.PAGE.read_text()):
        printed = quickstart.run(block, reader)
        if block.shown is not None:
            printed = quickstart.cut_like(printed, block.shown)
            assert quickstart.without_fractions(printed) == quickstart.without_fractions(block.shown), printed


def test_the_readmes_commands_run_on_a_small_file(
    curate: Callable[..., Any], films: list[dict[str, Any]], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    import pandas as pd

    table = pd.DataFrame([{**film, "s_pop": row} for row, film in enumerate(films)])
    table.to_csv(tmp_path / "popQA.tsv", sep="\t", index=False)
    table.to_parquet(tmp_path / "test.parquet")
    (block,) = [b for b in shell_blocks(ROOT / "README.md") if "curate score" in b]
    for line in re.findall(r"^curate .*$", block, re.MULTILINE):
        dry = ["--dry-run"] if line.startswith("curate validate") else []
        line = line.replace("HuggingFaceTB/SmolLM2-135M", str(tiny_model("llama")))
        done = curate(*line.split()[1:], *dry)
        assert done.exit_code == 0, done.stderr


def test_the_readmes_python_runs_up_to_the_finetuning(
    films: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    signature, asked = inspect.signature(curate.validate), []

    def validate(*arguments: Any, **named: Any) -> Any:
        asked.append(signature.bind(*arguments, **named).arguments)
        return SimpleNamespace(summary=lambda: {"verdict": "no difference"})

    monkeypatch.setattr(curate, "validate", validate, raising=False)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    frame = pd.DataFrame(films)
    exec(block, {"frame": frame, "test": frame})
    assert set(asked[0]["splits"]) == {"top", "whole"}
