"""Parts of an experiment made by several processes at once, which are told what to make one part at a time.

Not those of multiprocessing: they would run the caller's script anew.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import Queue

from curate.errors import SettingError
from curate.simulation.parts import Part


def make_in_processes(parts: Sequence[Part], processes: int) -> Iterator[Part]:
    """Every part as it is done."""
    idle: Queue[Worker] = Queue()
    workers = [Worker() for _ in range(processes)]
    for worker in workers:
        idle.put(worker)

    def make(part: Part) -> Part:
        worker = idle.get()
        try:
            worker.make(part)
        finally:
            idle.put(worker)  # for those who wait for one, whatever happened
        return part

    threads = ThreadPoolExecutor(processes)
    try:
        for future in as_completed([threads.submit(make, part) for part in parts]):
            yield future.result()
    finally:
        for worker in workers:
            worker.stop()
        threads.shutdown(cancel_futures=True)


class Worker:
    """A process that makes parts."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "curate.simulation.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def make(self, part: Part) -> None:
        """Have it make a part, and wait for it; what goes wrong there is raised here."""
        try:
            pickle.dump(part, self.process.stdin)  # type: ignore[arg-type]
            self.process.stdin.flush()  # type: ignore[union-attr]
            error = pickle.load(self.process.stdout)  # type: ignore[arg-type]
        except (OSError, EOFError) as ended:
            raise SettingError(
                f"A process of the simulation ended with exit code {self.process.wait()}.",
                expected="memory for as many processes as there are cores",
                try_next="--processes 1; what is done is kept",
            ) from ended
        if error is not None:
            raise error

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.wait()
