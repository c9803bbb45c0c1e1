"""When does the better known half make a better model than a random one? Runs, and the line that is fitted to them.

    python benchmarks/forecast.py                  # fit to the table, print the numbers of curate/selection/explain.py
    python benchmarks/forecast.py --more 10        # first add so many worlds of `curate simulate`, three lengths each

The table is benchmarks/results/forecast.csv: `unknown` is the share of facts that the untouched model does not state
(of SmolLM2 its class Unknown), `per_relation` how many examples of a relation the halves are drawn from, `gain` the
points of accuracy, better half minus random one. Below the simulations stand the runs of docs/results/, of the demo
and of the bundled world's README that have both halves. A world with several lengths of pretraining is left out whole.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

import curate

TABLE = Path(__file__).parent / "results" / "forecast.csv"
SIMULATED = "simulate facts, seed "
Run = dict[str, str]


def add(first: int, count: int) -> None:
    """Made-up worlds with drawn settings, a row for each length of pretraining."""
    for seed in range(first, first + count):
        draw = np.random.default_rng(seed)
        relations, people = int(draw.choice([5, 10, 20, 40])), int(draw.choice([20, 50, 100]))
        world: dict[str, Any] = {
            "relations": relations,
            "finetuning_subjects": people,
            "alpha": float(draw.choice([0.5, 1.0, 1.5])),
        }
        world |= {"answer_alpha": float(draw.choice([0.0, 1.0, 1.5])), "share": 0.5}
        steps = [round(n * relations / 20) for n in (100, 200, 500)]
        with tempfile.TemporaryDirectory() as folder:
            curate.simulate("facts", folder, seeds=[seed], steps=steps, processes=1, **world)
            known = {r["steps"]: r["memorisation"] for r in pq.read_table(f"{folder}/pretraining.parquet").to_pylist()}
            results = pq.read_table(f"{folder}/results.parquet").to_pylist()
        right = {(r["steps"], r["arm"]): 100 * r["accuracy"] for r in results if r["top_percent"] == 100}
        gains = {n: right[n, "top"] - right[n, "random"] for n in steps}
        rows = [[f"{SIMULATED}{seed}, {n} steps", f"{1 - known[n]:.3f}", people, f"{gains[n]:.1f}"] for n in steps]
        with TABLE.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def read() -> list[Run]:
    """The runs of the table."""
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def fit(runs: Sequence[Run], *features: str) -> tuple[NDArray[np.float64], float]:
    """Coefficients of the gain, the constant first, and how far off they are for worlds that are left out (RMS)."""
    gain = np.array([float(run["gain"]) for run in runs])
    values = {"unknown": [float(run["unknown"]) for run in runs]}
    values["per_relation"] = [float(np.log10(float(run["per_relation"]))) for run in runs]
    x = np.stack([np.ones(len(runs)), *(np.array(values[name]) for name in features)], axis=1)
    worlds = np.array(
        [run["run"].rsplit(",", 1)[0] if run["run"].startswith(SIMULATED) else run["run"] for run in runs]
    )
    told = np.empty(len(runs))
    for world in np.unique(worlds):
        out = worlds == world
        told[out] = x[out] @ np.linalg.lstsq(x[~out], gain[~out])[0]
    return np.linalg.lstsq(x, gain)[0], float(np.sqrt(np.mean((gain - told) ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--more", type=int, default=0)
    add(sum(run["run"].startswith(SIMULATED) for run in read()) // 3, parser.parse_args().more)
    runs = read()
    for features in ((), ("unknown",), ("per_relation",), ("unknown", "per_relation")):
        found, error = fit(runs, *features)
        print(f"{' + '.join(features) or 'mean'}: {np.round(found, 2).tolist()}, off by {error:.2f} when left out")
    for name in ("unknown", "per_relation"):
        values = [float(run[name]) for run in runs]
        print(f"{name}: {min(values)} to {max(values)}")


if __name__ == "__main__":
    main()
