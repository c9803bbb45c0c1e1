"""What `curate search` finds on the bundled world and what it takes, beside validating every candidate in full.

    python benchmarks/searching.py -o /somewhere [--seeds 3]

Both go on where they were stopped. The full validation is asked the questions of both parts, with seeds of its own.
Prints a table for docs/searching.md, and the interval of what is recommended against the best of the full validation.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import curate
from curate.recipes.run import unpack_world
from curate.validation.statistics import compare_arms

HOW = {"learning_rate": 1e-3, "batch_size": 32, "max_steps": 260}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    folder, world = asked.output, asked.output / "world"
    unpack_world(world)
    started = time.process_time()
    data = {"eval": world / "test.parquet", "by": ("column:views", "loss"), "shots": 0, "model": world / "model"}
    found = curate.search(world / "train.parquet", **data, output=folder / "search", progress=print, **HOW)
    searched = time.process_time() - started

    summary, scored = found.summary, folder / "search" / "scored.parquet"
    arms = {c["candidate"]: curate.select(scored, **c["selection"]).kept for c in summary["candidates"]}
    tests = pa.concat_tables(pq.read_table(folder / "search" / f"{part}.parquet") for part in ("search", "confirm"))
    started, seeds = time.process_time(), range(100, 100 + asked.seeds)
    how = {"model": world / "model", "by": "views", "seeds": list(seeds), "knowledge": False, **HOW}
    full = curate.validate(arms, eval=tests, output=folder / "full", progress=print, **how)
    took = time.process_time() - started

    rows = sorted(full.arm_rows()[1:], key=lambda row: -row["accuracy"])
    best, chosen = rows[0]["arm"], summary["train_on"]
    last = {row["candidate"]: row for row in summary["standings"]}
    print("\n| candidate | examples | in full % | rung | in the search % |\n|---|---:|---:|---:|---:|")
    for row in rows:
        at = last[row["arm"]]
        print(f"| {row['arm']} | {row['n_train']:,} | {100 * row['accuracy']:.1f} ", end="")
        print(f"| {at['rung']} | {100 * at['accuracy']:.1f} |")
    print(
        f"\n{summary['sentence']}\n{summary['cost']['share']:.0%} of the examples of validating all in full;",
        end=" ",
    )
    print(f"{searched:.0f} s of processor time beside {took:.0f} s (0 where it had been done before).")
    if best != chosen:
        (behind,) = compare_arms(full.marks, [(chosen, best)], full.clusters, pooled=True)
        print(f"{chosen} against {best}: {100 * behind.low:+.1f} to {100 * behind.high:+.1f}")


if __name__ == "__main__":
    main()
