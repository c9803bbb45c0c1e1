"""`curate validate --engine ray`: trials, arms and seeds as tasks of a Ray cluster, each with a device of its own.

Every task is a part of the run and leaves it in the run's folder, which all nodes must see; when all are there, one
more task reads them and writes the run, as the same command does where the parts were made one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from curate.engines import absolute, ray_session, resources_of
from curate.errors import CurateError, EngineError, setting
from curate.settings import EngineSettings
from curate.validation.results import Validation
from curate.validation.runner import PARTS, Experiment, Part, Runner
from curate.validation.validate import run_here

RETRIES = 3
"""Times that a task whose worker died is begun again; it goes on from its last checkpoint."""


def run_on_ray(experiment: Experiment, engine: EngineSettings, say: Callable[[str], None]) -> Validation:
    """What `run_here` does, on a cluster."""
    folder = experiment.folder.resolve()
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    with ray_session(engine.ray_address) as ray:
        settings = experiment.settings
        device, resources = resources_of(settings.device, engine.cpus, ray.cluster_resources())
        settings = settings.changed(device=device, lm_eval=tuple(map(absolute, settings.lm_eval)))
        experiment = replace(experiment, model=absolute(experiment.model), folder=folder, settings=settings)
        task = ray.remote(_work).options(max_retries=RETRIES, **resources)
        stages = experiment.trials(), [*experiment.untouched(), *experiment.finetunings()]
        most = bounds[1] if (bounds := engine.bounds()) else sum(map(len, stages))
        for parts in stages:
            _do(ray, task, parts, experiment, most, engine.cpus, say)
        result: Validation = _got(ray, task.remote(experiment, None, engine.cpus), "writing the run")
        return result


def _work(experiment: Experiment, part: Part | None, cpus: int) -> Validation | None:
    """On a worker: one part, or what is left when all parts are done."""
    import torch

    torch.set_num_threads(cpus)
    if part is None:
        return run_here(experiment)
    Runner(experiment).run_part(part)
    return None


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
            found, *others = cause.spelled(setting)
            raise type(cause)(f"{part}: {found}", *others) from None
        cause.add_note(f"This was {part}.")
        raise cause from None
    except ray.exceptions.RayError as error:
        raise EngineError(
            f"{part}: a worker died {RETRIES + 1} times over it: {str(error).strip().splitlines()[0]}",
            expected="workers that stay alive, with room for the model and its training",
            try_next=f"fewer workers a node ({setting('cpus')}), a smaller {setting('batch_size')}; "
            "the same command goes on from here",
        ) from error
