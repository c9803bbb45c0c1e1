"""`simulate`: every setting and seed of an experiment, each kept as it is done, then what they show together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.datasets.write import check_writable, write_text
from curate.errors import OutputError, SettingError
from curate.simulation.experiment import Experiment, Progress, Tables
from curate.simulation.registry import find_experiment
from curate.simulation.settings import Settings, with_options
from curate.versions import versions

PARTS = ".parts"


@dataclass(frozen=True)
class Simulation:
    """What a finished experiment found: its rows by table (`.tables["results"]`), and what they show (`.summary`)."""

    experiment: Experiment[Any]
    settings: Settings
    seeds: Sequence[int]
    tables: Tables
    summary: dict[str, Any]


def simulate(
    experiment: str,
    output: str | Path,
    *,
    seeds: int | Sequence[int] = 5,
    full: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Simulation:
    """Run one of the paper's experiments; the Python twin of `curate simulate`.

    `experiment` is `facts`, `zipf`, `steps` or `one-layer`; `settings` replace its defaults (`relations=20`), with
    `full` those of the paper-sized sweep. Writes the folder `output`; the same call resumes a stopped one.
    Raises SettingError for an experiment or setting there is none of, OutputError for a folder that is somebody else's.
    """
    from curate.simulation.results import write_simulation

    found = find_experiment(experiment)
    chosen = with_options(found.settings(full), settings, experiment)
    seed_list = as_seeds(seeds)
    folder = Path(output)
    check_simulation_folder(folder)
    tables: Tables = {}
    for part in run_parts(found, chosen, seed_list, folder, progress or (lambda name, done, total: None)):
        for name, rows in part.items():
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


def as_seeds(seeds: int | Sequence[int]) -> list[int]:
    """The seeds 0, 1, 2, … for a number of them, or those given."""
    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not listed:
        raise SettingError(f"No seeds: {seeds}.", expected="at least one", try_next="--seeds 5")
    return listed


def run_parts(
    experiment: Experiment[Any], settings: Settings, seeds: Sequence[int], folder: Path, progress: Progress
) -> Iterator[Tables]:
    """The tables of every point and seed; those of an earlier, stopped run are read back from `folder`."""
    todo = [(point, seed) for point in experiment.points(settings) for seed in seeds]
    for done, (point, seed) in enumerate(todo):
        progress("runs", done, len(todo))
        kept = folder / PARTS / f"{_key(experiment, point, seed)}.json"
        if not kept.is_file():
            tables = experiment.run(point, seed, progress)
            front = {"experiment": experiment.name, "seed": seed}
            content = {name: [{**front, **row} for row in rows] for name, rows in tables.items()}
            write_text(json.dumps(content), kept)
        yield json.loads(kept.read_text())
    progress("runs", len(todo), len(todo))


def check_simulation_folder(folder: Path) -> None:
    """Raise OutputError now if the results could not be written to the folder later."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PARTS).is_dir():
        raise OutputError(
            f"The folder {folder} holds files that curate simulate did not make.",
            expected="a new or empty folder, or that of an earlier simulation",
            try_next="another name for -o",
        )
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", expected="a folder", try_next="-o out/")
    check_writable(folder)


def _key(experiment: Experiment[Any], point: Settings, seed: int) -> str:
    """A hash of everything that could change the rows of one run."""
    content = [experiment.name, asdict(point), seed, versions("torch", "numpy")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
