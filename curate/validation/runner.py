"""The untouched model, trials and arms of a run, each kept as it is finished."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from curate import __version__
from curate.data.files import check_own_folder, whole_file
from curate.lm.model import LoadedModel
from curate.prompts import Shots, Template
from curate.records import BASE, few_shot_name
from curate.settings import FinetuneConfig, grid
from curate.validation.arms import Arm, TestSet, fingerprint_examples
from curate.validation.attention import Probe
from curate.validation.evaluate import Prediction, Task, evaluate
from curate.validation.finetune import Finetuned, adapter_fingerprint, finetuned, reloaded, save_adapter
from curate.validation.trainer import Fitting, by_first, first_fitting, is_first, processes

PARTS = ".parts"
"""Where a run keeps what every arm and seed answered, and the checkpoints of the one that trains."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting tried on one arm, how it did on the arm's held-out part, and whether it was taken."""

    arm: str
    seed: int
    config: FinetuneConfig
    steps: int
    validation_accuracy: float | None
    chosen: bool


def check_run_folder(folder: Path) -> None:
    """Raise OutputError now if a run could not be written to the folder later."""
    check_own_folder(folder, PARTS, "curate validate")


@dataclass(frozen=True)
class Parts:
    """The finished parts of a run, each under a key made of everything that could change it."""

    folder: Path
    loaded: LoadedModel
    template: Template

    def key(self, *content: Any) -> str:
        """A hash of curate's version, the model, the template and `content`."""
        whole = [__version__, dict(self.loaded.fingerprint()), asdict(self.template), *content]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]

    def checkpoints(self, key: str) -> Path:
        """The folder for the checkpoints of a part that is being trained."""
        return self.folder / PARTS / key

    def kept(self, key: str) -> Row | None:
        """A finished part, if there is one."""
        part = self.folder / PARTS / f"{key}.json"
        return by_first(lambda: json.loads(part.read_text()) if part.is_file() else None)

    def keep(self, key: str, make: Callable[[], Row]) -> Row:
        """Make a part in the first process and write it."""

        def work() -> Row:
            row = make()
            with whole_file(self.folder / PARTS / f"{key}.json") as temporary:
                temporary.write_text(json.dumps(row))
            return json.loads(json.dumps(row))

        return by_first(work)

    def drop_checkpoints(self, key: str) -> None:
        """The part's training is over, and nothing is left to do with its model."""
        if is_first():
            rmtree(self.checkpoints(key), ignore_errors=True)

    def fitting(self, config: FinetuneConfig) -> Fitting:
        """How a batch fitted into memory when it last did not; at first, all of it at once."""
        path = self._fitting_path(config)
        first = first_fitting(config.batch_size, processes())
        return Fitting(**json.loads(path.read_text())) if path.is_file() else first

    def remember_fitting(self, config: FinetuneConfig, fitting: Fitting) -> None:
        """Where the next finetuning begins, also that of another process or command."""
        with whole_file(self._fitting_path(config)) as temporary:
            temporary.write_text(json.dumps(asdict(fitting)))

    def _fitting_path(self, config: FinetuneConfig) -> Path:
        return self.folder / PARTS / f"fitting-{config.method}-{config.batch_size}-of-{processes()}.json"


Notify = Callable[[str], None]
"""Called with one line of text whenever an arm and seed begins or ends."""

TUNING_SEED = 1_000_003
"""The seed of all trials, apart from those that are evaluated."""


@dataclass(frozen=True)
class Run:
    """What one arm answered with one seed, the settings it was finetuned with, and how training went.

    `adapter` is a hash of the weights that were saved of it; `tasks`, kept apart, are the metrics of the lm-eval tasks
    it was asked besides.
    """

    arm: str
    seed: int
    predictions: Sequence[Prediction]
    steps: int = 0
    validation_accuracy: float | None = None
    training: Sequence[Mapping[str, float | None]] = ()
    config: FinetuneConfig | None = None
    attention: Mapping[str, Any] | None = None
    adapter: str | None = None
    tasks: Sequence[Mapping[str, Any]] = ()


