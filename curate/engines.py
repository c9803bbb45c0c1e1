"""Where work runs: here, in worker processes, or on a Ray cluster."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from curate.errors import EngineError, SettingError
from curate.estimators.base import FAILED, Estimator, may_fail, scores_apart
from curate.estimators.registry import EstimatorOptions, build, check_spec
from curate.prompts import TEMPLATES
from curate.records import Example, Score
from curate.settings import EngineSettings


def resources_of(device: str, cpus: int, there: Mapping[str, float]) -> tuple[str, dict[str, float]]:
    """The device of a worker, and what of a node it takes, given the resources of the cluster."""
    if device not in ("auto", "cpu", "cuda"):
        raise SettingError(
            f"With --engine ray a worker has one device, and --device is {device}.",
            expected="--device auto, cuda or cpu",
            try_next="--workers, for how many",
        )
    on_gpus = device == "cuda" or (device == "auto" and there.get("GPU", 0) > 0)
    return ("cuda" if on_gpus else "cpu"), {"num_cpus": float(cpus)} | ({"num_gpus": 1.0} if on_gpus else {})


def room_for(resources: Mapping[str, float], there: Mapping[str, float]) -> int:
    """How many such workers the cluster has room for; at least one, which may have to wait for a node."""
    unit = "GPU" if "num_gpus" in resources else "CPU"
    return max(1, int(there.get(unit, 0) // resources[f"num_{unit.lower()}s"]))


def absolute(data: Any) -> Any:
    """A path that means the same in any folder, which a worker may run in; anything else as it is."""
    return str(Path(data).resolve()) if isinstance(data, (str, Path)) and Path(data).exists() else data


@contextmanager
def ray_session(address: str | None) -> Iterator[Any]:
    """Gives the module `ray`, connected: to what is connected already, to `address`, to a cluster on this machine."""
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"No Ray cluster can be reached at {address or 'this machine'}: {str(error).splitlines()[0]}",
            expected="the address of the head node, such as 10.0.0.1:6379, the same versions of Ray and Python, "
            "and the cluster's token if it asks for one",
            try_next="ray status, on the head node",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """The module `ray`; EngineError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise EngineError("The engine ray is not installed.", try_next="pip install 'curate-qa[ray]'") from error
    return ray


MOST_DEATHS = 5
"""Workers that may die over a chunk before it is taken for the cause and cut in halves."""


@dataclass(eq=False)
class Chunk:
    """A chunk, how many of its rows may fail, and its scores, which may come in parts."""

    examples: Sequence[Example]
    allowed: int
    future: Future[list[Score]] = field(default_factory=Future)
    failed: int = 0

    def __post_init__(self) -> None:
        self._scores: list[Score | None] = [None] * len(self.examples)
        self._left = len(self.examples)

    def put(self, start: int, scores: Sequence[Score]) -> None:
        """Take the scores of some rows; the last ones complete the chunk."""
        self._scores[start : start + len(scores)] = scores
        self._left -= len(scores)
        if not self._left:
            self.future.set_result([score for score in self._scores if score is not None])


@dataclass(eq=False)
class Task:
    """Rows of a chunk that a worker is given at once: all of them, unless workers died over them."""

    chunk: Chunk
    start: int
    stop: int
    deaths: int = 0

    @property
    def examples(self) -> Sequence[Example]:
        """The rows."""
        return self.chunk.examples[self.start : self.stop]

    def done(self, scores: Sequence[Score]) -> None:
        """Hand in the scores of all rows."""
        self.chunk.put(self.start, scores)

    def after_death(self) -> list[Task]:
        """What is to be tried now that a worker died over these rows: the same, halves, or nothing for a single row.

        A single row gets the status `failed`. Raises EngineError when that happens to too many rows of a chunk.
        """
        self.deaths += 1
        if self.deaths < MOST_DEATHS:
            return [self]
        if self.stop - self.start > 1:
            middle = (self.start + self.stop) // 2
            return [Task(self.chunk, *part, MOST_DEATHS - 1) for part in ((self.start, middle), (middle, self.stop))]
        self.chunk.failed += 1
        if self.chunk.failed > self.chunk.allowed:
            raise EngineError(
                f"Workers die over {self.chunk.failed} rows of one chunk: it is not the rows.",
                expected="workers that stay alive",
                try_next="look into the logs of Ray; with more memory a worker, or --dtype bfloat16, it may fit",
            )
        self.done([Score(None, FAILED)])
        return []


