"""`--engine ray`: a model on every worker of a cluster, chunks dealt out to them, the file written here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from curate.engines.placing import absolute, resources_of, room_for
from curate.engines.pool import IN_HAND, Pool
from curate.engines.session import ray_session
from curate.engines.settings import EngineOptions
from curate.engines.worker import Worker
from curate.errors import SettingError
from curate.estimators.base import Estimator
from curate.estimators.registry import EstimatorOptions, build, check_spec
from curate.isolating import may_fail
from curate.prompts import TEMPLATES
from curate.records import Example, Score

ON_WORKERS = frozenset({"loss"})
"""Estimators with a model. The others are done here: a column costs nothing, and Wikimedia is asked by one client."""


@contextmanager
def estimators_of(specs: Sequence[str], options: EstimatorOptions, engine: EngineOptions) -> Iterator[list[Estimator]]:
    """The estimators that some specs name, at work where the engine says; their workers end with the `with`."""
    if engine.engine == "local" or not any(check_spec(spec)[0] in ON_WORKERS for spec in specs):
        yield [build(spec, options) for spec in specs]
        return
    with ExitStack() as stack:
        ray = stack.enter_context(ray_session(engine.ray_address))
        yield [
            stack.enter_context(_remote(ray, spec, options, engine))
            if check_spec(spec)[0] in ON_WORKERS
            else build(spec, options)
            for spec in specs
        ]


class RemoteEstimator:
    """An estimator whose chunks are scored by a pool of workers."""

    def __init__(self, pool: Pool) -> None:
        """Waits until one worker has loaded the model."""
        description = pool.description.result()
        self.name = description.name
        self.columns = description.columns
        self.evidence = description.evidence
        self.ahead = IN_HAND * pool.high
        self._fingerprint = description.fingerprint
        self._pool = pool

    def fingerprint(self) -> Mapping[str, Any]:
        """That of the estimator on the workers."""
        return self._fingerprint

    def begin(self, examples: Sequence[Example], allowed: int) -> Callable[[], list[Score]]:
        """Hand a chunk to the pool."""
        return self._pool.submit(examples, allowed).result

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        """One Score an example, in order."""
        yield from self.begin(examples, may_fail(len(examples), first=True))()


@contextmanager
def _remote(ray: Any, spec: str, options: EstimatorOptions, engine: EngineOptions) -> Iterator[RemoteEstimator]:
    if options.processes not in (None, 1):
        raise SettingError(
            f"--processes {options.processes} is for one machine.", expected="--workers, with --engine ray"
        )
    there = ray.cluster_resources()
    device, resources = resources_of(options.device, engine.cpus, there)
    settings = replace(_absolute(options), device=device)
    actor = ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **resources)
    low, high = engine.bounds or (1, room_for(resources, there))
    pool = Pool(ray, lambda: actor.remote(spec, settings, engine.cpus), low, high)
    try:
        yield RemoteEstimator(pool)
    finally:
        pool.close()


def _absolute(options: EstimatorOptions) -> EstimatorOptions:
    """Paths that mean the same whatever folder a worker runs in."""
    template = options.template if options.template in TEMPLATES else absolute(options.template)
    return replace(options, model=absolute(options.model), template=template, shots_from=absolute(options.shots_from))
