"""What a search takes: trainings, examples and answers, counted; time, by a measured minute."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curate.errors import SettingError, setting
from curate.searching.halving import WHOLE, Rung, schedule
from curate.validation.evaluate import answers_of
from curate.validation.finetune import finetuned
from curate.validation.runner import ANSWERED, TRAINED, Experiment, Runner
from curate.validation.trainer import Training

FEW = 30
"""Questions at least at the first rung."""


@dataclass(frozen=True)
class Work:
    """How much there is to do: trainings, examples that they see, questions that are answered."""

    trainings: int
    trained: int
    answers: int

    def __add__(self, other: Work) -> Work:
        return Work(self.trainings + other.trainings, self.trained + other.trained, self.answers + other.answers)

    @property
    def passes(self) -> int:
        """Passes of one example through the model."""
        return TRAINED * self.trained + ANSWERED * self.answers


@dataclass(frozen=True)
class Plan:
    """How far candidates are trained and what they are asked.

    `steps` are those of the confirmation, `batch_size` examples each; `stay` candidates are never dropped.
    """

    candidates: int
    stay: int
    steps: int
    batch_size: int
    questions: int
    confirm_questions: int
    rungs: int
    seeds: int
    confirm_seeds: int

    @property
    def schedule(self) -> list[Rung]:
        """The rungs of the search."""
        return schedule(self.steps, self.questions, self.rungs)

    def smaller(self, factor: float) -> Plan:
        """The same with so much less training and so much fewer questions in the search."""
        questions = max(min(FEW * 2 ** (self.rungs - 1), self.questions), round(factor * self.questions))
        return replace(self, steps=round(factor * self.steps), questions=questions)

    def searching(self, left: Sequence[int]) -> Work:
        """The work of the rungs with so many candidates at each; a training goes on from the rung before."""
        found, before = Work(0, 0, 0), 0
        for count, rung in zip(left, self.schedule, strict=True):
            runs = count * self.seeds
            found += Work(runs, runs * (rung.steps - before) * self.batch_size, runs * rung.questions)
            before = rung.steps
        return found

    @property
    def confirming(self) -> Work:
        """The work of the confirmation: three trainings a seed, and the untouched model's answers."""
        runs = 3 * self.confirm_seeds
        return Work(runs, runs * self.steps * self.batch_size, (runs + 1) * self.confirm_questions)

    @property
    def most(self) -> Work:
        """All of it, if no candidate is dropped."""
        return self.searching([self.candidates] * self.rungs) + self.confirming

    @property
    def likely(self) -> Work:
        """All of it, if half of the candidates are dropped at each rung."""
        left = [max(self.stay + 1, round(self.candidates / 2**n)) for n in range(self.rungs)]
        return self.searching(left) + self.confirming

    @property
    def in_full(self) -> Work:
        """What it takes to validate every candidate: as many seeds and steps as the confirmation has, all questions."""
        runs = self.candidates * self.confirm_seeds
        return Work(runs, runs * self.steps * self.batch_size, runs * self.questions)


@dataclass(frozen=True)
class Pace:
    """Seconds that a training takes beside its steps, that a step takes, and an answer."""

    training: float
    step: float
    answer: float

    def seconds(self, work: Work, batch_size: int) -> float:
        """How long some work takes."""
        return work.trainings * self.training + work.trained / batch_size * self.step + work.answers * self.answer


MEASURED = 25.0
"""Seconds for each of two measurements, training and answering, so that both and the model's loading take a minute."""


def measure(experiment: Experiment) -> Pace:
    """How fast the model trains and answers here: a few steps on all of the data, and a few questions."""
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(replace(experiment, folder=Path(folder)))
        arm = runner.arms[WHOLE]

        def train(steps: int) -> float:
            config = experiment.settings.config.changed(max_steps=steps, held_out=0)
            started, where = time.perf_counter(), Path(folder) / str(steps)
            with finetuned(runner.loaded, arm.examples, runner.template, Training(config, 0, where)):
                return time.perf_counter() - started

        def answer(count: int) -> float:
            started, asked = time.perf_counter(), runner.test.examples[:count]
            answers_of(runner.loaded, asked, runner.template, max_new_tokens=runner.new_tokens)
            return (time.perf_counter() - started) / len(asked)

        train(1)  # the first one pays for imports
        first = train(2)
        more = 2 + max(1, min(20, int(MEASURED / first)))
        step = max(1e-6, (train(more) - first) / (more - 2))
        return Pace(max(0.0, first - 2 * step), step, answer(max(8, min(128, int(MEASURED / answer(8))))))


def parse_budget(text: str) -> float:
    """Seconds of `2h`, `90m`, `1h30m`, `45s`; SettingError for what is no time."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    seconds = sum(float(n or 0) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    if not seconds:
        raise SettingError(
            f"{setting('budget', text)} is no time.", "hours, minutes: 2h, 90m, 1h30m", setting("budget", "2h")
        )
    return seconds


def spoken(seconds: float) -> str:
    """A time as a person says it: `2 h 5 min`."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
