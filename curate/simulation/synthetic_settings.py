"""Settings of the experiments on synthetic facts: `facts`, `zipf`, `steps`, and each point of `map`."""

from __future__ import annotations

from dataclasses import dataclass

from curate.errors import SettingError
from curate.simulation.settings import Settings, check_at_least


@dataclass(frozen=True)
class SyntheticSettings(Settings):
    """The world, the transformer, its pretraining and its finetuning."""

    subjects: int = 200
    relations: int = 20
    answers: int = 10  # of every relation
    alpha: tuple[float, ...] = (1.0,)  # Zipf exponents of subject popularity, one world each
    answer_alpha: float = 1.0  # Zipf exponent of the answers of a relation
    width: int = 64
    layers: int = 1
    heads: int = 2
    steps: tuple[int, ...] = (500,)  # pretraining steps after which to finetune
    batch_size: int = 512
    learning_rate: float = 2e-3
    finetuning_subjects: int = 100
    validation_subjects: int = 30
    share: float = 0.2  # of the finetuning subjects in top, bottom and random
    finetuning_steps: int = 240
    finetuning_batch_size: int = 64
    finetuning_learning_rate: float = 1e-3

    def check(self) -> None:
        """Raise SettingError if the settings cannot be."""
        check_at_least(self, 0, "alpha", "answer_alpha", "learning_rate", "finetuning_learning_rate")
        counts = ("subjects", "relations", "answers", "width", "layers", "heads", "steps", "batch_size")
        check_at_least(self, 1, *counts, "finetuning_steps", "finetuning_batch_size", "validation_subjects")
        check_at_least(self, 2, "finetuning_subjects")
        if self.width % self.heads:
            raise SettingError(f"--width {self.width} cannot be split into {self.heads} heads.")
        if not 0 < self.share <= 1:
            raise SettingError(f"--share {self.share} is out of range.", expected="more than 0, at most 1")
        left = self.subjects - self.finetuning_subjects - self.validation_subjects
        if left < 1:
            raise SettingError(
                f"{self.subjects} subjects leave none to test on after {self.finetuning_subjects} to finetune on "
                f"and {self.validation_subjects} to validate on.",
                try_next=f"--subjects {2 * (self.finetuning_subjects + self.validation_subjects)}",
            )
