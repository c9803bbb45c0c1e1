"""Where work runs: in this process, in several of this machine, or on the workers of a Ray cluster.

Work comes as lists of rows (whatever a row is), and gives one result a row. The caller passes a function that makes the
worker where the work is to run; what it returns is called with one list after the other:

    def make(device: str) -> tuple[Any, Work]:         # of a module, or a `partial` of one: it is pickled
        model = load(device)
        return model.fingerprint(), model.score         # what all workers must have alike; the work

    with in_processes(make, ["cuda:0", "cuda:1"]) as pool:      # or: with on_ray(make, settings, "auto") as pool
        futures = [pool.submit(rows) for rows in lists]
        for future in futures:                          # or as_completed(futures)
            future.result()                             # what work(rows) gave, or the error it ended with

A worker that dies (killed, out of memory, its node lost) is replaced, and what it had in hand is done by others; only a
list over which several workers died ends with `WorkerDiedError`. `begin` goes on from there: it cuts the list in halves
until the rows at fault stand alone. Leaving the `with` ends all workers, whatever they are doing.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from curate.errors import CurateError, EngineError, SettingError, setting
from curate.settings import EngineSettings

Work = Callable[[Sequence[Any]], Iterable[Any]]
Make = Callable[[str], tuple[Any, Work]]


@dataclass(frozen=True)
class Kind:
    """What is expected of a kind of workers.

    `deaths`: workers that may die over a list before the list is taken for the cause. `false_starts`: those in a row
    that may die before they are made, for want of memory mostly. `in_hand`: lists that a worker is sent at a time;
    where the way to it is long, the next should be there when the first is done.
    """

    deaths: int
    false_starts: int
    in_hand: int
    try_next: str


PROCESSES = Kind(2, 2, 1, f"{setting('processes', 1)}, or fewer than now")
RAY = Kind(  # on a cluster, nodes come and go
    5, 10, 2, f"fewer {setting('workers')}, more memory for each, or {setting('dtype', 'bfloat16')}"
)
IDLE = 5.0
"""Seconds without work after which a worker is let go, down to the fewest."""
PATIENCE = 1800.0
"""Seconds to wait for the first worker: a cluster may have to start a machine for it."""


class WorkerDiedError(Exception):
    """A worker is gone; the text says how it ended."""


def in_halves(work: Work, rows: Sequence[Any], allowed: int, failed: Any) -> list[Any]:
    """One result a row; the result of a row that cannot be done even alone is `failed`.

    Rows that fail together are done in halves, and these again, until the ones at fault stand alone. Their error is
    raised after all if they are more than `allowed`: it is not the rows. So is a CurateError, which the user can fix.
    """
    try:
        return list(work(rows))
    except CurateError:
        raise
    except Exception:
        if allowed < 1:
            raise
        if len(rows) == 1:
            return [failed]
        middle = len(rows) // 2
        first = in_halves(work, rows[:middle], allowed, failed)
        allowed -= sum(result is failed for result in first)
        return first + in_halves(work, rows[middle:], allowed, failed)


class Here:
    """This process. Work is done when its results are asked for."""

    ahead = 0

    def __init__(self, work: Work) -> None:
        self._work = work

    def begin(self, rows: Sequence[Any], allowed: int, failed: Any) -> Callable[[], list[Any]]:
        """What gives one result a row, as `in_halves` does."""
        return partial(in_halves, self._work, rows, allowed, failed)


class Handle(Protocol):
    """A worker elsewhere, as it is reached from here. Each method raises WorkerDiedError when it is gone."""

    def load(self) -> Any:
        """Make it; what it has in common with all others."""

    def send(self, rows: Sequence[Any]) -> Any:
        """Have it work on some rows; what `receive` wants to know of them."""

    def receive(self, sent: Any) -> list[Any]:
        """Wait for the results of what was sent first."""

    def stop(self) -> None:
        """End it, whatever it is doing."""


@dataclass(eq=False)
class Task:
    """Rows that a worker works on at once, and how many may die of them."""

    rows: Sequence[Any]
    lives: int
    future: Future[list[Any]] = field(default_factory=Future)
    sent: Any = None


class Pool:
    """Between `low` and `high` workers, more while there is work for them, each looked after by a thread."""

    def __init__(self, start: Callable[[int], Handle], low: int, high: int, kind: Kind) -> None:
        """`start` makes the worker of a number below `high`, which need not have a place yet."""
        self.ahead = 2 * high
        self.about: Future[Any] = Future()
        self._start, self._low, self._high, self._kind = start, low, high, kind
        self._waiting: deque[Task] = deque()
        self._unfinished: list[Future[list[Any]]] = []
        self._workers: dict[int, Handle | None] = {}
        self._threads: list[threading.Thread] = []
        self._false_starts = 0
        self._error: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()
        with self._changed:
            self._employ(low)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._close()
        for thread in self._threads:
            thread.join()

    def submit(self, rows: Sequence[Any]) -> Future[list[Any]]:
        """Have a worker work on some rows; CurateError if no worker can be had."""
        return self._submit(Task(rows, self._kind.deaths), first=False)

    def begin(self, rows: Sequence[Any], allowed: int, failed: Any) -> Callable[[], list[Any]]:
        """Have a worker work on some rows; what is given waits for one result a row, as `in_halves` makes them."""
        begun = [self.submit(rows)]

        def work(some: Sequence[Any]) -> list[Any]:
            future = begun.pop() if begun else self._submit(Task(some, lives=1), first=True)
            return future.result()

        def results() -> list[Any]:
            try:
                return in_halves(work, rows, allowed, failed)
            except WorkerDiedError as died:
                raise EngineError(
                    f"Workers die over {allowed + 1} rows of one chunk, the last with {died}: it is not the rows.",
                    expected="workers that stay alive",
                    try_next=self._kind.try_next,
                ) from died

        return results

    def _submit(self, task: Task, first: bool) -> Future[list[Any]]:
        with self._changed:
            if self._error is not None:
                raise self._error
            self._waiting.insert(0 if first else len(self._waiting), task)
            self._unfinished = [*(future for future in self._unfinished if not future.done()), task.future]
            self._employ(len(self._unfinished))
            self._changed.notify()
        return task.future

    def _employ(self, wanted: int) -> None:
        while len(self._workers) < min(wanted, self._high):
            number = next(n for n in itertools.count() if n not in self._workers)
            self._workers[number] = None
            self._threads.append(threading.Thread(target=self._look_after, args=[number], daemon=True))
            self._threads[-1].start()

    def _look_after(self, number: int) -> None:
        """A worker, and those that follow when it dies, until there is no more for them to do."""
        tasks: deque[Task] = deque()
        try:
            worker = self._loaded(number)
            while True:
                try:
                    while len(tasks) < self._kind.in_hand and (task := self._take(number, wait=not tasks)):
                        tasks.append(task)
                        task.sent = worker.send(task.rows)
                    if not tasks:
                        return
                    results = worker.receive(tasks[0].sent)
                except WorkerDiedError as died:
                    self._give_back(tasks, died)
                    worker = self._loaded(number)
                except Exception as error:
                    self._finish(tasks.popleft(), error=error)
                else:
                    self._finish(tasks.popleft(), results)
        except BaseException as error:
            self._fail(error)

    def _loaded(self, number: int) -> Handle:
        """A new worker, made, in the place of the one before; after some that died meanwhile, if they must."""
        while True:
            with self._changed:
                self._let_go(number)
                if self._closed:
                    raise EngineError("The workers were let go.")
                worker = self._workers[number] = self._start(number)
            try:
                about = worker.load()
            except WorkerDiedError as died:
                self._count_false_start(died)
                continue
            with self._changed:
                self._false_starts = 0
                if not self.about.done():
                    self.about.set_result(about)
            _check_alike(self.about.result(), about)
            return worker

    def _let_go(self, number: int) -> None:
        worker = self._workers.pop(number, None)
        if worker is not None:
            worker.stop()

    def _count_false_start(self, died: WorkerDiedError) -> None:
        with self._changed:
            self._false_starts += 1
        if self._false_starts >= self._kind.false_starts:
            raise EngineError(
                f"{self._false_starts} workers in a row died while they loaded the model: {died}",
                expected="room for the model on every worker",
                try_next=self._kind.try_next,
            ) from died

    def _take(self, number: int, wait: bool) -> Task | None:
        """The next task; one more, without waiting, while there are more than enough for all; None when let go."""
        with self._changed:
            if not wait:
                return self._waiting.popleft() if len(self._waiting) > len(self._workers) else None
            while not self._waiting and not self._closed:
                if not self._changed.wait(IDLE) and not self._waiting and len(self._workers) > self._low:
                    self._let_go(number)
                    return None
            return None if self._closed else self._waiting.popleft()

    def _finish(self, task: Task, results: list[Any] | None = None, error: Exception | None = None) -> None:
        with self._changed:
            if task.future.done():
                return
            if error is not None:
                task.future.set_exception(error)
            else:
                task.future.set_result(results or [])

    def _give_back(self, tasks: deque[Task], died: WorkerDiedError) -> None:
        """Let others do what a worker had in hand; the first of it may be what it died of."""
        if tasks:
            tasks[0].lives -= 1
            if not tasks[0].lives:
                self._finish(tasks.popleft(), error=died)
        with self._changed:
            self._waiting.extendleft(reversed(tasks))
            self._changed.notify_all()
        tasks.clear()

    def _fail(self, error: BaseException) -> None:
        """Whoever waits for something gets the error."""
        with self._changed:
            if self._closed:
                return
            self._error = error
            self._close()
            futures: list[Future[Any]] = [self.about, *self._unfinished]
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def _close(self) -> None:
        self._closed = True
        for worker in self._workers.values():
            if worker is not None:
                worker.stop()
        self._changed.notify_all()


def _check_alike(first: Any, other: Any) -> None:
    """EngineError if what two workers say of themselves differs."""
    if first == other:
        return
    differing = sorted(name for name in first if first[name] != other.get(name))
    raise EngineError(
        f"Two workers would not give the same numbers: they differ in {', '.join(differing)}.",
        expected="the same model and the same versions of torch and transformers on every node",
    )


class Worker:
    """The worker, where it works."""

    def load(self, make: Callable[[], tuple[Any, Work]]) -> Any:
        """Not in __init__: what is wrong with it is an error that can be told here."""
        about, self.work = make()
        return about

    def call(self, rows: Sequence[Any]) -> list[Any]:
        """The results of some rows."""
        return list(self.work(rows))


# Processes of this machine. Not those of multiprocessing: they would run the caller's script anew.


def in_processes(make: Make, devices: Sequence[str]) -> Pool:
    """Workers in processes of this machine, one for each device: `make` is called with it there."""
    return Pool(lambda n: ProcessHandle(partial(make, devices[n])), len(devices), len(devices), PROCESSES)


def choose_devices(device: str, processes: int | None) -> list[str]:
    """The device of each process: every visible GPU unless told otherwise. SettingError if there are too few."""
    import torch

    gpus = torch.cuda.device_count()
    on_gpus = device == "cuda" or (device == "auto" and gpus > 0)
    if processes is None:
        processes = max(1, gpus) if on_gpus else 1
    if processes == 1:
        return [device]
    if processes < 1 or (on_gpus and processes > gpus) or device not in ("auto", "cpu", "cuda"):
        raise SettingError(
            f"{setting('processes')} is {processes} on the device {device!r}, and this machine has {gpus} GPUs.",
            expected="at least one process, and one GPU for each; several processes on auto, cuda or cpu only",
            try_next=f"leave {setting('processes')} out: every visible GPU then has one",
        )
    return [f"cuda:{n}" for n in range(processes)] if on_gpus else ["cpu"] * processes


class ProcessHandle:
    """A process that is asked through its standard input and answers through its standard output, in pickles."""

    def __init__(self, make: Callable[[], tuple[Any, Work]]) -> None:
        self._make = make
        program = [sys.executable, "-c", "from curate.engines import serve; serve()"]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def load(self) -> Any:
        """Have it make its worker."""
        self._ask("load", self._make)
        return self.receive()

    def send(self, rows: Sequence[Any]) -> None:
        """Have it work on some rows."""
        self._ask("call", rows)

    def receive(self, sent: None = None) -> Any:
        """Wait for its answer; the error that it met is raised here."""
        try:
            answer = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise self._died() from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self, method: str, argument: Any) -> None:
        question = pickle.dumps((method, argument))
        try:
            pickle.dump(question, self._process.stdin)  # type: ignore[arg-type]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except (OSError, ValueError) as error:  # ValueError: closed by `stop`
            raise self._died() from error

    def _died(self) -> WorkerDiedError:
        return WorkerDiedError(f"exit code {self._process.wait()}")

    def stop(self) -> None:
        """Kill it; a thread that waits for its answer finds that it is gone."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):  # what could not be sent any more
            self._process.stdin.close()  # type: ignore[union-attr]


