"""`simulate`: an experiment of the paper by name, and what it leaves."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from curate.checkpoint import PARTS, Checkpoint, key_of, would_go
from curate.data.files import check_own_folder, versions, whole_file, with_manifest, write_json, write_text
from curate.data.stores import write_table
from curate.display import Outline, Progress, Shown, bar_in_python
from curate.engines import Work, WorkerDiedError, in_processes
from curate.errors import SettingError, setting
from curate.records import as_seeds
from curate.report.figures import Drawing
from curate.report.page import configuration, render_page
from curate.simulation import summary
from curate.simulation.one_layer import run_one_layer
from curate.simulation.settings import (
    FACTS,
    PAPER_SIZED,
    ExperimentSettings,
    OneLayerSettings,
    Tables,
    one_alpha_each,
    with_options,
)
from curate.simulation.summary import Table
from curate.simulation.synthetic import regions, run_region, run_sweep


@dataclass(frozen=True)
class Experiment:
    """One experiment of `curate simulate`: what it computes, and what is made of it."""

    name: str
    title: str  # the heading of its report
    default: ExperimentSettings
    paper_sized: ExperimentSettings  # with --full
    points: Callable[[Any], Sequence[ExperimentSettings]]  # the settings of every run of a sweep
    run: Callable[[Any, int], Tables]  # one run: its settings, a seed; JSON values only
    summarise: Callable[[Tables], dict[str, Any]]  # all runs, for summary.json; `verdict` is a sentence that says it
    tables: Callable[[Mapping[str, Any]], list[Table]]  # the summary for a person
    figures: Callable[[Tables, Mapping[str, Any]], dict[str, Drawing]]  # of rows and summary, by name


_sweep = partial(
    Experiment,
    points=one_alpha_each,
    run=run_sweep,
    summarise=summary.summarise_sweep,
    tables=summary.sweep_tables,
    figures=summary.sweep_figures,
)

_EXPERIMENTS = (
    _sweep("facts", "Does finetuning on popular facts make a model more factual?", FACTS, PAPER_SIZED),
    _sweep(
        "zipf",
        "Does the gap grow with the skew of popularity?",
        FACTS.changed(alpha=(0.0, 0.5, 0.75, 1.0, 1.25)),
        PAPER_SIZED.changed(alpha=(0.0, 0.25, 0.5, 0.75, 1.0, 1.25)),
    ),
    _sweep(
        "steps",
        "Does more pretraining close the gap?",
        FACTS.changed(steps=(400, 800, 1600)),
        PAPER_SIZED.changed(steps=(2000, 4000, 8000, 16000)),
    ),
    Experiment(
        "map",
        "What drives the gap between FT-Top and FT-Bottom?",
        FACTS,
        PAPER_SIZED,
        regions,
        run_region,
        summary.summarise_map,
        summary.map_tables,
        summary.map_figures,
    ),
    Experiment(
        "one-layer",
        "Why does finetuning on unpopular facts suppress facts that stay stored?",
        OneLayerSettings(),
        OneLayerSettings(steps=(250, 350, 500, 700, 1000, 2000)),
        one_alpha_each,
        run_one_layer,
        summary.summarise_one_layer,
        summary.one_layer_tables,
        summary.one_layer_figures,
    ),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _EXPERIMENTS}


def find_experiment(name: str) -> Experiment:
    """The experiment of that name; SettingError if there is none."""
    if name not in EXPERIMENTS:
        raise SettingError(
            f"There is no experiment {name!r}.",
            expected=", ".join(EXPERIMENTS),
            try_next="curate simulate facts -o facts/",
        )
    return EXPERIMENTS[name]


@dataclass(frozen=True, repr=False)
class Simulation(Shown):
    """What a finished experiment found: its rows by table (`.tables["results"]`), and what they show (`.summary`)."""

    experiment: Experiment
    settings: ExperimentSettings
    seeds: Sequence[int]
    tables: Tables
    summary: dict[str, Any]

    def outline(self) -> Outline:
        """How many rows its tables have, and what they show."""
        rows = [[name, len(found)] for name, found in self.tables.items()]
        title = f"Simulation {self.summary['experiment']} with {len(self.seeds)} seeds"
        return Outline(title, ["table", "rows"], rows, [self.summary["verdict"]])

    def to_pandas(self) -> Any:
        """The table `results` as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.tables["results"])