@dataclass(frozen=True)
class Description:
    """What there is to know about an estimator without having it."""

    name: str
    columns: Sequence[str]
    evidence: Mapping[str, str]
    fingerprint: Mapping[str, Any]


class Worker:
    """An estimator in a process of its own."""

    def __init__(self, spec: str, options: EstimatorOptions, cpus: int) -> None:
        """Quick, so that whatever is wrong with the estimator is an error of `load`, which can be told."""
        self.spec = spec
        self.options = replace(options, processes=1)
        self.cpus = cpus

    def load(self) -> Description:
        """Build the estimator, and load its model."""
        import torch

        torch.set_num_threads(self.cpus)
        self.estimator = build(self.spec, self.options)
        e = self.estimator
        return Description(e.name, tuple(e.columns), dict(e.evidence), e.fingerprint())

    def score(self, examples: Sequence[Example], allowed: int) -> list[Score]:
        """One score an example; rows that fail even alone have the status `failed`, `allowed` of them at most."""
        return scores_apart(self._scores, examples, allowed)

    def _scores(self, examples: Sequence[Example]) -> Iterator[Score]:
        try:
            yield from self.estimator.score(examples)
        except RuntimeError as error:
            if "CUDA error" in str(error):
                os._exit(1)  # no kernel runs in this process any more; another one finds the rows at fault
            raise


IN_HAND = 2
"""Tasks a worker may have: one in work, and one at hand for when it is done."""
PATIENCE = 1800.0
"""Seconds to wait for the first worker: a cluster may have to start a machine for it."""
MOST_FALSE_STARTS = 10
"""Workers in a row that may die before they have loaded the model."""


@dataclass(eq=False)
class Hand:
    """A worker, and what it has in hand, in the order it does it: results to come, each with its task."""

    actor: Any
    loading: Any
    tasks: deque[tuple[Any, Task]] = field(default_factory=deque)

    @property
    def ready(self) -> bool:
        """Whether its model is loaded."""
        return self.loading is None


