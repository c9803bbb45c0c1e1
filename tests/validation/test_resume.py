"""A run that is killed while it trains goes on from its last checkpoint and ends with the same numbers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.records import Example
from curate.validation.arms import fingerprint_examples

QUESTIONS = [
    {"question": f"What is the colour of number {n}?", "answer": ["red", "blue", "green"][n % 3]} for n in range(24)
]


def command(model: Path, folder: Path, output: str) -> list[str]:
    options = f"--eval {folder}/test.jsonl --model {model} -o {folder}/{output} --seeds 1 --epochs 12 --batch-size 4"
    options += " --learning-rate 1e-2 --patience 12 --device cpu --quiet"
    return [sys.executable, "-m", "curate", "validate", f"{folder}/arm.jsonl", *options.split()]


def predictions(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "predictions.parquet").to_pylist()


@pytest.fixture(scope="module")
def whole(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and a folder with data and a run that nothing stopped."""
    import json

    folder = tmp_path_factory.mktemp("resume")
    for name, rows in {"arm": QUESTIONS, "test": QUESTIONS[:9]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    subprocess.run(command(tiny_model("llama"), folder, "whole"), check=True, capture_output=True)
    return tiny_model("llama"), folder


def test_a_run_killed_in_the_middle_of_an_arm_ends_with_the_same_numbers(whole: tuple[Path, Path]) -> None:
    model, folder = whole
    first = subprocess.Popen(command(model, folder, "killed"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while first.poll() is None and not list(folder.glob("killed/.parts/*/checkpoint-*/trainer_state.json")):
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert first.returncode == -signal.SIGKILL, "the run was over before it could be killed"
    subprocess.run(command(model, folder, "killed"), check=True, capture_output=True)
    assert predictions(folder / "killed") == predictions(folder / "whole")
    assert (folder / "killed/summary.json").read_bytes() == (folder / "whole/summary.json").read_bytes()
    assert not list(folder.glob("killed/.parts/*/")), "checkpoints of finished arms are dropped"


def test_what_a_template_may_name_is_part_of_the_key_of_what_is_kept() -> None:
    example = Example("1", "In what city was he born?", ("Paris",), subject="Zola", relation="birthplace")
    others = [replace(example, relation="place"), replace(example, subject="Manet"), example]
    assert [fingerprint_examples([e]) == fingerprint_examples([example]) for e in others] == [False, False, True]