def simulate(
    experiment: str,
    output: str | Path,
    *,
    seeds: int | Sequence[int] = 5,
    full: bool = False,
    processes: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Simulation:
    """Run one of the paper's experiments; the Python twin of `curate simulate`.

    `experiment` is `facts`, `zipf`, `steps`, `map` or `one-layer`; `settings` replace its defaults (`relations=20`),
    with `full` those of a larger world. Runs are made by as many `processes` as there are cores, unless told
    otherwise. Writes the folder `output`; the same call resumes a stopped one. Raises SettingError for an experiment
    or setting there is none of, OutputError for a folder that is somebody else's, or, unless `force`, holds another
    simulation; seeds may be added to one.
    """
    found = find_experiment(experiment)
    chosen, parts = _parts(found, seeds, full, settings)
    folder = Path(output)
    check_own_folder(folder, PARTS, "curate simulate")
    made = is_simulated(folder, {"experiment": experiment, "settings": asdict(chosen), "seeds": as_seeds(seeds)}, force)
    kept = Checkpoint(folder / PARTS)
    with bar_in_python("runs") if progress is None else nullcontext(progress) as show:
        make_parts(parts, kept, processes, show)
    tables: Tables = {}
    for part in parts:
        for name, rows in kept.get(part.key).items():
            tables.setdefault(name, []).extend(rows)
    summary = {"experiment": experiment, **found.summarise(tables)}
    result = Simulation(found, chosen, as_seeds(seeds), tables, summary)
    if not made:
        write_simulation(result, folder)
        kept.drop_others({part.key for part in parts})
    return result


def is_simulated(folder: Path, request: Mapping[str, Any], force: bool = False) -> bool:
    """Whether a folder holds this very simulation, whole; OutputError, unless `force`, where it holds another."""
    try:
        earlier = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return False
    asked = json.loads(json.dumps(request))
    alike = [name for name in asked if earlier.get(name) == asked[name]]
    grown = alike == ["experiment", "settings"] and {*earlier.get("seeds", ())} <= {*asked["seeds"]}
    if force or grown or len(alike) == len(asked):
        return len(alike) == len(asked)
    raise would_go(folder, f"a simulation of {earlier.get('experiment')} with other settings or seeds")


def plan(experiment: str, seeds: int | Sequence[int], full: bool, **settings: Any) -> dict[str, Any]:
    """What `simulate` would run, without running it."""
    chosen, parts = _parts(find_experiment(experiment), seeds, full, settings)
    return {"experiment": experiment, "settings": asdict(chosen), "seeds": as_seeds(seeds), "runs": len(parts)}


def _parts(
    found: Experiment, seeds: int | Sequence[int], full: bool, settings: Mapping[str, Any]
) -> tuple[ExperimentSettings, list[Part]]:
    chosen = with_options(found.paper_sized if full else found.default, settings, found.name)
    return chosen, [Part(found.name, point, seed) for point in found.points(chosen) for seed in as_seeds(seeds)]


@dataclass(frozen=True)
class Part:
    """One run of an experiment."""

    experiment: str
    point: ExperimentSettings
    seed: int

    @property
    def key(self) -> str:
        """A hash of everything that could change its rows."""
        return key_of(self.experiment, asdict(self.point), self.seed, versions("torch", "numpy"))

    def run(self) -> Tables:
        """Its tables, the experiment's name and the seed in front of every row."""
        with one_thread():
            tables = find_experiment(self.experiment).run(self.point, self.seed)
        front = {"experiment": self.experiment, "seed": self.seed}
        return {name: [{**front, **row} for row in rows] for name, rows in tables.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: the models are small, and the sums then are the same whatever number of cores there is."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_parts(parts: Sequence[Part], kept: Checkpoint, processes: int | None, progress: Progress) -> None:
    """Run and keep those that are not there yet, several at once: as many as there are cores, unless told otherwise."""
    missing = [part for part in parts if part.key not in kept]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_once = min(len(missing), cores if processes is None else processes)
    done = len(parts) - len(missing)
    progress(parts[0].experiment, done, len(parts))
    made = made_in_processes(missing, at_once) if at_once > 1 else ((part, part.run()) for part in missing)
    for number, (part, tables) in enumerate(made, start=done + 1):
        kept.put(part.key, tables)
        progress(part.experiment, number, len(parts))


def made_in_processes(parts: Sequence[Part], processes: int) -> Iterator[tuple[Part, Tables]]:
    """Every part with its tables as it is done."""
    with in_processes(_worker, ["cpu"] * processes) as pool:
        running = {pool.submit([part]): part for part in parts}
        for future in as_completed(running):
            try:
                (tables,) = future.result()
            except WorkerDiedError as died:
                raise SettingError(
                    f"A process of the simulation ended with {died}.",
                    expected="memory for as many processes as there are cores",
                    try_next=f"{setting('processes', 1)}; what is done is kept",
                ) from died
            yield running[future], tables


def _worker(device: str) -> tuple[None, Work]:
    """What a process does: it runs parts."""
    return None, lambda parts: [part.run() for part in parts]


def write_simulation(result: Simulation, folder: Path) -> None:
    """Write everything a finished simulation leaves in its folder; the manifest last: it says that all is there."""
    manifest = {
        "command": "simulate",
        "experiment": result.experiment.name,
        "settings": asdict(result.settings),
        "seeds": list(result.seeds),
        "versions": versions("torch", "numpy", "pyarrow"),
    }
    for name, rows in result.tables.items():
        columns = dict.fromkeys(column for row in rows for column in row)  # of all rows, in order of appearance
        table = pa.table({column: [row.get(column) for row in rows] for column in columns})
        with whole_file(folder / f"{name}.parquet") as temporary:
            write_table(with_manifest(table, manifest), temporary)
    write_json(result.summary, folder / "summary.json")
    drawings = result.experiment.figures(result.tables, result.summary)
    pngs = {name: drawing.png() for name, drawing in drawings.items()}
    for name, png in pngs.items():
        with whole_file(folder / "figures" / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    write_text(simulation_page(result, pngs, manifest), folder / "report.html")
    write_json(manifest, folder / "manifest.json")


def simulation_page(result: Simulation, pngs: Mapping[str, bytes], manifest: Mapping[str, Any]) -> str:
    """One HTML page that needs no network; all text is escaped."""
    return render_page(
        "simulation.html.j2",
        title=result.experiment.title,
        verdict=result.summary["verdict"],
        tables=result.experiment.tables(result.summary),
        figures={name: base64.b64encode(png).decode() for name, png in pngs.items()},
        experiment=result.experiment.name,
        **configuration(manifest["settings"], manifest),
    )
