"""`curate validate --engine ray`: trials, arms and seeds as tasks of a Ray cluster, each with a device of its own.

Every task is a part of the run and leaves it in the run's folder, which all nodes must see; when all are there, one
more task reads them and writes the run, as the same command does where the parts were made one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.data.table import read
from curate.engines import absolute, ray_session, resources_of
from curate.errors import CurateError, EngineError
from curate.prompts import TEMPLATES
from curate.records import as_seeds
from curate.settings import EngineSettings, grid
from curate.validation.arms import Arm, named_splits
from curate.validation.results import Validation
from curate.validation.runner import PARTS, Runner
from curate.validation.validate import read_inputs

RETRIES = 3
"""Times that a task whose worker died is begun again; it goes on from its last checkpoint."""


@dataclass(frozen=True)
class Part:
    """A trial of one setting on an arm, an arm with a seed, or the untouched model (no arm)."""

    arm: str | None = None
    seed: int | None = None
    trial: int | None = None

    def __str__(self) -> str:
        if self.arm is None:
            return "base"
        return f"{self.arm}, seed {self.seed}" if self.trial is None else f"{self.arm}, trial {self.trial + 1}"

    def make(self, runner: Runner, arms: Sequence[Arm]) -> None:
        """Do it, unless it is there already."""
        arm = None if self.arm is None else next(arm for arm in arms if arm.name == self.arm)
        runner.make(arm, self.seed, self.trial)


def validate_on_ray(arguments: Mapping[str, Any], engine: EngineSettings, say: Callable[[str], None]) -> Validation:
    """What `validate` gives for these arguments, on a cluster."""
    given = dict(arguments)
    given["splits"] = {name: read(data) for name, data in named_splits(given["splits"]).items()}
    given["eval"] = read(given["eval"])  # all data is read here: a path or a glob may mean something else on a worker
    given["model"] = absolute(given["model"])
    given["lm_eval"] = [absolute(task) for task in given["lm_eval"]]
    if given["template"] is not None and given["template"] not in TEMPLATES:
        given["template"] = absolute(given["template"])
    given["output"] = str(Path(given["output"]).resolve())
    trials, runs = _parts(given)
    (Path(given["output"]) / PARTS).mkdir(parents=True, exist_ok=True)
    with ray_session(engine.ray_address) as ray:
        given["device"], resources = resources_of(given["device"], engine.cpus, ray.cluster_resources())
        task = ray.remote(_work).options(max_retries=RETRIES, **resources)
        most = bounds[1] if (bounds := engine.bounds()) else len(trials) + len(runs)
        for parts in (trials, runs):
            _do(ray, task, parts, given, most, engine.cpus, say)
        result: Validation = _got(ray, task.remote(given, None, engine.cpus), "writing the run")
        return result


def _work(arguments: dict[str, Any], part: Part | None, cpus: int) -> Validation | None:
    """On a worker: one part, or all that is left."""
    import torch

    from curate.validation.validate import validate

    torch.set_num_threads(cpus)
    return validate(**arguments, part=part)


def _parts(given: Mapping[str, Any]) -> tuple[list[Part], list[Part]]:
    """The trials, which come first, then everything else."""
    arms = read_inputs(*(given[name] for name in ("splits", "eval", "by", "limit", "template"))).arms
    settings = len(grid(given["tune"], given["config"]))
    trials = [Part(arm.name, trial=n) for arm in arms for n in range(settings) if settings > 1]
    return trials, [Part(), *(Part(arm.name, seed) for seed in as_seeds(given["seeds"]) for arm in arms)]


def _do(
    ray: Any, task: Any, parts: Iterable[Part], given: Any, most: int, cpus: int, say: Callable[[str], None]
) -> None:
    """All parts, `most` at a time."""
    waiting = deque(parts)
    running: dict[Any, Part] = {}
    arguments = ray.put(given)
    try:
        while waiting or running:
            while waiting and len(running) < most:
                part = waiting.popleft()
                running[task.remote(arguments, part, cpus)] = part
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                part = running.pop(reference)
                _got(ray, reference, part)
                say(f"{part}: done")
    except BaseException:
        for reference in running:
            ray.cancel(reference, force=True)  # a gentle one now and then went unheard; parts are written whole
        raise


def _got(ray: Any, reference: Any, part: Part | str) -> Any:
    """What a task gave; its error with the name of the part."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, CurateError):
            raise type(cause)(f"{part}: {cause.found}", cause.expected, cause.try_next) from None
        cause.add_note(f"This was {part}.")
        raise cause from None
    except ray.exceptions.RayError as error:
        raise EngineError(
            f"{part}: a worker died {RETRIES + 1} times over it: {str(error).strip().splitlines()[0]}",
            expected="workers that stay alive, with room for the model and its training",
            try_next="fewer workers a node (--cpus), a smaller --batch-size; the same command goes on from here",
        ) from error
