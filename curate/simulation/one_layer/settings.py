"""Settings of the experiment `one-layer`."""

from __future__ import annotations

from dataclasses import dataclass

from curate.errors import SettingError
from curate.simulation.settings import Settings, check_at_least


@dataclass(frozen=True)
class OneLayerSettings(Settings):
    """The world, pretraining with plain SGD, and finetuning with plain SGD on all questions of an arm at once."""

    subjects: int = 200
    relations: int = 4
    answers: int = 10  # of every relation
    alpha: tuple[float, ...] = (1.0,)  # Zipf exponents of subject popularity, one world each
    answer_alpha: float = 0.0  # Zipf exponent of the answers of a relation; 0 is uniform
    steps: tuple[int, ...] = (350,)  # pretraining steps after which to finetune
    batch_size: int = 512
    learning_rate: float = 10.0
    finetuning_subjects: int = 100
    share: float = 0.5  # of the finetuning subjects in top, bottom and random
    finetuning_steps: int = 300
    finetuning_learning_rate: float = 0.5

    def check(self) -> None:
        """Raise SettingError if the settings cannot be."""
        check_at_least(self, 0, "alpha", "answer_alpha", "learning_rate", "finetuning_learning_rate")
        check_at_least(self, 1, "subjects", "relations", "steps", "batch_size", "finetuning_steps")
        check_at_least(self, 2, "answers", "finetuning_subjects")
        if not 0 < self.share <= 1:
            raise SettingError(f"--share {self.share} is out of range.", expected="more than 0, at most 1")
        if self.finetuning_subjects >= self.subjects:
            raise SettingError(
                f"{self.subjects} subjects leave none to test on after {self.finetuning_subjects} to finetune on.",
                try_next=f"--subjects {2 * self.finetuning_subjects}",
            )
