"""Which settings are tried for each arm: the paper's Table 4, or a few learning rates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from curate.errors import SettingError
from curate.validation.config import FinetuneConfig

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
