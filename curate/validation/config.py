"""How an arm is finetuned."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curate.errors import SettingError

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
