"""`simulate`: an experiment of the paper by name, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.data.files import check_own_folder, versions, whole_file, with_manifest, write_json, write_text
from curate.errors import SettingError
from curate.records import as_seeds
from curate.simulation.settings import ExperimentSettings, with_options
from curate.simulation.synthetic import PARTS, Experiment, Progress, Row, Tables, make_parts, part_of


@dataclass(frozen=True)
class Simulation:
    """What a finished experiment found: its rows by table (`.tables["results"]`), and what they show (`.summary`)."""

    experiment: Experiment[Any]
    settings: ExperimentSettings
    seeds: Sequence[int]
    tables: Tables
    summary: dict[str, Any]


def write_simulation(result: Simulation, folder: Path) -> None:
    """Write everything a finished simulation leaves in its folder."""
    from curate.simulation.figures import simulation_page

    manifest = {
        "command": "simulate",
        "experiment": result.experiment.name,
        "settings": asdict(result.settings),
        "seeds": list(result.seeds),
        "versions": versions("torch", "numpy", "pyarrow"),
    }
    for name, rows in result.tables.items():
        _write_rows(rows, folder / f"{name}.parquet", manifest)
    write_json(result.summary, folder / "summary.json")
    figures = {name: drawing.png() for name, drawing in result.experiment.figures(result.tables).items()}
    for name, png in figures.items():
        with whole_file(folder / "figures" / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    tables = result.experiment.shown(result.summary)
    page = simulation_page(result.experiment.title, result.summary["verdict"], tables, figures, manifest)
    write_text(page, folder / "report.html")
    write_json(manifest, folder / "manifest.json")


def _write_rows(rows: list[Row], path: Path, manifest: dict[str, Any]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))  # of all rows, in order of appearance
    table = pa.table({name: [row.get(name) for row in rows] for name in columns})
    with whole_file(path) as temporary:
        pq.write_table(with_manifest(table, manifest), temporary, compression="zstd")


EXPERIMENTS = {
    "facts": "curate.simulation.synthetic:FACTS",
    "zipf": "curate.simulation.synthetic:ZIPF",
    "steps": "curate.simulation.synthetic:STEPS",
    "map": "curate.simulation.map:MAP",
    "one-layer": "curate.simulation.one_layer:ONE_LAYER",
}


def find_experiment(name: str) -> Experiment[Any]:
    """The experiment of that name; SettingError if there is none."""
    if name not in EXPERIMENTS:
        raise SettingError(
            f"There is no experiment {name!r}.",
            expected=", ".join(EXPERIMENTS),
            try_next="curate simulate facts -o facts/",
        )
    module, variable = EXPERIMENTS[name].split(":")
    found: Experiment[Any] = getattr(import_module(module), variable)
    return found


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
