"""What the benchmarks on large files share: every measurement is a process of its own, imports left out."""

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

CURATE = ("pyarrow.parquet", "pyarrow.compute", "numpy")
"""What curate imports when it is used, besides modules of its own."""

Contender = Callable[[str, str], None]
"""Reads the first file, and writes the second."""


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that these benchmarks have in common; `--one` and `--target` are for the processes they start."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="the file to read; made when it is not there")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    return parser


def made(path: Path, rows: int, make: Callable[[Path, int], None]) -> Path:
    """The file, made when it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, rows)
    return path


def run_here(contender: Contender, modules: Sequence[str], source: str, target: str) -> None:
    """Print wall seconds, processor seconds and peak memory of one contender."""
    for module in modules:
        importlib.import_module(module)
    started, used = time.perf_counter(), time.process_time()
    contender(source, target)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_gb": _peak_gb()}))


def measure(script: str, name: str, source: Path, target: Path) -> dict[str, float]:
    """What `script --one NAME` prints, how large the file is that it wrote, and the load of the machine."""
    command = [sys.executable, script, "--one", name, "--data", str(source), "--target", str(target)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {**json.loads(printed), "megabytes": target.stat().st_size / 1e6, "load": os.getloadavg()[0]}
    target.unlink()
    return found


def take_turns(script: str, names: Sequence[str], source: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """All measurements of each; every round begins with another, so that what else runs here hits all alike."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            runs[name].append(measure(script, name, source, source.with_name(f"made-by-{name}.parquet")))
            print(number, name, {k: round(v, 2) for k, v in runs[name][-1].items()}, file=sys.stderr, flush=True)
    return runs


def medians(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """The median of every measurement of each."""
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }


def median_and_all(ratios: Sequence[float]) -> dict[str, Any]:
    """The ratios of every round."""
    return {"median": statistics.median(ratios), "all": list(ratios)}


def tell(source: Path, rows: int, results: dict[str, Any], output: Path | None) -> None:
    """Print the results with what they were measured on, and write them if there is where to."""
    found = {
        "rows": rows,
        "megabytes": source.stat().st_size / 1e6,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "results": results,
    }
    text = json.dumps(found, indent=2)
    if output:
        output.write_text(text + "\n")
    print(text)


def _peak_gb() -> float:
    """Peak memory of this process; `ru_maxrss` would be that of the parent where the parent's is larger."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6
