"""The script for a GPU runs on any machine, with a tiny model: nothing in it is run for the first time on the GPU."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*arguments: object) -> str:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_part_runs_with_a_tiny_model_through_the_same_code(tmp_path: Path) -> None:
    run("--shape", "tiny", "-o", tmp_path / "found.json")
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    failed = [row for name, part in parts.items() if name not in ("attention", "real") for row in part["rows"]]
    assert not [row for row in failed if "fails" in row]
    (zero, four), known = parts["loss"]["rows"], parts["known"]["rows"][0]
    assert all(row["rows/s"] > 0 for row in (zero, four, known))
    packed = [row for row in parts["drift"]["rows"] if "packs" in row]
    assert all(row["packs"] and row["largest relative difference"] < 1e-5 for row in packed)
    assert len(parts["lora"]["rows"]) == 6 and parts["lora"]["rows"][0]["tokens an example"] > 10
    assert "fails" not in parts["attention"]["rows"][1]
    assert parts["real"]["rows"][0]["fails"] == "needs --real FOLDER and --popqa FILE"


def test_a_dry_run_says_what_each_part_takes_and_the_sum_is_under_eight_minutes() -> None:
    start, *parts, total = [int(seconds) for seconds in re.findall(r" (\d+) s(?: |\n|$)", run("--dry-run"))]
    assert len(parts) == 8 and abs(start + sum(parts) - total) <= len(parts)  # each is rounded
    assert total < 480
