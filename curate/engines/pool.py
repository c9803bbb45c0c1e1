"""A pool of Ray actors that score chunks, as many as the bounds allow; what a lost one had in hand goes to another."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from curate.engines.jobs import Chunk, Task
from curate.engines.worker import Description
from curate.errors import EngineError
from curate.records import Example, Score

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
