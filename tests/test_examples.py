"""The examples run as they are."""

from __future__ import annotations

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


def test_train_with_a_split(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("trl")
    said = run("train_with_a_split.py", tiny_model("llama"), tmp_path / "out", cache=tmp_path / "cache")
    assert said.count("'completion': ' ") == 3
    assert "train_loss" in said
