"""Scoring a large JSONL file with `column:`: curate beside duckdb reading and writing the same file, in turn.

    python benchmarks/scoring_jsonl.py --rows 10_000_000 --rounds 3 --output benchmarks/results/scoring-jsonl.json

Every measurement is a fresh process, imports left out. Both write zstd Parquet; curate also hashes the input, gives
every row an id, and adds a score and a status. The ratio is duckdb's time over curate's: 0.5 is half as fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fresh_process import CURATE, made, median_and_all, medians, options, run_here, take_turns, tell

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
    "curate_score": (curate_score, ("curate.scoring", "pyarrow.json", *CURATE)),
    "duckdb_copy": (duckdb_copy, ("duckdb",)),
}


def compare(source: Path, rounds: int) -> dict[str, Any]:
    """The median of every measurement, and the ratio of every round."""
    runs = take_turns(__file__, list(CONTENDERS), source, rounds)
    results = medians(runs)
    for key in ("seconds", "cpu_seconds"):
        ratios = [theirs[key] / ours[key] for ours, theirs in zip(*runs.values(), strict=True)]
        results[f"ratio_{key}"] = median_and_all(ratios)
    return results


def main() -> None:
    asked = options(__doc__).parse_args()
    if asked.one:
        return run_here(*CONTENDERS[asked.one], str(asked.data), asked.target)
    source = made(asked.data or Path(f"build/score-{asked.rows}.jsonl"), asked.rows, make_file)
    return tell(source, asked.rows, compare(source, asked.rounds), asked.output)


if __name__ == "__main__":
    main()
