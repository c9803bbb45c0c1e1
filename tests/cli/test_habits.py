"""What people expect of any command: -h and -V, completion, defaults of their own, standard output, warnings."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate as library

Curate = Callable[..., Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def films_file(films: list[dict[str, Any]], tmp_path: Path) -> Path:
    path = tmp_path / "films.jsonl"
    path.write_text("\n".join(map(json.dumps, films)))
    return path


@pytest.fixture
def scored(curate: Curate, films_file: Path) -> str:
    assert curate("score", films_file, "--by", "column:views", "-o", "scored.parquet", "-q").exit_code == 0
    return "scored.parquet"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_h_and_v_are_short_for_help_and_version(curate: Curate) -> None:
    assert curate("-V").stdout == curate("--version").stdout == f"curate {library.__version__}\n"
    for command in ((), ("score",), ("views", "build")):
        assert curate(*command, "-h").stdout == curate(*command, "--help").stdout != ""


def test_help_has_options_in_panels_as_wide_as_the_terminal_with_their_choices(
    curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (80, 150):
        monkeypatch.setenv("COLUMNS", str(width))
        page = curate("score", "-h").stdout
        assert max(map(len, page.splitlines())) == width
        titles = {*re.findall(r"╭─ ([\w ]+) ─", page)}
        assert titles >= {"Arguments", "Data", "Model", "Loss", "Known", "Page views", "Engine", "Output"}
    assert "[token-mean|sum|byte-mean]" in page.replace("\n", "")


def test_no_help_text_holds_what_would_be_taken_for_markup() -> None:
    spec = importlib.util.spec_from_file_location("cli_page", ROOT / "docs" / "tables" / "cli.py")
    assert spec is not None and spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    for name, command in page.commands():
        assert not re.search(r"\[[a-z#/@]", command.help), name
        for parameter in command.params:
            assert not re.search(r"\[[a-z#/@]", parameter.help or ""), (name, parameter.name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_every_shell(shell: str) -> None:
    done = complete({"_CURATE_COMPLETE": f"source_{shell}"})
    assert done.returncode == 0 and "_CURATE_COMPLETE" in done.stdout
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=done.stdout, text=True).returncode == 0


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("curate sel", {"select"}),
        ("curate validate --know", {"--knowledge"}),
        ("curate score --reduction s", {"sum"}),
        ("curate simulate one", {"one-layer"}),
        ("curate score --by pag", {"pageviews"}),
        ("curate run popqa-", {"popqa-controlled"}),
        ("curate views ", {"fetch", "build"}),
    ],
)
def test_the_shell_completes_commands_options_and_choices(typed: str, completed: set[str]) -> None:
    words = typed.split(" ")
    environment = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1), "_CURATE_COMPLETE": "complete_bash"}
    assert {*complete(environment).stdout.split()} == completed


def complete(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What the installed command answers to a shell."""
    code = "import sys; sys.argv[0] = 'curate'; from curate.cli.app import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_a_dash_as_the_output_is_standard_output(curate: Curate, films_file: Path, tmp_path: Path) -> None:
    done = curate("score", films_file, "--by", "column:views", "-o", "-")
    rows = lines(done.stdout)
    assert [row["score_views"] for row in rows] == [900, 500, 120, 900, 40, None]
    assert "coverage" in done.stderr and "/stdout" not in done.stderr, "nothing is told of where it lay meanwhile"
    again = curate("select", "-", "--top", "2", "--format", "messages", "-o", "-", "--json", input=done.stdout)
    assert [row["messages"][1]["content"] for row in lines(again.stdout)] == ["Ridley Scott", "horror"]
    assert json.JSONDecoder().raw_decode(again.stderr)[0]["splits"][0]["rows"] == 2
    table = curate("select", "-", "--top", "2", "--to", "csv", "-o", "-", input=done.stdout).stdout
    assert table.startswith('"question",') and len(table.splitlines()) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["films.jsonl"], "nothing is written"
    refused = curate("select", "-", "--top", "2", "--to", "parquet", "-o", "-", input=done.stdout)
    assert refused.exit_code == 1 and "A Parquet file is no text" in refused.stderr


def test_quiet_leaves_warnings(curate: Curate, films_file: Path) -> None:
    done = curate("score", films_file, "--by", "column:views", "-o", "s.parquet", "--max-missing", "0", "-q")
    assert (done.exit_code, done.stderr) == (3, "Warning: 1 examples have no score, more than --max-missing 0.\n")


