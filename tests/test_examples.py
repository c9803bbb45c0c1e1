"""The examples run as they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pandas_pipeline() -> None:
    said = run("pandas_pipeline.py")
    assert "Who directed Alien?" in said
    assert "{'policy': 'exclude', 'rows': 1}" in said


def test_datasets_map() -> None:
    assert "Dataset ['Alien', 'Heat']" in run("datasets_map.py")


def test_train_with_a_split(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("trl")
    said = run("train_with_a_split.py", tiny_model("llama"), tmp_path)
    assert said.count("'completion': ' ") == 2
    assert "train_loss" in said
