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

A worker that dies (killed, out of memory, its node lost) is replaced, and another does what it was doing; only a list
over which several workers died ends with `WorkerDiedError`. `begin` goes on from there: it cuts the list in halves
until the rows at fault stand alone. Leaving the `with` ends all workers, whatever they are doing.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, TypeVar

from curate.errors import CurateError, EngineError, SettingError, setting
from curate.settings import EngineSettings

Work = Callable[[Sequence[Any]], Iterable[Any]]
Make = Callable[[str], tuple[Any, Work]]
Failed = Callable[[Exception], Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """What is expected of a kind of workers.

    `deaths`: workers that may die over a list before the list is taken for the cause. `false_starts`: those in a row
    that may die before they are made, for want of memory mostly.
    """

    deaths: int
    false_starts: int
    try_next: str


PROCESSES = Kind(2, 2, f"{setting('processes', 1)}, or fewer than now")
RAY = Kind(  # on a cluster, nodes come and go
    5, 10, f"fewer {setting('workers')}, more memory for each, or {setting('dtype', 'bfloat16')}"
)
IDLE = 5.0
"""Seconds without work after which a worker is let go, down to the fewest."""
PATIENCE = 1800.0
"""Seconds to wait for the first worker: a cluster may have to start a machine for it."""


class WorkerDiedError(Exception):
    """A worker is gone; the text says how it ended."""


def in_halves(work: Work, rows: Sequence[Any], allowed: int, failed: Failed) -> list[Any]:
    """One result a row; that of a row that cannot be done even alone is what `failed` makes of its error.

    Rows that fail together are done in halves, and these again, until the ones at fault stand alone. Their error is
    raised after all if they are more than `allowed`: it is not the rows. So is a CurateError, which the user can fix.
    """
    found = 0

    def done(some: Sequence[Any]) -> list[Any]:
        nonlocal found
        try:
            return list(work(some))
        except CurateError:
            raise
        except Exception as error:
            if found >= allowed:
                raise
            if len(some) == 1:
                found += 1
                return [failed(error)]
        middle = len(some) // 2
        return done(some[:middle]) + done(some[middle:])

    return done(rows)


class Handle(Protocol):
    """A worker elsewhere, as it is reached from here."""

    def do(self, given: Any) -> Any:
        """Have it do something (see `Worker`) and wait for what comes of it; WorkerDiedError when it is gone."""

    def stop(self) -> None:
        """End it, whatever it is doing."""


class Worker:
    """The other end, where the work is done."""

    _work: Work | None = None

    def do(self, given: Any) -> Any:
        """Given first what makes it: what all workers have alike. Given rows from then on: their results."""
        if self._work is None:
            about, self._work = given()
            return about
        return list(self._work(given))


class Here:
    """This process. Work is done when its results are asked for."""

    ahead = 0

    def __init__(self, about: Any, work: Work) -> None:
        self._about, self._work = about, work

    def about(self) -> Any:
        """What all workers have alike."""
        return self._about

    def begin(self, rows: Sequence[Any], allowed: int, failed: Failed) -> Callable[[], list[Any]]:
        """What gives one result a row, as `in_halves` does."""
        return partial(in_halves, self._work, rows, allowed, failed)


class Task(Future[list[Any]]):
    """The results, to come, of rows that a worker works on at once; over which so many workers may die."""

    def __init__(self, rows: Sequence[Any], lives: int) -> None:
        super().__init__()
        self.rows, self.lives = rows, lives


class Pool:
    """Between `low` and `high` workers, more while there is work for them, each looked after by a thread.

    `ahead`: lists that may be begun before the first is wanted, so that no worker waits for work.
    """

    def __init__(self, kind: Kind, start: Callable[[], Handle], make: Make, devices: Sequence[str], low: int) -> None:
        """`start` begins a worker, which need not have a place yet; as many as there are devices, the most."""
        self.ahead = 2 * len(devices)
        self._kind, self._start, self._make, self._devices, self._low = kind, start, make, devices, low
        self._about: Future[Any] = Future()
        self._waiting: deque[Task] = deque()
        self._unfinished: set[Future[Any]] = set()
        self._workers: dict[int, Handle | None] = {}
        self._threads: list[threading.Thread] = []
        self._false_starts = 0
        self._over: BaseException | None = None
        self._changed = threading.Condition()  # holds a lock that may be taken again
        self._employ(low)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._end(EngineError("The workers were let go."))
        for thread in self._threads:
            thread.join()

    def about(self, seconds: float | None = None) -> Any:
        """What all workers have alike; waits for the first of them, TimeoutError after so long."""
        return self._about.result(seconds)

    def submit(self, rows: Sequence[Any]) -> Future[list[Any]]:
        """Have a worker work on some rows; CurateError if no worker can be had."""
        return self._submit(Task(rows, self._kind.deaths))

    def begin(self, rows: Sequence[Any], allowed: int, failed: Failed) -> Callable[[], list[Any]]:
        """Have a worker work on some rows; what is given waits for one result a row, as `in_halves` makes them."""
        begun = [self.submit(rows)]

        def work(some: Sequence[Any]) -> list[Any]:
            return (begun.pop() if begun else self._submit(Task(some, lives=1), first=True)).result()

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

    def _submit(self, task: Task, first: bool = False) -> Task:
        with self._changed:
            if self._over is not None:
                raise self._over
            self._waiting.insert(0 if first else len(self._waiting), task)
            self._unfinished.add(task)
            task.add_done_callback(self._unfinished.discard)
            self._employ(len(self._unfinished))
            self._changed.notify()
        return task

    def _employ(self, wanted: int) -> None:
        with self._changed:
            places = [place for place in range(len(self._devices)) if place not in self._workers]
            for place in places[: max(0, wanted - len(self._workers))]:
                self._workers[place] = None
                self._threads.append(threading.Thread(target=self._look_after, args=[place], daemon=True))
                self._threads[-1].start()

    def _look_after(self, place: int) -> None:
        """A worker, and those that follow when it dies, until there is no more for them to do."""
        try:
            worker = self._loaded(place)
            while (task := self._take(place)) is not None:
                try:
                    _settle(task, worker.do(task.rows))
                except WorkerDiedError as died:
                    self._give_back(task, died)
                    worker = self._loaded(place)
                except Exception as error:
                    _settle(task, error=error)
        except BaseException as error:
            self._end(error)

    def _loaded(self, place: int) -> Handle:
        """A new worker, made, in the place of the one before; after some that died meanwhile, if they must."""
        while True:
            with self._changed:
                self._let_go(place)
                if self._over is not None:
                    raise self._over
                worker = self._workers[place] = self._start()
            try:
                about = worker.do(partial(self._make, self._devices[place]))
                break
            except WorkerDiedError as died:
                self._false_starts += 1
                if self._false_starts >= self._kind.false_starts:
                    raise EngineError(
                        f"{self._false_starts} workers in a row died while they loaded the model: {died}",
                        expected="room for the model on every worker",
                        try_next=self._kind.try_next,
                    ) from died
        self._false_starts = 0
        _settle(self._about, about)  # by the first of them
        first = self.about()
        if about != first:
            differing = sorted(name for name in first if first[name] != about.get(name))
            raise EngineError(
                f"Two workers would not give the same numbers: they differ in {', '.join(differing)}.",
                expected="the same model and the same versions of torch and transformers on every node",
            )
        return worker

    def _take(self, place: int) -> Task | None:
        """The next task; None when the worker is let go, there being none, or all are."""
        with self._changed:
            while not self._waiting and self._over is None:
                if not self._changed.wait(IDLE) and not self._waiting and len(self._workers) > self._low:
                    self._let_go(place)
                    return None
            return self._waiting.popleft() if self._over is None else None

    def _give_back(self, task: Task, died: WorkerDiedError) -> None:
        """Let another worker do it, unless it is what they die of."""
        task.lives -= 1
        if not task.lives:
            _settle(task, error=died)
            return
        with self._changed:
            self._waiting.appendleft(task)
            self._changed.notify()

    def _let_go(self, place: int) -> None:
        worker = self._workers.pop(place, None)
        if worker is not None:
            worker.stop()

    def _end(self, error: BaseException) -> None:
        """End all workers; whoever waits for something, or comes later, gets the error."""
        with self._changed:
            if self._over is None:
                self._over = error
                for worker in filter(None, self._workers.values()):
                    worker.stop()
                for future in [self._about, *self._unfinished]:
                    _settle(future, error=error)
                self._changed.notify_all()


def _settle(future: Future[Any], result: Any = None, error: BaseException | None = None) -> None:
    """Set what came of it, unless something did already."""
    with suppress(InvalidStateError):
        future.set_result(result) if error is None else future.set_exception(error)


# Processes of this machine. Not those of multiprocessing: they would run the caller's script anew.


def in_processes(make: Make, devices: Sequence[str]) -> Pool:
    """Workers in processes of this machine, one for each device: `make` is called with it there."""
    return Pool(PROCESSES, ProcessHandle, make, devices, len(devices))


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
    """A process at the other end of a pipe."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        program = f"from curate.engines import serve; serve({theirs.fileno()})"
        # What a library prints there must not get into the output of a command.
        to_stderr: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": 2}
        self._process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[theirs.fileno()], **to_stderr)
        theirs.close()

    def do(self, given: Any) -> Any:
        question = pickle.dumps(given)
        try:
            self._pipe.send_bytes(question)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDiedError(f"exit code {self._process.wait()}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def serve(pipe: int) -> None:
    """What such a process does: it answers until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    connection, worker = Connection(pipe), Worker()
    with suppress(EOFError, ConnectionError):
        while True:
            question = connection.recv_bytes()
            try:
                answer = pickle.dumps(worker.do(pickle.loads(question)))
            except CurateError as error:
                answer = pickle.dumps(error)
            except Exception as error:  # of any class, which may not be one that can be sent
                answer = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
            connection.send_bytes(answer)


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
        room = there.get("GPU", 0.0) if device == "cuda" else there.get("CPU", 0.0) // settings.cpus
        low, high = settings.bounds() or (1, most or max(1, int(room)))  # a node may yet come
        actor = ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **resources)
        with Pool(RAY, lambda: RayHandle(ray, actor.remote()), make, [device] * high, low) as pool:
            try:
                pool.about(PATIENCE)
            except FutureTimeoutError:
                free = f"{setting('cpus')} free processors with {setting('device', 'cpu')}"
                raise EngineError(
                    "No worker found a place on the cluster, which has "
                    f"{ {unit: there[unit] for unit in ('CPU', 'GPU') if unit in there} }.",
                    expected=f"a free GPU for every worker, or {free}",
                    try_next="ray status, to see who has them",
                ) from None
            yield pool