@dataclass
class Runner:
    """A model and a test set, and the arms it is finetuned on; every finished part is kept in `folder`.

    With `shots` the untouched model is asked a second time, after solved examples; it and every arm are asked the
    `tasks` of lm-eval besides. `along` test questions are asked after every epoch of an arm's training too.
    """

    loaded: LoadedModel
    test: TestSet
    probe: Probe
    template: Template
    config: FinetuneConfig
    folder: Path
    tune: str = "off"
    report_to: str = "none"
    say: Notify = lambda line: None
    shots: Shots | None = None
    tasks: Sequence[Task] = ()
    along: int = 0
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parts = Parts(self.folder, self.loaded, self.template)
        self.evaluated = fingerprint_examples(self.test.examples)

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> Iterator[Run]:
        """The base model, then the arms seed by seed, each with its own tuned setting."""
        yield self._base()
        if self.shots is not None:
            name, key = few_shot_name(self.shots.count), self.parts.key(self.evaluated, self.shots.fingerprint())
            yield self._untouched(name, key, lambda: Run(name, 0, self._ask(self.shots)))
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

    def _base(self) -> Run:
        key = self.parts.key(self.evaluated)
        run = self._untouched(BASE, key, lambda: Run(BASE, 0, self._ask(), attention=self.probe.look(self.loaded)))
        self._ask_tasks(BASE, key)
        return self._with_tasks(run, key)

    def _untouched(self, name: str, key: str, ask: Callable[[], Run]) -> Run:
        kept = self.parts.kept(key)
        if kept is None:
            self.say(f"{name}: {len(self.test.examples)} questions")
            kept = self.parts.keep(key, lambda: asdict(ask()))
        return _read(kept)

    def _arm(self, arm: Arm, config: FinetuneConfig, seed: int) -> Run:
        along = [self.along] if self.along else []
        key = self.parts.key(self.evaluated, arm.name, arm.fingerprint(), config.as_dict(), seed, *along)
        name = f"{arm.name}, seed {seed}"
        kept = self.parts.kept(key)
        if kept is None:
            run = self._trained(name, arm, config, seed, key)
        else:
            run = _read(kept)
            self._ask_more(name, arm, config, run, key)
        self.parts.drop_checkpoints(key)
        return self._with_tasks(run, key)

    def _trained(self, name: str, arm: Arm, config: FinetuneConfig, seed: int, key: str) -> Run:
        self.say(f"{name}: finetuning on {len(arm.examples)} examples")
        with self._finetuned(arm, config, seed, key) as result:
            run = _read(self.parts.keep(key, lambda: asdict(self._asked(arm, config, seed, result))))
            right = sum(p.correct for p in run.predictions) / len(run.predictions)
            self.say(f"{name}: {100 * right:.1f}% right after {run.steps} steps")
            self._ask_tasks(name, key)
        return run

    def _ask_more(self, name: str, arm: Arm, config: FinetuneConfig, run: Run, key: str) -> None:
        """Ask a finished run the tasks it was not asked: with its saved adapter, or else by training again."""
        folder = self._adapter(arm.name, run.seed)
        there = run.adapter is not None and by_first(lambda: adapter_fingerprint(folder)) == run.adapter
        lost = "" if there or run.adapter is None else f"; its adapter is no longer in {folder}"
        self.say(f"{name}: done earlier{lost}")
        if not self._unasked(key):
            return
        if there:
            again: AbstractContextManager[Any] = reloaded(self.loaded, config, folder)
        else:
            self.say(f"{name}: nothing of its weights is kept; finetuning again for --lm-eval")
            again = self._finetuned(arm, config, run.seed, key)
        with again:
            self._ask_tasks(name, key)

    def _asked(self, arm: Arm, config: FinetuneConfig, seed: int, result: Finetuned) -> Run:
        folder = self._adapter(arm.name, seed)
        if config.method != "full":
            save_adapter(result.model, folder)
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
            adapter_fingerprint(folder) if config.method != "full" else None,
        )

    def _adapter(self, arm: str, seed: int) -> Path:
        return self.folder / "adapters" / arm / f"seed-{seed}"

    def _ask(self, shots: Shots | None = None) -> list[Prediction]:
        return evaluate(self.loaded, self.test.examples, self.template, shots)

    def _accuracy_along(self) -> float:
        """On test questions at even distances."""
        examples = self.test.examples
        count = min(self.along, len(examples))
        asked = [examples[n * len(examples) // count] for n in range(count)]
        return sum(p.correct for p in evaluate(self.loaded, asked, self.template)) / len(asked)

    def _unasked(self, key: str) -> list[Task]:
        return [task for task in self.tasks if self.parts.kept(self._task_key(key, task)) is None]

    def _ask_tasks(self, name: str, key: str) -> None:
        """Ask the model, as it is now, the tasks that the run under this key was not asked yet; each is a part."""
        for task in self._unasked(key):
            self.say(f"{name}: {task.name} of lm-eval")
            self.parts.keep(self._task_key(key, task), partial(self._metrics, task))

    def _metrics(self, task: Task) -> Row:
        return {"metrics": task.ask(self.loaded)}

    def _with_tasks(self, run: Run, key: str) -> Run:
        kept = [self.parts.kept(self._task_key(key, task)) for task in self.tasks]
        return replace(run, tasks=[row for part in kept if part for row in part["metrics"]])

    def _task_key(self, key: str, task: Task) -> str:
        return self.parts.key(key, task.fingerprint())

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
            kept = self.parts.keep(key, lambda: row)
        self.parts.drop_checkpoints(key)
        return kept

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
            self._accuracy_along if self.along and seed != TUNING_SEED else None,
        )


def _read(kept: Row) -> Run:
    config = kept["config"] and FinetuneConfig(**kept["config"])
    return Run(**{**kept, "config": config, "predictions": [Prediction(**p) for p in kept["predictions"]]})