def serve() -> None:
    """What such a process does: it answers until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    worker = Worker()
    while True:
        try:
            question = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            method, argument = pickle.loads(question)
            answer = pickle.dumps(getattr(worker, method)(argument))
        except CurateError as error:
            answer = pickle.dumps(error)
        except Exception as error:  # of any class, which may not be one that can be sent
            answer = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        try:
            answers.write(answer)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # nobody waits; an ordinary exit would complain of what it cannot write


# Workers on a Ray cluster.


@contextmanager
def on_ray(make: Make, settings: EngineSettings, device: str, most: int | None = None) -> Iterator[Pool]:
    """Workers on the cluster that the settings name, as many as they say; without a number, `most` or as fit.

    `make` is called with "cuda", where `device` and the cluster have it so, or "cpu". Waits for the first worker;
    EngineError where there is no cluster or no place for it.
    """
    with ray_session(settings.ray_address) as ray:
        there = ray.cluster_resources()
        device, resources = resources_of(device, settings.cpus, there)
        low, high = settings.bounds() or (1, most or room_for(resources, there))
        actor = ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **resources)
        with Pool(lambda n: RayHandle(ray, actor, partial(make, device)), low, high, RAY) as pool:
            try:
                pool.about.result(PATIENCE)
            except concurrent.futures.TimeoutError:
                raise _no_worker(there) from None
            yield pool


class RayHandle:
    """An actor of a Ray cluster."""

    def __init__(self, ray: Any, actor: Any, make: Callable[[], tuple[Any, Work]]) -> None:
        self._ray = ray
        self._make = make
        self._actor = actor.remote()

    def load(self) -> Any:
        """Have it make its worker, once it has found a place."""
        return self.receive(self._actor.load.remote(self._make))

    def send(self, rows: Sequence[Any]) -> Any:
        """Have it work on some rows, after what it was sent before."""
        return self._actor.call.remote(rows)

    def receive(self, sent: Any) -> Any:
        """Wait for its answer; the error that it met is raised here."""
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(sent)
        except exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except exceptions.RayError as error:
            raise WorkerDiedError((str(error).strip() or type(error).__name__).splitlines()[0]) from error

    def stop(self) -> None:
        """Kill it."""
        self._ray.kill(self._actor)


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


def resources_of(device: str, cpus: int, there: Mapping[str, float]) -> tuple[str, dict[str, float]]:
    """The device of a worker, and what of a node it takes, given the resources of the cluster."""
    if device not in ("auto", "cpu", "cuda"):
        raise SettingError(
            f"With {setting('engine', 'ray')} a worker has one device, and {setting('device')} is {device}.",
            expected=f"{setting('device', 'auto')}, cuda or cpu",
            try_next=f"{setting('workers')}, for how many",
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


def _no_worker(there: Mapping[str, float]) -> EngineError:
    return EngineError(
        f"No worker found a place on the cluster, which has { {n: there[n] for n in ('CPU', 'GPU') if n in there} }.",
        expected=f"a free GPU for every worker, or {setting('cpus')} free processors with {setting('device', 'cpu')}",
        try_next="ray status, to see who has them",
    )
