"""Wall and CPU seconds of every experiment of `curate simulate` as it comes: five seeds, as many processes as cores.

python benchmarks/simulating.py [facts steps zipf map one-layer]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time

from curate.simulation.simulate import EXPERIMENTS


def measure(experiment: str) -> tuple[float, float]:
    """Wall and CPU seconds of the command, its processes included."""
    with tempfile.TemporaryDirectory() as folder:
        began, before = time.perf_counter(), _cpu()
        command = [sys.executable, "-m", "curate", "simulate", experiment, "-o", f"{folder}/out", "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began, _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    for name in sys.argv[1:] or EXPERIMENTS:
        wall, cpu = measure(name)
        print(f"{name}: {wall:.0f} s, {cpu:.0f} CPU s", flush=True)
