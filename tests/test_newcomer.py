"""The first hour: a fresh environment with the built wheel, an empty folder, the README's blocks one after the other.

What the wheel depends on comes from the environment that runs the tests; without the extra `lm` it is hidden.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from curate.cli.app import app
from tests.test_base_install import EXTRAS

pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = ("HuggingFaceTB/SmolLM2-135M", "meta-llama/Llama-2-7b-hf")
"""Those that the README names."""

Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in which the wheel is installed, and what is beside `curate` here can be imported."""
    made = tmp_path_factory.mktemp("wheel")
    source = made / "source"
    source.mkdir()
    shutil.copytree(ROOT / "curate", source / "curate", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", made, source], check=True)
    (wheel,) = made.glob("curate_qa-*.whl")
    fresh = made / "fresh"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh], check=True)
    subprocess.run([*pip, "--python", fresh / "bin" / "python", "install", *offline, wheel], check=True)
    (packages,) = fresh.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"])  # of which no .pth is read, as of a checkout
    hidden = "import os, sys\nsys.modules.update(dict.fromkeys(filter(None, os.environ['HIDDEN'].split())))\n"
    (packages / "sitecustomize.py").write_text(hidden)
    return fresh


@pytest.fixture
def typed(environment: Path, tmp_path: Path) -> Typed:
    """Types a line into a shell, in an empty folder, where nothing of this machine's settings is known."""
    (tmp_path / "here").mkdir()

    def run(line: str, hidden: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        told = {name: value for name, value in os.environ.items() if not name.startswith(("CURATE", "PYTHON", "HF_"))}
        told |= {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path), "HIDDEN": hidden}
        told |= {"HF_HUB_OFFLINE": "1", **more}
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path / "here", env=told, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    """The commands on data of one's own, which begin with a file from the web."""
    (block,) = [block for block in blocks("sh") if "curate score" in block]
    return re.findall(r"^curate .*$", block, re.MULTILINE)


def write_popqa(folder: Path) -> None:
    """What the README loads from the web, in small."""
    rows = [
        {"question": f"What is the capital of Land {n}?", "possible_answers": f'["Town {n}"]', "subj": f"Land {n}",
         "prop": "capital", "s_pop": 10 * n}
        for n in range(1, 41)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "popQA.tsv", sep="\t", index=False)


def test_the_wheel_alone_is_imported_and_loads_nothing_heavy(typed: Typed, environment: Path) -> None:
    heavy = ("torch", "transformers", "datasets", "pandas", "matplotlib", "duckdb")
    code = f"import sys, curate; print(curate.__file__, [name for name in {heavy} if name in sys.modules])"
    told = typed(f'python -c "{code}"').stdout
    assert str(environment) in told and told.endswith("[]\n")
    assert typed("curate -V").stdout.startswith("curate ")


HELPS = """
import sys
from curate.cli.app import main

for name in {names}:
    sys.argv = ["curate", *name.split(), "-h"]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, name
"""
"""All pages of help, in one process."""


def test_every_command_has_help_and_shells_their_completion(typed: Typed, tmp_path: Path) -> None:
    import typer

    group = typer.main.get_command(app)
    names = ["", *group.commands, "views fetch", "views build"]  # type: ignore[attr-defined]
    (tmp_path / "here" / "helps.py").write_text(HELPS.format(names=names))
    done = typed("python helps.py", hidden=" ".join(EXTRAS))
    assert done.returncode == 0 and done.stdout.count("Usage: curate") == len(names), done.stderr
    for shell in ("bash", "zsh"):
        script = typed("curate", _CURATE_COMPLETE=f"source_{shell}")
        assert script.returncode == 0 and "_curate_completion" in script.stdout
    complete = (
        "source <(_CURATE_COMPLETE=source_bash curate); COMP_WORDS=(curate sel); COMP_CWORD=1; _curate_completion"
    )
    assert typed(f"{complete} curate; echo ${{COMPREPLY[@]}}").stdout == "select\n"


def test_a_base_install_scores_by_columns_and_selects_and_names_the_extra_for_the_rest(
    typed: Typed, tmp_path: Path
) -> None:
    write_popqa(tmp_path / "here")
    hidden = " ".join(EXTRAS)
    for line in commands():
        if line.startswith("curate select"):
            assert typed("curate score popQA.tsv --by column:s_pop -o scored.parquet", hidden).returncode == 0
        done = typed(line, hidden)
        if "--model" in line:
            assert done.returncode == 1 and "pip install 'curate-qa[lm]'" in done.stderr, line
        else:
            assert done.returncode == 0, done.stderr


def test_with_models_the_readme_runs_as_it_stands(
    typed: Typed, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    write_popqa(tmp_path / "here")
    for name in MODELS:  # as the Hub's client would have left them
        cache = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(tiny_model("llama"), cache / "snapshots" / ("0" * 40))
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text("0" * 40)
    quick = {"CURATE_SEEDS": "1", "CURATE_MAX_STEPS": "1", "CURATE_LIMIT": "6", "CURATE_KNOWLEDGE": "no"}
    quick |= {"HF_HUB_CACHE": str(tmp_path / "hub")}
    for line in commands():
        done = typed(line, **quick)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "run" / "report.html").exists()
    (code,) = blocks("python")
    data = "frame = pandas.DataFrame({'question': [f'Q{n}?' for n in range(12)], 'answer': 'a', 'views': range(12)})"
    once = code.replace('output="run/"', 'output="run-2/", seeds=1, max_steps=1, knowledge=False')
    (tmp_path / "here" / "readme.py").write_text(f"import pandas\n{data}\ntest = frame.head(6)\n{once}")
    done = typed("python readme.py", **quick)
    assert done.returncode == 0, done.stderr
