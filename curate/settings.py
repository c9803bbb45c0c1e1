"""Every setting of the commands, recipes and Python functions: its type, range, default and meaning."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

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


METHODS = ("lora", "full", "qlora")
"""Adapters, all weights, adapters on weights of 4 bits."""


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """How an arm is finetuned. The same for every arm of a comparison.

    `learning_rate` and `weight_decay` are AdamW's; `lora_rank` and `lora_alpha` those of the adapters on all linear
    layers. Training takes `epochs` passes over the arm at most, or `max_steps` optimizer steps of `batch_size`
    examples; `held_out` is the share of the arm that does not train but decides when to stop: after `patience` epochs
    without a better one. `method` is `lora`, `full` or `qlora`. Raises SettingError for a value out of range.

    Examples:
        >>> FinetuneConfig(batch_size=32, epochs=2).steps(examples=1000)
        58
    """

    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    lora_rank: int = 16
    lora_alpha: int = 32
    epochs: float = 5
    max_steps: int | None = None
    batch_size: int = 16
    held_out: float = 0.1
    patience: int = 3
    method: str = "lora"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingError(f"There is no --method {self.method!r}.", expected=f"one of {', '.join(METHODS)}")
        positive = ["learning_rate", "epochs", "batch_size", "patience", "lora_rank", "lora_alpha"]
        positive += [] if self.max_steps is None else ["max_steps"]
        self._check(positive, lambda value: 0 < value < math.inf, "a number above 0")
        self._check(["weight_decay"], lambda value: 0 <= value < math.inf, "0 or a number above it")
        self._check(["held_out"], lambda value: 0 <= value < 1, "a share, such as 0.1; 0 to hold out nothing")

    def _check(self, names: Sequence[str], right: Callable[[float], bool], expected: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not right(value):
                raise SettingError(f"--{name.replace('_', '-')} {value} is out of range.", expected=expected)

    def as_dict(self) -> dict[str, Any]:
        """For manifests and keys."""
        return asdict(self)

    def steps(self, examples: int) -> int:
        """Optimizer steps at most for an arm of that many examples."""
        if self.max_steps is not None:
            return self.max_steps
        return math.ceil(self.epochs * math.ceil((examples - self.held_out_rows(examples)) / self.batch_size))

    def held_out_rows(self, examples: int) -> int:
        """Rows of an arm that do not train but decide when to stop: at least one, if any."""
        return min(examples - 1, max(1, round(self.held_out * examples))) if self.held_out > 0 else 0


TUNINGS = ("off", "quick", "paper")
LEARNING_RATES = (1e-5, 1e-4, 1e-3)
WEIGHT_DECAYS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
LORA_SIZES = ((8, 16), (16, 32), (32, 64), (64, 128))
"""Table 4: (rank, alpha)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting tried on one arm, how it did on the arm's held-out part, and whether it was taken."""

    arm: str
    seed: int
    config: FinetuneConfig
    steps: int
    validation_accuracy: float | None
    chosen: bool


def grid(tuning: str, config: FinetuneConfig) -> list[FinetuneConfig]:
    """The settings to try, the same for every arm.

    `off`: the given one. `quick`: the learning rates of Table 4, all else as given. `paper`: all of Table 4, which
    is 60 settings of LoRA (or of QLoRA, if that is the method) and, unless the weights are quantised, 15 of full
    finetuning.
    """
    if tuning not in TUNINGS:
        raise SettingError(f"There is no --tune {tuning!r}.", expected=f"one of {', '.join(TUNINGS)}")
    if tuning == "off":
        return [config]
    if config.held_out == 0:
        raise SettingError("Nothing is held out to tune on.", expected="--held-out above 0", try_next="--tune off")
    if tuning == "quick":
        return [replace(config, learning_rate=rate) for rate in LEARNING_RATES]
    rates = [replace(config, learning_rate=r, weight_decay=w) for r in LEARNING_RATES for w in WEIGHT_DECAYS]
    method = "qlora" if config.method == "qlora" else "lora"
    adapters = [replace(c, lora_rank=r, lora_alpha=a, method=method) for c in rates for r, a in LORA_SIZES]
    return adapters if method == "qlora" else [*adapters, *(replace(c, method="full") for c in rates)]
