"""How much faster two workers are than one: Ray, and shards, beside one process with one thread.

    python benchmarks/scaling.py --data popqa_questions.json -o benchmarks/results/scaling.json

A seeded random Llama of 34 million parameters, the first questions of the data. Every run is the command as one types
it, with one thread a process; its seconds are those of the whole command (Python, Ray, loading the model, merging
included) and, as `scoring`, those from the first chunk on, as the command tells them. All must write the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loss_vs_lm_eval import make_model

from curate.data.table import read
from curate.prompts import DEFAULT

GOALS = {"ray": 1.6, "shards": 1.8}
RAY = ("--engine", "ray", "--ray-address", "local", "--workers", "2", "--cpus", "1")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def start(*arguments: object) -> subprocess.Popen[str]:
    """A command of curate, at work."""
    program = [sys.executable, "-m", "curate", *map(str, arguments)]
    return subprocess.Popen(program, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it printed, once it is done."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{process.args} ended with exit code {process.returncode}")
    return json.loads(output)


def timed(commands: Sequence[Sequence[object]], then: Sequence[object] = ()) -> dict[str, float]:
    """Commands side by side, and one after them."""
    started = time.perf_counter()
    processes = [start(*command) for command in commands]
    scoring = max(result_of(process)["seconds"] for process in processes)
    if then:
        result_of(start(*then))
    return {"seconds": round(time.perf_counter() - started, 1), "scoring": round(scoring, 1)}


def measure(data: Path, model: Path, folder: Path) -> dict[str, dict[str, float]]:
    """One process, two workers of Ray, two shards."""
    score = ["score", data, "--by", "loss", "--model", model, "--device", "cpu", "--quiet", "--json", "-o"]
    results = {
        "local": timed([[*score, folder / "local.parquet"]]),
        "ray": timed([[*score, folder / "ray.parquet", *RAY]]),
        "shards": timed(
            [[*score, folder / "shards", "--shard", f"{n}/2"] for n in (1, 2)],
            ["merge", folder / "shards", "-o", folder / "shards.parquet", "--json"],
        ),
    }
    if len({(folder / f"{name}.parquet").read_bytes() for name in results}) != 1:
        raise SystemExit("the runs did not write the same bytes")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="questions with answers, such as PopQA's")
    parser.add_argument("--rows", type=int, default=14_267, help="questions; best an even number of chunks (1,024)")
    parser.add_argument("--size", default="34M")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        table = read(options.data).table.slice(0, options.rows)
        (folder / "data.jsonl").write_text("\n".join(map(json.dumps, table.to_pylist())))
        examples = read(folder / "data.jsonl").examples()
        texts = [DEFAULT.ask(e) + DEFAULT.render_completion(e.answers[0]) for e in examples if e.answers]
        loaded = make_model(options.size, texts)
        loaded.model.save_pretrained(folder / "model")
        loaded.tokenizer.save_pretrained(folder / "model")
        del loaded
        results = measure(folder / "data.jsonl", folder / "model", folder)
    ratios = {
        name: {clock: round(results["local"][clock] / results[name][clock], 2) for clock in ("seconds", "scoring")}
        for name in GOALS
    }
    for name, goal in GOALS.items():
        print(f"{name}: {ratios[name]['seconds']}x (whole command), {ratios[name]['scoring']}x (scoring); goal {goal}x")
    content = {
        "model": f"seeded random Llama, {options.size}",
        "rows": options.rows,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "runs": results,
        "ratios": ratios,
        "goals": GOALS,
    }
    print(json.dumps(content, indent=2))
    if options.output:
        options.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
