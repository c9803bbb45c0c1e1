"""The parts of an experiment, one for every point and seed: made on one thread each, kept in a file of its own."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from curate.datasets.write import write_text
from curate.simulation.experiment import Progress
from curate.simulation.registry import find_experiment
from curate.simulation.settings import Settings
from curate.versions import versions

PARTS = ".parts"


@dataclass(frozen=True)
class Part:
    """One run of an experiment, and the file its tables go to."""

    experiment: str
    point: Settings
    seed: int
    file: Path


def part_of(experiment: str, point: Settings, seed: int, folder: Path) -> Part:
    """The part, with a file named by a hash of everything that could change its rows."""
    content = [experiment, asdict(point), seed, versions("torch", "numpy")]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return Part(experiment, point, seed, folder / PARTS / f"{key}.json")


def make_part(part: Part) -> Part:
    """Run it and write its tables, the experiment's name and the seed in front of every row. Gives the part back."""
    experiment = find_experiment(part.experiment)
    with one_thread():
        tables = experiment.run(part.point, part.seed)
    front = {"experiment": part.experiment, "seed": part.seed}
    write_text(json.dumps({name: [{**front, **row} for row in rows] for name, rows in tables.items()}), part.file)
    return part


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: the models are small, and the sums then are the same whatever number of cores there is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_parts(parts: Sequence[Part], processes: int | None, progress: Progress) -> None:
    """Make those that are not there yet, several at once: as many as there are cores, unless told otherwise."""
    from curate.simulation.processes import make_in_processes

    missing = [part for part in parts if not part.file.is_file()]
    at_once = min(len(missing), _cores() if processes is None else processes)
    done = len(parts) - len(missing)
    progress(parts[0].experiment, done, len(parts))
    for part in make_in_processes(missing, at_once) if at_once > 1 else map(make_part, missing):
        done += 1
        progress(part.experiment, done, len(parts))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
