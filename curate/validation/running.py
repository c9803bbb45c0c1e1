"""The run: the base model, then every arm and seed, finetuned and asked; what is done is kept and not done again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.shots import Shots
from curate.validation.arms import BASE, Arm, few_shot_name, fingerprint_examples
from curate.validation.config import FinetuneConfig
from curate.validation.evaluate import Prediction, evaluate
from curate.validation.finetune import Finetuned, finetuned
from curate.validation.harness import Harness
from curate.validation.looking import Probe
from curate.validation.methods import save_adapter
from curate.validation.parts import Parts, Row
from curate.validation.testset import TestSet
from curate.validation.tune import Trial, grid

Progress = Callable[[str], None]
"""Called with one line of text whenever an arm and seed begins or ends."""

TUNING_SEED = 1_000_003
"""The seed of all trials, apart from those that are evaluated."""


@dataclass(frozen=True)
class Run:
    """What one arm answered with one seed, the settings it was finetuned with, and how training went.

    `tasks` are the metrics of the lm-eval tasks it was asked besides.
    """

    arm: str
    seed: int
    predictions: Sequence[Prediction]
    steps: int = 0
    validation_accuracy: float | None = None
    training: Sequence[Mapping[str, float | None]] = ()
    config: FinetuneConfig | None = None
    attention: Mapping[str, Any] | None = None
    tasks: Sequence[Mapping[str, Any]] = ()


@dataclass
class Runner:
    """A model and a test set, and the arms it is finetuned on; every finished part is kept in `folder`.

    With `shots` the untouched model is asked a second time, after solved examples; with a `harness` it and every arm
    are asked the tasks of lm-eval besides.
    """

    loaded: LoadedModel
    test: TestSet
    probe: Probe
    template: Template
    config: FinetuneConfig
    folder: Path
    tune: str = "off"
    report_to: str = "none"
    say: Progress = lambda line: None
    shots: Shots | None = None
    harness: Harness | None = None
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parts = Parts(self.folder, self.loaded, self.template)
        self.evaluated = fingerprint_examples(self.test.examples)

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> Iterator[Run]:
        """The base model, then the arms seed by seed, each with its own tuned setting."""
        yield self._untouched(BASE, self._tasks_key(), self._base)
        if self.shots is not None:
            yield self._untouched(few_shot_name(self.shots.count), [self.shots.fingerprint()], self._few_shot)
        settings = {arm.name: self._tuned(arm) for arm in arms}
        for seed in seeds:
            for arm in arms:
                yield self._arm(arm, settings[arm.name], seed)

    def make(self, arm: Arm | None = None, seed: int | None = None, trial: int | None = None) -> None:
        """One part of what `run` does: a trial of the grid, from 0, an arm with a seed, or what is no arm's."""
        if arm is None:
            list(self.run([], []))
        elif trial is not None:
            settings = grid(self.tune, self.config)
            self._trial(arm, settings[trial], trial + 1, len(settings))
        elif seed is not None:
            self._arm(arm, self._tuned(arm), seed)

    def _untouched(self, name: str, key_parts: Sequence[Any], ask: Callable[[str], Run]) -> Run:
        key = self.parts.key(self.evaluated, *key_parts)
        kept = self.parts.kept(key)
        if kept is None:
            self.say(f"{name}: {len(self.test.examples)} questions")
            kept = self.parts.keep(key, lambda: asdict(ask(name)))
        return _read(kept)

    def _base(self, name: str) -> Run:
        return Run(name, 0, self._ask(), attention=self.probe.look(self.loaded), tasks=self._ask_tasks())

    def _few_shot(self, name: str) -> Run:
        return Run(name, 0, evaluate(self.loaded, self.test.examples, self.template, self.shots))

    def _arm(self, arm: Arm, config: FinetuneConfig, seed: int) -> Run:
        key = self.parts.key(self.evaluated, arm.name, arm.fingerprint(), config.as_dict(), seed, *self._tasks_key())
        kept = self.parts.kept(key)
        if kept is not None:
            self.say(f"{arm.name}, seed {seed}: done earlier")
            return _read(kept)
        self.say(f"{arm.name}, seed {seed}: finetuning on {len(arm.examples)} examples")
        with self._finetuned(arm, config, seed, key) as result:
            run = _read(self.parts.keep(key, lambda: asdict(self._asked(arm, config, seed, result))))
        right = sum(p.correct for p in run.predictions) / len(run.predictions)
        self.say(f"{arm.name}, seed {seed}: {100 * right:.1f}% right after {run.steps} steps")
        return run

    def _asked(self, arm: Arm, config: FinetuneConfig, seed: int, result: Finetuned) -> Run:
        if config.method != "full":
            save_adapter(result.model, self.folder / "adapters" / arm.name / f"seed-{seed}")
        trained = result.trained
        return Run(
            arm.name,
            seed,
            self._ask(),
            trained.steps,
            trained.validation_accuracy,
            trained.rows,
            config,
            self.probe.look(self.loaded),
            self._ask_tasks(),
        )

    def _ask(self) -> list[Prediction]:
        return evaluate(self.loaded, self.test.examples, self.template)

    def _ask_tasks(self) -> Sequence[Mapping[str, Any]]:
        return self.harness.ask(self.loaded) if self.harness else ()

    def _tasks_key(self) -> list[Any]:
        return [self.harness.fingerprint()] if self.harness else []

    def _tuned(self, arm: Arm) -> FinetuneConfig:
        """The setting of the grid that did best on the arm's own held-out part; the earlier one among equals."""
        settings = grid(self.tune, self.config)
        if len(settings) == 1:
            return settings[0]
        rows = [self._trial(arm, config, n, len(settings)) for n, config in enumerate(settings, start=1)]
        # A loss of NaN, where training diverged, is the worst there is.
        best = max(range(len(rows)), key=lambda n: (rows[n]["accuracy"], -min(math.inf, rows[n]["loss"]), -n))
        self.trials += [
            Trial(arm.name, TUNING_SEED, config, row["steps"], row["accuracy"], n == best)
            for n, (config, row) in enumerate(zip(settings, rows, strict=True))
        ]
        return settings[best]

    def _trial(self, arm: Arm, config: FinetuneConfig, number: int, of: int) -> Row:
        key = self.parts.key("trial", arm.name, arm.fingerprint(), config.as_dict(), TUNING_SEED)
        kept = self.parts.kept(key)
        if kept is not None:
            return kept
        self.say(f"{arm.name}: trial {number} of {of}")
        with self._finetuned(arm, config, TUNING_SEED, key) as result:
            trained = result.trained
            row = {"steps": trained.steps, "accuracy": trained.validation_accuracy, "loss": trained.held_out_loss}
            return self.parts.keep(key, lambda: row)

    def _finetuned(self, arm: Arm, config: FinetuneConfig, seed: int, key: str) -> AbstractContextManager[Finetuned]:
        """The memory that one arm was found to need is where the next one begins."""
        return finetuned(
            self.loaded,
            arm.examples,
            config,
            self.template,
            seed,
            self.parts.checkpoints(key),
            self.parts.fitting(config),
            self.report_to,
            self.say,
            lambda fitting: self.parts.remember_fitting(config, fitting),
            self.folder / "logs" / arm.name / (f"trial-{key}" if seed == TUNING_SEED else f"seed-{seed}"),
        )


def _read(kept: Row) -> Run:
    config = kept["config"] and FinetuneConfig(**kept["config"])
    return Run(**{**kept, "config": config, "predictions": [Prediction(**p) for p in kept["predictions"]]})
