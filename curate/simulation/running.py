"""`simulate`: every setting and seed of an experiment, each kept as it is done, then what they show together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.folders import check_own_folder
from curate.seeds import as_seeds
from curate.simulation.experiment import Progress, Tables
from curate.simulation.parts import PARTS, make_parts, part_of
from curate.simulation.registry import find_experiment
from curate.simulation.results import Simulation, write_simulation
from curate.simulation.settings import with_options


def simulate(
    experiment: str,
    output: str | Path,
    *,
    seeds: int | Sequence[int] = 5,
    full: bool = False,
    processes: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Simulation:
    """Run one of the paper's experiments; the Python twin of `curate simulate`.

    `experiment` is `facts`, `zipf`, `steps`, `map` or `one-layer`; `settings` replace its defaults (`relations=20`),
    with `full` those of a larger world. Runs are made by as many `processes` as there are cores, unless told
    otherwise. Writes the folder `output`; the same call resumes a stopped one. Raises SettingError for an experiment
    or setting there is none of, OutputError for a folder that is somebody else's.
    """
    found = find_experiment(experiment)
    chosen = with_options(found.settings(full), settings, experiment)
    seed_list = as_seeds(seeds)
    folder = Path(output)
    check_own_folder(folder, PARTS, "curate simulate")
    tables: Tables = {}
    parts = [part_of(found.name, point, seed, folder) for point in found.points(chosen) for seed in seed_list]
    make_parts(parts, processes, progress or (lambda name, done, total: None))
    for part in parts:
        for name, rows in json.loads(part.file.read_text()).items():
            tables.setdefault(name, []).extend(rows)
    result = Simulation(found, chosen, seed_list, tables, found.summarise(tables))
    write_simulation(result, folder)
    return result


def plan(experiment: str, seeds: int | Sequence[int], full: bool, **settings: Any) -> dict[str, Any]:
    """What `simulate` would run, without running it."""
    found = find_experiment(experiment)
    chosen = with_options(found.settings(full), settings, experiment)
    seed_list = as_seeds(seeds)
    return {
        "experiment": experiment,
        "settings": asdict(chosen),
        "seeds": seed_list,
        "runs": len(found.points(chosen)) * len(seed_list),
    }
