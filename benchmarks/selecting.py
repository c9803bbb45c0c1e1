"""Selecting from millions of rows: curate beside duckdb and polars doing the plain threshold query, in one run.

    pip install duckdb polars
    python benchmarks/selecting.py --rows 10_000_000 --rounds 3 --output benchmarks/results/selecting-10m.json
    python benchmarks/selecting.py --rows 10_000_000 --rounds 3 --narrow --tasks threshold
    python benchmarks/selecting.py --rows 100_000_000 --rounds 1 --tasks threshold  # makes 4 GB

Every measurement is a fresh process; the contenders take turns, so that what else runs on the machine hits all alike.
curate does more than its peers: exact size, seeded ties, types and manifest kept, input hashed, mixes explained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fresh_process import CURATE, made, median_and_all, medians, options, run_here, take_turns, tell

STRATA = 1000
SHARE = 0.3
CHUNK = 500_000
WRITE = "(format parquet, compression zstd)"


def make_narrow_table(path: Path, rows: int) -> None:
    """The same rows with one short answer each, without subjects and score_log."""
    make_table(path, rows, narrow=True)


def make_table(path: Path, rows: int, seed: int = 0, narrow: bool = False) -> None:
    """Random examples: curate_id, question, answers (list), subject, relation (1,000 of them), score_views, score_log.

    score_views is all different; score_log has few values, so that tens of thousands of rows tie at a cut.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from curate.data.ids import hex_ids

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
        if narrow:
            table = table.select(["curate_id", "question", "relation", "score_views"]).add_column(
                2, "answer", [pair[:n]]
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


CONTENDERS = {function.__name__: function for functions in TASKS.values() for function in functions}
MODULES = {"curate": ("curate.selection.select", *CURATE)}
"""What each begins with, by the first word of its name; by default the package of that name."""


def compare(source: Path, rounds: int, tasks: list[str]) -> dict[str, Any]:
    """The median of every measurement, and curate's ratio to the faster of its peers in the same round."""
    results: dict[str, Any] = {}
    for task in tasks:
        runs = take_turns(__file__, [function.__name__ for function in TASKS[task]], source, rounds)
        results[task] = medians(runs)
        for key in ("seconds", "cpu_seconds"):
            ratios = [ours[key] / min(a[key], b[key]) for ours, a, b in zip(*runs.values(), strict=True)]
            results[task][f"ratio_{key}"] = median_and_all(ratios)
    return results


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--narrow", action="store_true", help="id, question, one short answer, relation and score only")
    asked = parser.parse_args()
    if asked.one:
        package = asked.one.split("_")[0]
        return run_here(CONTENDERS[asked.one], MODULES.get(package, (package,)), str(asked.data), asked.target)
    name, make = ("narrow", make_narrow_table) if asked.narrow else ("select", make_table)
    source = made(asked.data or Path(f"build/{name}-{asked.rows}.parquet"), asked.rows, make)
    return tell(source, asked.rows, compare(source, asked.rounds, asked.tasks), asked.output)


if __name__ == "__main__":
    main()
