"""The synthetic experiments: facts, zipf, steps."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from curate.data.files import versions, write_text
from curate.engines import Work, WorkerDiedError, in_processes
from curate.errors import SettingError, setting
from curate.report.figures import Drawing
from curate.simulation.settings import ExperimentSettings, SyntheticSettings
from curate.simulation.world import (
    Facts,
    finetune,
    make_arms,
    make_facts,
    memorised,
    partition,
    pretrain,
)

Row = dict[str, Any]
Tables = dict[str, list[Row]]
"""Rows by the name of the file they go to; `results` is always there."""
Progress = Callable[[str, int, int], None]
"""Called with the experiment's name, how many of its runs are done, and how many there are."""

S = TypeVar("S", bound=ExperimentSettings)


@dataclass(frozen=True)
class Shown:
    """A table for a person, printed and put in the report; its cells are text."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


class Experiment(Protocol[S]):
    """One experiment of `curate simulate`. Settings are a frozen dataclass whose fields are options of the command."""

    name: str
    title: str  # the heading of its report

    def settings(self, full: bool) -> S:
        """The default settings; with `full` those of the paper-sized sweep."""

    def points(self, settings: S) -> list[S]:
        """The settings of every run of a sweep; one where nothing is swept."""

    def run(self, point: S, seed: int) -> Tables:
        """One run: `results` rows have arm, setting columns, top_percent and accuracy; JSON values only.

        The experiment's name and the seed are put in front of every row afterwards.
        """

    def summarise(self, tables: Tables) -> dict[str, Any]:
        """What all runs together show, for summary.json; `verdict` is a sentence that says it."""

    def shown(self, summary: Mapping[str, Any]) -> list[Shown]:
        """The summary as tables for a person."""

    def figures(self, tables: Tables) -> dict[str, Drawing]:
        """Its figures by name, most important first."""


PARTS = ".parts"


@dataclass(frozen=True)
class Part:
    """One run of an experiment, and the file its tables go to."""

    experiment: str
    point: ExperimentSettings
    seed: int
    file: Path


def part_of(experiment: str, point: ExperimentSettings, seed: int, folder: Path) -> Part:
    """The part, with a file named by a hash of everything that could change its rows."""
    content = [experiment, asdict(point), seed, versions("torch", "numpy")]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return Part(experiment, point, seed, folder / PARTS / f"{key}.json")


def make_part(part: Part) -> Part:
    """Run it and write its tables, the experiment's name and the seed in front of every row. Gives the part back."""
    from curate.simulation.simulate import find_experiment

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

    missing = [part for part in parts if not part.file.is_file()]
    at_once = min(len(missing), _cores() if processes is None else processes)
    done = len(parts) - len(missing)
    progress(parts[0].experiment, done, len(parts))
    for part in make_in_processes(missing, at_once) if at_once > 1 else map(make_part, missing):
        done += 1
        progress(part.experiment, done, len(parts))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_in_processes(parts: Sequence[Part], processes: int) -> Iterator[Part]:
    """Every part as it is done."""
    with in_processes(_part_maker, ["cpu"] * processes) as pool:
        for future in as_completed([pool.submit([part]) for part in parts]):
            try:
                yield from future.result()
            except WorkerDiedError as died:
                raise SettingError(
                    f"A process of the simulation ended with {died}.",
                    expected="memory for as many processes as there are cores",
                    try_next=f"{setting('processes', 1)}; what is done is kept",
                ) from died


def _part_maker(device: str) -> tuple[None, Work]:
    """In a process: what makes parts."""
    return None, lambda parts: map(make_part, parts)


TOP_PERCENTS = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


@dataclass(frozen=True)
class Variant:
    """Settings, and the columns that tell their rows from those of other variants."""

    settings: SyntheticSettings
    columns: Mapping[str, Any]


