"""Parts of an experiment made by several processes at once, which are told what to make one part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import Queue

from curate.errors import SettingError
from curate.piping import PipedProcess, ProcessEndedError
from curate.simulation.parts import Part


def make_in_processes(parts: Sequence[Part], processes: int) -> Iterator[Part]:
    """Every part as it is done."""
    idle: Queue[PipedProcess] = Queue()
    workers = [PipedProcess("curate.simulation.worker") for _ in range(processes)]
    for worker in workers:
        idle.put(worker)

    def make(part: Part) -> Part:
        worker = idle.get()
        try:
            return _make_in(worker, part)
        finally:
            idle.put(worker)  # for those who wait for one, whatever happened

    threads = ThreadPoolExecutor(processes)
    try:
        for future in as_completed([threads.submit(make, part) for part in parts]):
            yield future.result()
    finally:
        for worker in workers:
            worker.stop()
        threads.shutdown(cancel_futures=True)


def _make_in(worker: PipedProcess, part: Part) -> Part:
    """Have a process make a part, and wait for it; what goes wrong there is raised here."""
    try:
        worker.ask(part)
        made: Part | Exception = worker.answer()
    except ProcessEndedError as ended:
        raise SettingError(
            f"A process of the simulation ended with exit code {ended.exit_code}.",
            expected="memory for as many processes as there are cores",
            try_next="--processes 1; what is done is kept",
        ) from ended
    if isinstance(made, Exception):
        raise made
    return made
