"""Selecting from millions of rows: curate beside duckdb and polars doing the plain threshold query, in one run.

    pip install duckdb polars
    python benchmarks/selecting.py --rows 10_000_000 --rounds 3 --output benchmarks/results/selecting-10m.json
    python benchmarks/selecting.py --rows 100_000_000 --rounds 1 --tasks threshold  # makes 4 GB

Every measurement is a fresh process; the contenders take turns, so that what else runs on the machine hits all alike.
curate does more than its peers: exact size, seeded ties, types and manifest kept, input hashed, mixes explained.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STRATA = 1000
SHARE = 0.3
CHUNK = 500_000
WRITE = "(format parquet, compression zstd)"


def make_table(path: Path, rows: int, seed: int = 0) -> None:
    """Random examples: curate_id, question, answers (list), subject, relation (1,000 of them), score_views, score_log.

    score_views is all different; score_log has few values, so that tens of thousands of rows tie at a cut.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from curate.datasets.ids import hex_ids

    def text(prefix: str, numbers: Any) -> Any:
        return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), " ")

    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, CHUNK):
        n = min(CHUNK, rows - start)
        subject = text("Subject", rng.integers(0, 3_000_000, n))
        relation = text("relation", rng.zipf(1.3, n) % STRATA)
        pair = pa.concat_arrays([text("answer", rng.zipf(1.2, n) % 100_000), text("alias", rng.integers(0, 50_000, n))])
        views = rng.normal(4, 1.2, n)
        table = pa.table(
            {
                "curate_id": hex_ids(rng.integers(0, 2**63, n, dtype=np.uint64)),
                "question": pc.binary_join_element_wise("What is the ", relation, " of ", subject, "?", ""),
                "answers": pa.ListArray.from_arrays(
                    np.arange(0, 2 * n + 1, 2, dtype=np.int32), pair.take(np.arange(2 * n).reshape(2, n).T.ravel())
                ),
                "subject": subject,
                "relation": relation,
                "score_views": views,
                "score_log": views.round(2),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=100_000)
    assert writer is not None
    writer.close()


def curate_threshold(source: str, target: str) -> None:
    import curate

    curate.select(source, by="views", top=SHARE, output=target)


def curate_ties(source: str, target: str) -> None:
    import curate

    curate.select(source, by="log", top=SHARE, output=target)


def curate_strata(source: str, target: str) -> None:
    import curate

    curate.select(source, by="views", top=SHARE, stratify_by="relation", output=target)


def duckdb_threshold(source: str, target: str, column: str = "score_views") -> None:
    import duckdb

    query = f"select quantile_disc({column}, {1 - SHARE}) from '{source}'"
    cut = duckdb.sql(query).fetchall()[0][0]
    duckdb.sql(f"copy (select * from '{source}' where {column} >= {cut!r}) to '{target}' {WRITE}")


def duckdb_ties(source: str, target: str) -> None:
    duckdb_threshold(source, target, "score_log")


def duckdb_strata(source: str, target: str) -> None:
    import duckdb

    cuts = f"select relation, quantile_disc(score_views, {1 - SHARE}) as cut from '{source}' group by relation"
    query = f"select t.* from '{source}' t join ({cuts}) c on t.relation = c.relation where score_views >= cut"
    duckdb.sql(f"copy ({query}) to '{target}' {WRITE}")


def polars_threshold(source: str, target: str, column: str = "score_views") -> None:
    import polars as pl

    table = pl.scan_parquet(source)
    cut = table.select(pl.col(column).quantile(1 - SHARE, "nearest")).collect().item()
    table.filter(pl.col(column) >= cut).sink_parquet(target, compression="zstd")


def polars_ties(source: str, target: str) -> None:
    polars_threshold(source, target, "score_log")


def polars_strata(source: str, target: str) -> None:
    import polars as pl

    table = pl.scan_parquet(source)
    cuts = table.group_by("relation").agg(cut=pl.col("score_views").quantile(1 - SHARE, "nearest"))
    joined = table.join(cuts, on="relation").filter(pl.col("score_views") >= pl.col("cut")).drop("cut")
    joined.sink_parquet(target, compression="zstd", engine="streaming")


TASKS = {
    "threshold": (curate_threshold, duckdb_threshold, polars_threshold),
    "ties": (curate_ties, duckdb_ties, polars_ties),
    "strata": (curate_strata, duckdb_strata, polars_strata),
}


def measure(function: str, source: Path, target: Path) -> dict[str, float]:
    """Wall seconds, processor seconds and peak memory of one function in a process of its own, imports left out."""
    command = [sys.executable, __file__, "--one", function, "--data", str(source), "--output", str(target)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {**json.loads(printed), "megabytes": target.stat().st_size / 1e6}


def peak_gb() -> float:
    """Peak memory of this process; `ru_maxrss` would be that of the parent where the parent's is larger."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6


def run_one(function: str, source: str, target: str) -> None:
    import importlib

    for module in {"curate": ["curate.selecting", "pyarrow.parquet", "pyarrow.compute", "numpy"]}.get(
        function.split("_")[0], [function.split("_")[0]]
    ):
        importlib.import_module(module)
    started, used = time.perf_counter(), time.process_time()
    globals()[function](source, target)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_gb": peak_gb()}))


def compare(source: Path, rounds: int, tasks: list[str]) -> dict[str, Any]:
    """The median of every measurement, and curate's ratio to the faster of its peers in the same round."""
    results: dict[str, Any] = {}
    for task in tasks:
        names = [function.__name__ for function in TASKS[task]]
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names[number % 3 :] + names[: number % 3]:
                target = source.with_name(f"selected-{name}.parquet")
                runs[name].append({**measure(name, source, target), "load": os.getloadavg()[0]})
                target.unlink()
                print(number, name, {k: round(v, 2) for k, v in runs[name][-1].items()}, file=sys.stderr, flush=True)
        results[task] = {
            name: {k: statistics.median(r[k] for r in found) for k in found[0]} for name, found in runs.items()
        }
        for key in ("seconds", "cpu_seconds"):
            ratios = [ours[key] / min(a[key], b[key]) for ours, a, b in zip(*runs.values(), strict=True)]
            results[task][f"ratio_{key}"] = {"median": statistics.median(ratios), "all": ratios}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--data", type=Path, help="the table to select from; made when it is not there")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(options.one, str(options.data), str(options.output))
    source = options.data or Path(f"build/select-{options.rows}.parquet")
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        make_table(source, options.rows)
    found = {
        "rows": options.rows,
        "megabytes": source.stat().st_size / 1e6,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "results": compare(source, options.rounds, options.tasks),
    }
    text = json.dumps(found, indent=2)
    if options.output:
        options.output.write_text(text + "\n")
    print(text)
    return None


if __name__ == "__main__":
    main()