def run_variants(variants: Sequence[Variant], seed: int) -> Tables:
    """Pretrain once, and at each variant's checkpoints finetune and test all its arms.

    The variants have the same settings of the world, the transformer and its pretraining, but for its steps.
    """
    # Streams of their own: every alpha has the same facts and arms, every variant the same finetuning batches.
    world, pretraining = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    shared = variants[0].settings
    (alpha,) = shared.alpha
    facts = make_facts(shared.subjects, shared.relations, shared.answers, alpha, shared.answer_alpha, world)
    tables: Tables = {"results": [], "pretraining": []}
    checkpoints = {steps for variant in variants for steps in variant.settings.steps}
    for steps, model in pretrain(facts, replace(shared, steps=tuple(sorted(checkpoints))), pretraining):
        known = memorised(model, facts)
        for variant in variants:
            chosen = variant.settings
            if steps not in chosen.steps:
                continue
            drawn = deepcopy(world)
            parts = partition(chosen.subjects, chosen.finetuning_subjects, chosen.validation_subjects, drawn)
            arms = make_arms(parts.finetuning, chosen.share, drawn)
            setting = {**variant.columns, "alpha": alpha, "steps": steps}
            seen = exposures(facts, arms["bottom"], steps * chosen.batch_size)
            tables["pretraining"].append({**setting, "memorisation": float(known.mean()), "bottom_exposures": seen})
            for arm in finetune(model, facts, parts, arms, chosen, np.random.default_rng([seed, 2])):
                sizes = {"n_train": len(arms[arm.name]) * facts.relations, "best_step": arm.step}
                rows = zip(top_rows(arm.right), top_rows(arm.right_at_last), strict=True)
                tables["results"] += [
                    {"arm": arm.name, **setting, **sizes, **best, "accuracy_at_last": last["accuracy"]}
                    for best, last in rows
                ]
    return tables


def exposures(facts: Facts, subjects: NDArray[np.int64], sequences: int) -> float:
    """How often a fact about the subjects is met on average in so many pretraining sequences."""
    return float(facts.popularity[subjects].mean() * sequences / facts.relations)


def top_rows(right: NDArray[np.bool_]) -> list[Row]:
    """Accuracy on the facts of the most popular x% of test subjects. (subjects by popularity, relations) -> rows"""
    rows = []
    for percent in TOP_PERCENTS:
        n = max(1, round(len(right) * percent / 100))
        rows.append({"top_percent": percent, "accuracy": float(right[:n].mean()), "n": right[:n].size})
    return rows


@dataclass(frozen=True)
class Synthetic:
    """An experiment on synthetic facts; what its defaults hold more than one of is what it sweeps."""

    name: str
    title: str
    default: SyntheticSettings
    paper_sized: SyntheticSettings

    def settings(self, full: bool) -> SyntheticSettings:
        """The default settings; with `full` those of the paper-sized sweep."""
        return self.paper_sized if full else self.default

    def points(self, settings: SyntheticSettings) -> list[SyntheticSettings]:
        """One world and one pretraining for every alpha; the steps are checkpoints of the same pretraining."""
        return [replace(settings, alpha=(alpha,)) for alpha in settings.alpha]

    def run(self, point: SyntheticSettings, seed: int) -> Tables:
        """Pretrain, and at every checkpoint finetune and test all arms."""

        return run_variants([Variant(point, {})], seed)

    def summarise(self, tables: Tables) -> dict[str, Any]:
        """Accuracy by arm, gaps with intervals over seeds, memorisation, and trends of the gap."""
        from curate.simulation.summary import summarise

        return {"experiment": self.name, **summarise(tables)}

    def shown(self, summary: Mapping[str, Any]) -> list[Shown]:
        """The summary as tables for a person."""
        from curate.simulation.summary import shown

        return shown(summary)

    def figures(self, tables: Tables) -> dict[str, Drawing]:
        """Accuracy by popularity, and the gap against what was swept."""
        from curate.simulation.figures import sweep_figures

        return sweep_figures(tables)


_DEFAULT = SyntheticSettings()
_FULL = replace(
    _DEFAULT,
    subjects=1000,
    relations=40,
    answers=20,
    width=128,
    steps=(4000,),
    finetuning_subjects=500,
    validation_subjects=100,
    share=0.04,
)

FACTS = Synthetic("facts", "Does finetuning on popular facts make a model more factual?", _DEFAULT, _FULL)
ZIPF = Synthetic(
    "zipf",
    "Does the gap grow with the skew of popularity?",
    replace(_DEFAULT, alpha=(0.0, 0.5, 0.75, 1.0, 1.25)),
    replace(_FULL, alpha=(0.0, 0.25, 0.5, 0.75, 1.0, 1.25)),
)
STEPS = Synthetic(
    "steps",
    "Does more pretraining close the gap?",
    replace(_DEFAULT, steps=(400, 800, 1600)),
    replace(_FULL, steps=(2000, 4000, 8000, 16000)),
)