class Pool:
    """Workers between `low` and `high`, driven by a thread of its own. Any error ends the pool and all it was asked."""

    def __init__(self, ray: Any, start: Callable[[], Any], low: int, high: int) -> None:
        """`start` makes an actor, which need not have a place yet."""
        self.ray, self.start, self.low, self.high = ray, start, low, high
        self.description: Future[Description] = Future()
        self._inbox: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._asked: list[Future[list[Score]]] = []
        self._waiting: deque[Task] = deque()
        self._hands: list[Hand] = []
        self._false_starts = 0
        self._error: BaseException | None = None
        self._closed = threading.Event()
        self._deadline = time.monotonic() + PATIENCE
        self._thread = threading.Thread(target=self._run, name="curate-ray-pool", daemon=True)
        self._thread.start()

    def submit(self, examples: Sequence[Example], allowed: int) -> Future[list[Score]]:
        """Have a chunk scored of which so many rows may fail."""
        chunk = Chunk(examples, allowed)
        self._asked = [*(future for future in self._asked if not future.done()), chunk.future]
        if self._error is not None:  # looked at after the future can be found by whoever sets it
            raise self._error
        self._inbox.put(Task(chunk, 0, len(examples)))
        return chunk.future

    def close(self) -> None:
        """Let go of all workers."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._step()
        except BaseException as error:
            self._fail(error)
        finally:
            for hand in self._hands:
                self.ray.kill(hand.actor)

    def _step(self) -> None:
        """Fit the number of workers to the work, hand tasks out, and take what is done."""
        while not self._inbox.empty():
            self._waiting.append(self._inbox.get())
        self._scale()
        self._hand_out()
        results = [r for hand in self._hands for r in ([hand.loading] if hand.loading else [r for r, _ in hand.tasks])]
        if not results:
            self._closed.wait(0.02)
            return
        done, _ = self.ray.wait(results, num_returns=len(results), timeout=0.02)
        if not done:
            done, _ = self.ray.wait(results, num_returns=1, timeout=0.1)
        for hand in list(self._hands):
            self._take(hand, set(done))
        if not self.description.done() and time.monotonic() > self._deadline:
            raise self._no_worker()

    def _scale(self) -> None:
        work = len(self._waiting) + sum(len(hand.tasks) for hand in self._hands)
        wanted = min(self.high, max(self.low, work))
        while len(self._hands) < wanted:
            actor = self.start()
            self._hands.append(Hand(actor, actor.load.remote()))
        idle = [hand for hand in self._hands if not hand.tasks and self.description.done()]
        for hand in idle[: max(0, len(self._hands) - wanted)]:
            self.ray.kill(hand.actor)
            self._hands.remove(hand)

    def _hand_out(self) -> None:
        """One task each first; a second one only while there are more than enough for all."""
        ready = [hand for hand in self._hands if hand.ready]
        for full in range(IN_HAND):
            for hand in ready:
                plenty = full == 0 or len(self._waiting) > len(self._hands)
                if len(hand.tasks) == full and self._waiting and plenty:
                    task = self._waiting.popleft()
                    hand.tasks.append((hand.actor.score.remote(task.examples, task.chunk.allowed), task))

    def _take(self, hand: Hand, done: set[Any]) -> None:
        """What a worker has finished, in the order it did it; or that it is lost."""
        try:
            if hand.loading in done:
                self._ready(hand, self.ray.get(hand.loading))
            while hand.tasks and hand.tasks[0][0] in done:
                scores = self.ray.get(hand.tasks[0][0])
                hand.tasks.popleft()[1].done(scores)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except self.ray.exceptions.RayError as error:
            self._lost(hand, error)

    def _ready(self, hand: Hand, description: Description) -> None:
        hand.loading = None
        self._false_starts = 0
        if not self.description.done():
            self.description.set_result(description)
        elif (first := self.description.result().fingerprint) != description.fingerprint:
            differing = sorted(name for name in first if first[name] != description.fingerprint.get(name))
            raise EngineError(
                f"Two workers would not give the same numbers: they differ in {', '.join(differing)}.",
                expected="the same model and the same versions of torch and transformers on every node",
            )

    def _lost(self, hand: Hand, error: BaseException) -> None:
        """Give what a worker had in hand to others; the first of it may be what it died of."""
        self._hands.remove(hand)
        self.ray.kill(hand.actor)
        if not hand.ready:
            self._false_starts += 1
            if self._false_starts >= MOST_FALSE_STARTS:
                raise EngineError(
                    f"{self._false_starts} workers in a row died while they loaded the model: {_first_line(error)}",
                    expected="room for the model on every worker",
                    try_next="fewer --workers, more memory for each, or --dtype bfloat16",
                ) from error
        tasks = [task for _, task in hand.tasks]
        self._waiting.extendleft(reversed([*(tasks[0].after_death() if tasks else ()), *tasks[1:]]))

    def _no_worker(self) -> EngineError:
        there = {name: n for name, n in self.ray.cluster_resources().items() if name in ("CPU", "GPU")}
        return EngineError(
            f"No worker found a place on the cluster, which has {there}.",
            expected="a free GPU for every worker, or --cpus free processors with --device cpu",
            try_next="ray status, to see who has them",
        )

    def _fail(self, error: BaseException) -> None:
        """Whoever waits for something gets the error."""
        self._error = error
        futures: list[Future[Any]] = [self.description, *self._asked]
        for future in futures:
            if not future.done():
                future.set_exception(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


ON_WORKERS = frozenset({"loss"})
"""Estimators with a model. The others are done here: a column costs nothing, and Wikimedia is asked by one client."""


@contextmanager
def estimators_of(specs: Sequence[str], options: EstimatorOptions, engine: EngineSettings) -> Iterator[list[Estimator]]:
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
def _remote(ray: Any, spec: str, options: EstimatorOptions, engine: EngineSettings) -> Iterator[RemoteEstimator]:
    if options.processes not in (None, 1):
        raise SettingError(
            f"--processes {options.processes} is for one machine.", expected="--workers, with --engine ray"
        )
    there = ray.cluster_resources()
    device, resources = resources_of(options.device, engine.cpus, there)
    settings = replace(_absolute(options), device=device)
    actor = ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **resources)
    low, high = engine.bounds() or (1, room_for(resources, there))
    pool = Pool(ray, lambda: actor.remote(spec, settings, engine.cpus), low, high)
    try:
        yield RemoteEstimator(pool)
    finally:
        pool.close()


def _absolute(options: EstimatorOptions) -> EstimatorOptions:
    """Paths that mean the same whatever folder a worker runs in."""
    template = options.template if options.template in TEMPLATES else absolute(options.template)
    return replace(options, model=absolute(options.model), template=template, shots_from=absolute(options.shots_from))