def test_log_level_shows_what_libraries_log(curate: Curate, scored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    from curate.cli import app

    def logging_select(*arguments: Any, **named: Any) -> Any:
        logging.getLogger("some.package").info("so \x1b[2J it goes")
        return kept(*arguments, **named)

    kept = app.selecting.select
    monkeypatch.setattr(app.selecting, "select", logging_select)
    words = ("select", scored, "--top", "2", "--dry-run", "-o", "top.parquet")
    assert r"INFO some.package: so \u001b[2J it goes" in curate(*words, "--log-level", "info").stderr
    assert "some.package" not in curate(*words, "--log-level", "warning").stderr
    assert "some.package" not in curate(*words).stderr
    assert curate(*words, "--log-level", "loud").exit_code == 1


def test_an_option_that_is_not_typed_is_what_the_environment_says_or_else_the_file(
    curate: Curate, scored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "curate.yaml").write_text(
        "seed: 3\nselect:\n  top: 2\n  order: obscure-first\n  where: [relation=genre]\n"
    )

    def selected(*more: object) -> dict[str, Any]:
        done = curate("select", scored, "-o", "top.parquet", "--json", "--force", *more)
        assert done.exit_code == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["output"] == "top.parquet"
        return told

    found = selected("--config", "curate.yaml")
    assert (found["splits"][0]["asked"], found["seed"], found["pool"]) == ("2", 3, 2)
    assert pq.read_table("top.parquet")["subject"].to_pylist() == ["Ikiru", "Alien"]
    monkeypatch.setenv("CURATE_TOP", "1")
    assert selected("--config", "curate.yaml")["splits"][0]["asked"] == "1", "the environment comes before the file"
    assert selected("--top", "3", "--order", "source")["splits"][0]["asked"] == "3", "what is typed before both"
    monkeypatch.setenv("CURATE_CONFIG", "curate.yaml")
    monkeypatch.setenv("CURATE_WHERE", "relation=genre subject!=Alien")
    assert selected()["pool"] == 1, "several of what is repeatable, with a blank between them"


@pytest.mark.parametrize("yes", ["true", "yes", "on"])
def test_a_file_turns_on_what_is_yes_or_no(curate: Curate, scored: str, tmp_path: Path, yes: str) -> None:
    (tmp_path / "c.yaml").write_text(f"whole: {yes}\nquiet: {yes}\ndry-run: {yes}\nmodel: other\nsizes: [1, 2]\n")
    done = curate("select", scored, "-o", "splits/", "--config", "c.yaml")
    assert (done.exit_code, done.stderr) == (0, ""), done.stderr
    assert "would write splits" in done.stdout
    assert not (tmp_path / "splits").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topp: 2", "curate: c.yaml: topp is no option of a command.\n"),
        ("select: {topp: 2}", "curate: c.yaml: topp is no option of curate select.\n"),
        ("validate: {topp: 2}", "curate: c.yaml: topp is no option of curate validate.\n"),
        ("selekt: {top: 2}", "Try: select\n"),
        ("top: {a: 1}", "curate: c.yaml: top holds a section.\n"),
        ("- top", "curate: c.yaml holds no options.\n"),
        ("top: [", "curate: c.yaml cannot be read: "),
        (None, "curate: c.yaml cannot be read: "),
    ],
)
def test_what_a_file_says_that_no_command_has_is_an_error(
    curate: Curate, scored: str, tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    done = curate("select", scored, "--top", "2", "-o", "top.parquet", "--config", "c.yaml")
    assert done.exit_code == 1 and message in done.stderr
    assert not (tmp_path / "top.parquet").exists()


def test_open_shows_the_report_in_the_browser(curate: Curate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    options = ("--subjects", 40, "--finetuning-subjects", 20, "--validation-subjects", 5)
    options += ("--steps", 2, "--finetuning-steps", 2)
    done = curate("simulate", "facts", *options, "--seeds", 1, "--processes", 1, "-o", "facts", "--open", "-q")
    assert done.exit_code == 0, done.stderr
    assert curate("show", "facts", "--open").exit_code == 0
    assert opened == [(tmp_path / "facts" / "report.html").as_uri()] * 2


def test_the_size_of_batches_is_an_option_that_moves_no_number(
    curate: Curate, films_file: Path, tiny_model: Callable[[str], Path]
) -> None:
    words = ("score", films_file, "--by", "loss", "--model", tiny_model("llama"), "--shots", 0)
    for budget, name in ((8, "a.parquet"), (4000, "b.parquet")):
        assert curate(*words, "--token-budget", budget, "-o", name).exit_code == 0
    a, b = (pq.read_table(name)["score_loss"].to_pylist() for name in ("a.parquet", "b.parquet"))
    assert a == pytest.approx(b, abs=1e-5)
    assert "already made" in curate(*words, "--token-budget", 16, "-o", "a.parquet").stderr


def test_a_dry_run_tells_rows_tokens_time_and_memory(
    curate: Curate, films: list[dict[str, Any]], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_model("llama")

    def plan(times: int, *words: object) -> dict[str, Any]:
        many = [{**film, "question": f"{film['question']} {n}"} for n in range(times) for film in films]
        (tmp_path / "films.jsonl").write_text("\n".join(map(json.dumps, many)))
        told = curate(*words, "--model", model, "--dry-run", "--json")
        assert told.exit_code == 0, told.stderr
        return json.loads(told.stdout)

    score = ("score", "films.jsonl", "--by", "loss", "--shots", 0, "-o", "s.parquet")
    few, many = plan(1, *score), plan(4, *score)
    assert (few["rows"], many["rows"]) == (6, 24)
    weights = (model / "model.safetensors").stat().st_size
    for found in (few, many):
        assert found["loss"]["tokens"] > 0 and found["loss"]["seconds"] > 0 and found["loss"]["memory"] > 0.9 * weights
    validate = ("validate", "films.jsonl", "--eval", "films.jsonl", "--no-knowledge", "-o", "run")
    few, many = (plan(times, *validate)["costs"] for times in (1, 4))
    assert 3.5 * few["tokens"] < many["tokens"] and few["memory"] > 0.9 * weights
    assert "think of a factor of two" in curate(*validate, "--model", model, "--dry-run").stdout
    assert "cannot be told" in curate(*validate, "--model", "nobody/nothing", "--dry-run").stdout
