"""What the user says about the engine, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from curate.errors import SettingError

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class EngineOptions:
    """The options of an engine, by the words of the command line; `workers` is how many, or MIN:MAX.

    `cpus` is how many processors, and threads, a worker has; one that has a GPU needs them for little.
    """

    engine: str = "local"
    ray_address: str | None = None
    workers: str | int | None = None
    cpus: int = 1

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise SettingError(f"There is no engine {self.engine!r}.", expected=f"one of {', '.join(ENGINES)}")
        if self.cpus < 1:
            raise SettingError(f"--cpus is {self.cpus}.", expected="at least one processor a worker")
        given = {"--ray-address": self.ray_address, "--workers": self.workers}
        given |= {"--cpus": self.cpus if self.cpus > 1 else None}
        unused = next((name for name, value in given.items() if value is not None), None)
        if self.engine != "ray" and unused:
            raise SettingError(
                f"{unused} is an option of --engine ray.", try_next=f"--engine ray, or leave out {unused}"
            )
        _ = self.bounds

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The fewest and the most workers; None where the cluster decides."""
        if self.workers is None:
            return None
        match = re.fullmatch(r"(\d+)(?::(\d+))?", str(self.workers).strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high:
            raise SettingError(
                f"--workers is {self.workers}.", expected="how many, or the fewest and the most: 8, 2:64"
            )
        return low, high
