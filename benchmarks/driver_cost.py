"""What the driver of `--engine ray` costs an example, in microseconds of the processor, the work itself being free.

    python benchmarks/driver_cost.py --rows 100000

Reading, ids, examples, keys of chunks, pickling, unpickling, parts of the unfinished run, Parquet. What another machine
does for the driver (the network) is not in it.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import scoring
from curate.estimators import ESTIMATORS
from curate.estimators.base import Estimator
from curate.records import Example, Score

EVIDENCE = {"nats": "float64", "tokens": "int64", "bytes": "int64", "truncated": "int64"}


class Nothing(Estimator):
    """An estimator that is never asked."""

    usage = "nothing"
    name = "loss"
    evidence = EVIDENCE

    @classmethod
    def make(cls, argument: str, settings: Any, columns: Sequence[str]) -> Estimator:
        return cls()

    def fingerprint(self) -> Mapping[str, Any]:
        return {"estimator": "none"}

    def score(self, examples: Sequence[Example]) -> list[Score]:
        raise NotImplementedError


class Elsewhere:
    """Workers that have the scores of a chunk at once; only what passes to and from them costs time."""

    ahead = 128

    def __init__(self) -> None:
        scores = [
            Score(-n / 7, evidence={"nats": n / 3, "tokens": 3, "bytes": 11, "truncated": 0}) for n in range(1024)
        ]
        self.answers = {rows: pickle.dumps(scores[:rows], protocol=5) for rows in range(1025)}

    def about(self) -> Mapping[str, Any]:
        return {}

    def begin(self, rows: Sequence[Example], allowed: int, failed: Score) -> Callable[[], list[Score]]:
        pickle.dumps(list(rows), protocol=5)
        return lambda: pickle.loads(self.answers[len(rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    questions = [f"What is the occupation of person number {n}?" for n in range(rows)]
    table = pa.table({"question": questions, "answers": [["politician", "political leader", "pol"]] * rows})
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder, "data.parquet"))
        ESTIMATORS["nothing"] = Nothing
        work = nullcontext(Elsewhere())
        scoring.engine_of = lambda estimator, engine: work  # type: ignore[assignment]
        started = time.process_time()
        scoring.score(Path(folder, "data.parquet"), "nothing", output=Path(folder, "scored.parquet"))
        print(f"{1e6 * (time.process_time() - started) / rows:.0f} µs an example")


if __name__ == "__main__":
    main()
