"""Scoring a large JSONL file with `column:`: curate beside duckdb reading and writing the same file, in turn.

    python benchmarks/scoring_jsonl.py --rows 10_000_000 --rounds 3 --output benchmarks/results/scoring-jsonl.json

Every measurement is a fresh process, imports left out. Both write zstd Parquet; curate also hashes the input, gives
every row an id, and adds a score and a status. The ratio is duckdb's time over curate's: 0.5 is half as fast.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHUNK = 200_000


def make_file(path: Path, rows: int, seed: int = 0) -> None:
    """Random questions, about 105 bytes a row: question, answer, subject, views."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rng = np.random.default_rng(seed)

    def text(prefix: str, below: int, count: int) -> Any:
        return pc.binary_join_element_wise(prefix, pc.cast(pa.array(rng.integers(0, below, count)), pa.string()), "")

    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            subject, answer = text("S", 3_000_000, count), text("A", 100_000, count)
            views = text("", 1_000_000, count)
            parts = ('{"question": "Who made ', subject, '?", "answer": "', answer, '", "subject": "', subject)
            lines = pc.binary_join_element_wise(*parts, '", "views": ', views, "}\n", "")
            file.write(lines.buffers()[2])


def curate_score(source: str, target: str) -> None:
    import curate

    curate.score(source, by="column:views", output=target)


def duckdb_copy(source: str, target: str) -> None:
    import duckdb

    duckdb.sql(f"copy (select * from '{source}') to '{target}' (format parquet, compression zstd)")


CONTENDERS = {
    "curate_score": (curate_score, ("curate.scoring", "pyarrow.parquet", "pyarrow.json", "pyarrow.compute", "numpy")),
    "duckdb_copy": (duckdb_copy, ("duckdb",)),
}


def peak_gb() -> float:
    """Peak memory of this process; `ru_maxrss` would be that of the parent where the parent's is larger."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6


def run_one(name: str, source: str, target: str) -> None:
    """Print wall seconds, processor seconds and peak memory of one contender."""
    function, modules = CONTENDERS[name]
    for module in modules:
        importlib.import_module(module)
    started, used = time.perf_counter(), time.process_time()
    function(source, target)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_gb": peak_gb()}))


def measure(name: str, source: Path) -> dict[str, float]:
    target = source.with_name(f"scored-{name}.parquet")
    command = [sys.executable, __file__, "--one", name, "--data", str(source), "--target", str(target)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    target.unlink()
    return {**found, "load": os.getloadavg()[0]}


def compare(source: Path, rounds: int) -> dict[str, Any]:
    """The median of every measurement, and the ratio of every round."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for number in range(rounds):
        for name in list(CONTENDERS)[:: 1 if number % 2 else -1]:
            runs[name].append(measure(name, source))
            print(number, name, {k: round(v, 2) for k, v in runs[name][-1].items()}, file=sys.stderr, flush=True)
    results: dict[str, Any] = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }
    for key in ("seconds", "cpu_seconds"):
        ratios = [theirs[key] / ours[key] for ours, theirs in zip(*runs.values(), strict=True)]
        results[f"ratio_{key}"] = {"median": statistics.median(ratios), "all": ratios}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="the JSONL file; made when it is not there")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(options.one, str(options.data), options.target)
    source = options.data or Path(f"build/score-{options.rows}.jsonl")
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        make_file(source, options.rows)
    found = {
        "rows": options.rows,
        "megabytes": source.stat().st_size / 1e6,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "results": compare(source, options.rounds),
    }
    text = json.dumps(found, indent=2)
    if options.output:
        options.output.write_text(text + "\n")
    print(text)
    return None


if __name__ == "__main__":
    main()