class RayHandle:
    """An actor of a Ray cluster."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def do(self, given: Any) -> Any:
        try:
            return self._ray.get(self._actor.do.remote(given))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except self._ray.exceptions.RayError as error:
            raise WorkerDiedError((str(error).strip() or type(error).__name__).splitlines()[0]) from error

    def stop(self) -> None:
        self._ray.kill(self._actor)


@contextmanager
def ray_session(address: str | None) -> Iterator[Any]:
    """Gives the module `ray`, connected: to what is connected already, to `address`, to a cluster on this machine."""
    try:
        import ray
    except ImportError as error:
        raise EngineError("The engine ray is not installed.", try_next="pip install 'curate-qa[ray]'") from error
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


def absolute(data: Any) -> Any:
    """A path that means the same in any folder, which a worker may run in; anything else as it is."""
    return str(Path(data).resolve()) if isinstance(data, (str, Path)) and Path(data).exists() else data


# Processes that run one command together, each on a GPU of its own (torchrun, accelerate launch).

MOST_WAIT = timedelta(days=7)
"""How long processes wait for the first one while it evaluates; a process that fails ends the others at once."""


def processes() -> int:
    """How many there are; 1 for a command that runs alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that evaluates and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def join(device: str) -> None:
    """Wait for the other processes of this command, each of which gets a GPU of its own if there are GPUs.

    SettingError when that cannot be, as for one of several GPUs by its number: Trainer takes the first it sees.
    """
    if device.startswith("cuda:") and device != "cuda:0":
        raise SettingError(
            f"Finetuning cannot be put on the device {device!r}.",
            expected="auto, cpu, cuda or mps",
            try_next=f"CUDA_VISIBLE_DEVICES={device.removeprefix('cuda:')} before the command, and no "
            f"{setting('device')}",
        )
    if processes() == 1:
        return
    import torch

    on_gpus = device != "cpu" and torch.cuda.is_available()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes()))
    if on_gpus and here > torch.cuda.device_count():
        raise SettingError(
            f"{here} processes cannot run on the device {device!r} and {torch.cuda.device_count()} GPUs.",
            expected=f"a GPU for each process, or {setting('device', 'cpu')}",
            try_next=f"--nproc-per-node (or --num_processes) with the number of GPUs, and no {setting('device')}",
        )
    if on_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=MOST_WAIT)


def leave() -> None:
    """Part from the other processes, all of them being done."""
    if processes() == 1:
        return
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def by_first(work: Callable[[], T]) -> T:
    """The result of `work`, done by the first process and sent to the others, which wait for it.

    An error in it is raised by the first process; the others end in silence. All leave the group before that: threads
    that still listen to a process that has ended would abort this one.
    """
    if processes() == 1:
        return work()
    import torch

    outcome: list[Any] = [None]
    try:
        if is_first():
            outcome = [(work(),)]
    finally:
        torch.distributed.broadcast_object_list(outcome, src=0)
        if outcome[0] is None:
            leave()
    if outcome[0] is None:
        raise SystemExit(1)
    return outcome[0][0]
