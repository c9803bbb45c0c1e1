"""The examples run as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: object, cache: Path | None = None) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    own = {"HF_DATASETS_CACHE": str(cache)} if cache else {}  # what an earlier run left in the user's is not read
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | own)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pandas_pipeline() -> None:
    said = run("pandas_pipeline.py")
    assert "Who directed Alien?" in said
    assert "{'policy': 'exclude', 'rows': 1}" in said


def test_datasets_map() -> None:
    assert "Dataset ['Alien', 'Heat']" in run("datasets_map.py")


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Its cells one after the other in one process; lines that begin with ! are typed into a shell."""
    notebook = json.loads((EXAMPLES / "first_hour.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and not any(cell.get("outputs") for cell in notebook["cells"])
    lines = ["import subprocess, sys"]
    for cell in notebook["cells"]:
        for line in "".join(cell["source"]).splitlines() if cell["cell_type"] == "code" else ():
            shell = f'"{sys.executable}" -m {line[1:]}'
            lines.append(f"subprocess.run({shell!r}, shell=True, check=True)" if line.startswith("!") else line)
    lines = [line for line in lines if not line.startswith("%pip")]
    lines[-1] = f"print({lines[-1]})"
    (tmp_path / "cells.py").write_text("\n".join(lines), encoding="utf-8")
    told = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, "cells.py"]
    done = subprocess.run(command, cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Finetuning on" in done.stdout and "run/report.html" in done.stdout
    assert (tmp_path / "run" / "report.html").exists()


def test_train_with_a_split(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("trl")
    said = run("train_with_a_split.py", tiny_model("llama"), tmp_path / "out", cache=tmp_path / "cache")
    assert said.count("'completion': ' ") == 3
    assert "train_loss" in said
