"""The parts of a run: the untouched model, trials, arms with a seed; each kept as it is finished."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch

from curate import __version__
from curate.checkpoint import PARTS, Checkpoint, key_of, would_go
from curate.data.files import check_own_folder
from curate.engines import by_first, is_first, join
from curate.errors import SettingError, setting
from curate.lm.files import version_of
from curate.lm.generate import MAX_NEW_TOKENS, by_vllm, check_vllm
from curate.lm.model import LoadedModel, load_model
from curate.prompts import Shots, Template
from curate.records import BASE, Example, as_seeds, few_shot_name, is_untouched
from curate.settings import FinetuneConfig, ValidateSettings, grid
from curate.validation.arms import Arm, Inputs
from curate.validation.attention import make_probe
from curate.validation.evaluate import (
    Asked,
    FewShot,
    Knowledge,
    Prediction,
    answer_tokens,
    answers_of,
    find_metric,
    find_tasks,
    marked,
    metric_version,
)
from curate.validation.finetune import adapter_fingerprint, finetuned, reloaded, save_adapter, trainable
from curate.validation.knowledge import SHOTS, SWAPPED, swapped
from curate.validation.trainer import Trained, Training, check_logger

LAST = 500
"""Test questions at most that are asked at the end of training too, where another step is kept."""

TRAINED, ANSWERED = 3, 3
"""What it costs to train on an example, and to answer a question, in passes of one example through the model."""
CHEAP = 0.2
"""The share of the work of a run that what is asked unasked may add."""

TUNING_SEED = 1_000_003
"""The seed of all trials, apart from those that are evaluated."""

Notify = Callable[[str], None]
"""Called with one line of text whenever a part begins or ends."""


def check_run_folder(folder: Path) -> None:
    """Raise OutputError now if a run could not be written to the folder later."""
    check_own_folder(folder, PARTS, "curate validate")


@dataclass(frozen=True)
class Part:
    """A piece of a run: an untouched model, a trial of the grid on an arm (from 0), or an arm finetuned with a seed."""

    arm: str
    seed: int = 0
    trial: int | None = None

    def __str__(self) -> str:
        if is_untouched(self.arm):
            return self.arm
        return f"{self.arm}, seed {self.seed}" if self.trial is None else f"{self.arm}, trial {self.trial + 1}"


@dataclass(frozen=True)
class Run:
    """What one arm answered with one seed, the settings it was finetuned with, and how training went.

    `last` are the answers at the end of training to some of the questions, where another step is kept.
    `adapter` is a hash of the weights that were saved of it. Kept apart is what it was asked besides: `few_shot` after
    solved examples, `knowledge` about other subjects (with the `nats` of its answers), `tasks` of lm-eval. A trial of
    the grid was asked nothing; its settings are `chosen` or not.
    """

    arm: str
    seed: int
    predictions: Sequence[Prediction] = ()
    steps: int = 0
    validation_accuracy: float | None = None
    training: Sequence[Mapping[str, Any]] = ()
    config: FinetuneConfig | None = None
    attention: Mapping[str, Any] | None = None
    adapter: str | None = None
    last: Sequence[Prediction] = ()
    few_shot: Sequence[Prediction] = ()
    knowledge: Mapping[str, Any] | None = None
    tasks: Sequence[Mapping[str, Any]] = ()
    chosen: bool = True


@dataclass(frozen=True)
class Experiment:
    """Everything that a run is made from; any of its parts can be done from it, here or on another machine."""

    inputs: Inputs
    model: str | LoadedModel
    folder: Path
    settings: ValidateSettings
    bare: bool = False
    """Arms are asked the test set and nothing else, and their trainings stay: one of more steps goes on from there."""

    @property
    def grid(self) -> list[FinetuneConfig]:
        """The settings to be tried on every arm; one where nothing is tuned."""
        return grid(self.settings.tune, self.settings.config)

    @cached_property
    def knowledge(self) -> bool:
        """Whether to ask what became of the facts that the model had: as it is set, or else where that is cheap."""
        if self.settings.knowledge is not None:
            if self.settings.knowledge and self.inputs.template.multiple_choice:
                raise SettingError(
                    f"{setting('knowledge')} is for answers in words.", expected="questions without choices"
                )
            return self.settings.knowledge
        known = self.settings.base_shots or SHOTS
        enough = all(len(arm.examples) > known for arm in self.inputs.arms)
        return enough and not self.inputs.template.multiple_choice and self.knowledge_cost < CHEAP

    @cached_property
    def knowledge_cost(self) -> float:
        """What it adds to the work of the run, as a share of it; both in passes of one example through the model."""
        questions, finetunings = len(self.inputs.test.examples), self.finetunings()
        more = (len(finetunings) + 1) * (min(SWAPPED, questions) * ANSWERED + questions) + 2 * questions * ANSWERED
        return more / sum(map(self.passes, [Part(BASE), *finetunings]))

    def passes(self, part: Part) -> float:
        """What a part takes without that, in passes of one example through the model."""
        config = self.settings.config
        sizes = [len(arm.examples) for arm in self.inputs.arms if arm.name == part.arm]
        trained = sum(config.steps(n) * min(n, config.batch_size) * TRAINED for n in sizes)
        return trained + (len(self.inputs.test.examples) * ANSWERED if part.trial is None else 0)

    @property
    def base_shots(self) -> int:
        """Solved examples before the questions that the untouched model is asked once more; 0 where it is not."""
        return self.settings.base_shots or (SHOTS if self.knowledge else 0)

    def request(self) -> dict[str, Any]:
        """All that could change what the run finds, known before the model is loaded."""
        settings, inputs = self.settings, self.inputs
        own = settings.changed(seeds=1, lm_eval=(), template=None, by=None, report_to="none", revision=None)
        own = own.changed(knowledge=None, arm_shots=0, arm=())
        apart = ("config", "system", "token_budget")
        told = {name: value for name, value in own.as_dict().items() if name not in apart}
        if settings.answers_by == "transformers":
            del told["answers_by"]
        model, revision = self.model, settings.revision
        known = (model.name, model.revision) if isinstance(model, LoadedModel) else version_of(model, revision)
        request = {
            "model": known,
            "arms": {arm.name: arm.fingerprint for arm in inputs.arms},
            "seeds": as_seeds(settings.seeds),
            "lm_eval": settings.lm_eval,
            "knowledge": self.knowledge,
            "arm_shots": settings.arm_shots,
            "test": {"content": inputs.test.fingerprint, "popularity": inputs.test.popularity, **inputs.source},
            "template": inputs.template.texts,
            "settings": told | {"metric": metric_version(settings.metric)},
            "finetuning": settings.config.as_dict(),
        }
        return json.loads(json.dumps(request))

    def is_made(self, force: bool = False) -> bool:
        """Whether the folder holds this very run, whole. Arms and seeds may be added to a run, tasks come and go.

        OutputError, unless `force`, where it holds another run.
        """
        try:
            earlier = json.loads((self.folder / "manifest.json").read_bytes())["request"]
        except FileNotFoundError:
            return False
        except (ValueError, LookupError, TypeError):
            earlier = {}
        request = self.request()
        if force or earlier == request:
            return bool(earlier == request)
        changed = [
            name for name in request if request[name] != earlier.get(name) and not _grown(request, earlier, name)
        ]
        if changed:
            raise would_go(
                self.folder, f"a run with other settings ({', '.join(_differences(request, earlier, changed))})"
            )
        return False

    def untouched(self) -> list[Part]:
        """The base model, and once more after solved examples if there are to be any."""
        shots = self.base_shots
        return [Part(BASE), *([Part(few_shot_name(shots))] if shots else [])]

    def trials(self) -> list[Part]:
        """Every setting of the grid on every arm, if there are several; they come before the finetunings."""
        settings = len(self.grid)
        return [Part(arm.name, trial=n) for arm in self.inputs.arms for n in range(settings) if settings > 1]

    def finetunings(self) -> list[Part]:
        """Every arm with every seed."""
        return [Part(arm.name, seed) for seed in as_seeds(self.settings.seeds) for arm in self.inputs.arms]


def _grown(request: Mapping[str, Any], earlier: Mapping[str, Any], name: str) -> bool:
    """Whether a run is asked for that an earlier one is a part of."""
    new, old = request[name], earlier.get(name)
    if name == "arms" and isinstance(old, Mapping):
        return old.items() <= new.items()
    if name == "seeds":
        return isinstance(old, list) and set(old) <= set(new)
    return name in ("lm_eval", "knowledge", "arm_shots")


def _differences(request: Mapping[str, Any], earlier: Mapping[str, Any], changed: Sequence[str]) -> list[str]:
    """What is asked for and what was made, in words, for each thing that changed."""
    told = []
    for name in changed:
        new, old = request[name], earlier.get(name)
        if name in ("settings", "finetuning") and isinstance(old, Mapping):
            keys = [key for key in {**new, **old} if new.get(key) != old.get(key)]
            told += [f"{key} {old.get(key)}, not {new.get(key)}" for key in keys]
        elif name in ("seeds", "lm_eval", "model"):
            told.append(f"{name} {', '.join(map(str, old or ()))}")
        else:
            told.append({"arms": "other arms", "test": "another test set"}.get(name, f"another {name}"))
    return told


def shots_from(arms: Sequence[Arm], count: int, template: Template) -> Shots | None:
    """Solved examples of a question's relation from the whole training set, or the first arm; None for 0 of them."""
    pool = {arm.name: arm for arm in arms}.get("whole", arms[0])
    return Shots(template, pool.examples, count) if count else None


def spread(count: int, of: int) -> list[int]:
    """At most so many numbers below another, at even distances."""
    count = min(count, of)
    return [n * of // count for n in range(count)]


def best_dtype(dtype: str, device: str, method: str) -> str:
    """What `auto` stands for: bfloat16 on a GPU that computes in it, else float32; all weights train in float32."""
    if dtype != "auto":
        return dtype
    on_gpu = device == "auto" or device.startswith("cuda")
    return "bfloat16" if on_gpu and method != "full" and torch.cuda.is_available() else "float32"


class Runner:
    """The parts of an experiment done on this machine, with its model loaded once.

    Every finished part is kept in the run's folder under a hash of everything that could change it, so a part that is
    asked for again is read there.
    """

    def __init__(self, experiment: Experiment, say: Notify = lambda line: None) -> None:
        """Raises SettingError or ModelError now, before anything is trained, for what would fail later."""
        settings, inputs = experiment.settings, experiment.inputs
        check_logger(settings.report_to)
        if settings.answers_by == "vllm" and isinstance(experiment.model, LoadedModel):
            raise SettingError(
                f"{experiment.model.name} is a model in memory, which {setting('answers_by', 'vllm')} cannot load.",
                expected="its folder or Hub id",
            )
        self.experiment, self.settings, self.say = experiment, settings, say
        self.test, self.template = inputs.test, inputs.template
        self.arms = {arm.name: arm for arm in inputs.arms}
        if settings.answers_by == "vllm":
            check_vllm(str(experiment.model))
            if self.template.multiple_choice:
                raise SettingError(
                    f"{setting('answers_by', 'vllm')} is for answers in words; letters are chosen by their loss.",
                    try_next=setting("answers_by", "transformers"),
                )
        self.shots = shots_from(inputs.arms, experiment.base_shots, inputs.template)
        self.arm_shots = shots_from(inputs.arms, settings.arm_shots, inputs.template)
        self.swapped = swapped(self.test.examples) if experiment.knowledge else []
        self.metric = find_metric(settings.metric)
        self.tasks = find_tasks(settings.lm_eval, settings.limit)
        join(settings.device)
        method = settings.config.method
        dtype = best_dtype(settings.dtype, settings.device, method)
        loaded = load_model(experiment.model, dtype, settings.device, settings.revision, quantized=method == "qlora")
        self.loaded = replace(loaded.asked_in(self.template), token_budget=settings.token_budget)
        for remark in loaded.remarks(self.template):
            say(remark)
        for config in experiment.grid:
            if config.method != "full":  # what has no place for adapters is told before hours of answers
                with trainable(self.loaded, config):
                    break
        self.answering = self.loaded
        if settings.answers_by == "vllm":
            rank = max(config.lora_rank for config in experiment.grid)
            self.answering = by_vllm(self.loaded, str(experiment.model), settings.revision, rank)
        self.new_tokens, self.too_long = self._room_for_answers()
        self.probe = make_probe(self.loaded, self.test.examples, self.template)
        self.kept, self._used = Checkpoint(experiment.folder / PARTS), set[str]()
        self.made_some = False

    def _room_for_answers(self) -> tuple[int, int]:
        """Tokens that an answer may have, and how many test questions have no accepted answer of so few.

        If it is not given, what the longest accepted answer takes, as far as half of the model's context has room.
        """
        if self.template.multiple_choice:
            return MAX_NEW_TOKENS, 0
        lengths = answer_tokens(self.loaded, self.test.examples, self.template)
        longest = max((max(of_one) for of_one in lengths), default=0)
        most = self.settings.max_new_tokens or max(MAX_NEW_TOKENS, min(longest, self.loaded.context // 2))
        return most, sum(min(of_one) > most for of_one in lengths)

    def run(self, part: Part) -> Run:
        """What an arm with a seed, or an untouched model, answered."""
        return self._run_untouched(part) if is_untouched(part.arm) else self._run_arm(part)

    def trials(self, arm: str) -> list[Run]:
        """Every setting of the grid tried on the arm; none where there is only one.

        The one that does best on the arm's own held-out part is chosen, the earlier one among equals.
        """
        rows = [self.trial(part) for part in self.experiment.trials() if part.arm == arm]
        # A loss of NaN, where training diverged, is the worst there is.
        merits = [(row["accuracy"], -min(math.inf, row["loss"])) for row in rows]
        best = merits.index(max(merits)) if merits else None
        grid = [self._how(self.arms[arm], config) for config in self.experiment.grid]
        return [
            Run(arm, TUNING_SEED, (), row["steps"], row["accuracy"], config=config, chosen=n == best)
            for n, (config, row) in enumerate(zip(grid, rows, strict=False))
        ]

    def trial(self, part: Part) -> Mapping[str, Any]:
        """How a setting of the grid, tried on an arm, did on its held-out part: `steps`, `accuracy`, `loss`."""
        arm, n = self.arms[part.arm], part.trial or 0
        settings = [self._how(arm, config) for config in self.experiment.grid]
        key = self._key("trial", arm.name, arm.fingerprint, settings[n].as_dict(), TUNING_SEED)
        kept = self._get(key)
        if kept is None:
            self.say(f"{arm.name}: trial {n + 1} of {len(settings)}")
            with self._finetuned(arm, settings[n], TUNING_SEED, key) as trained:
                row = {"steps": trained.steps, "accuracy": trained.validation_accuracy, "loss": trained.held_out_loss}
                kept = self._put(key, lambda: row)
            self._drop_checkpoints(key)
        return kept

    def _how(self, arm: Arm, config: FinetuneConfig) -> FinetuneConfig:
        """The settings of a finetuning, with those that are the arm's own."""
        return config.changed(**arm.how)

    def _run_untouched(self, part: Part) -> Run:
        """The model as it is; the tasks of lm-eval are asked without solved examples only."""
        shots = None if part.arm == BASE else self.shots
        key = self._key(self.test.fingerprint, self.new_tokens, *([shots.fingerprint()] if shots else []))
        kept = self._get(key)
        if kept is None:
            self.say(f"{part}: {len(self.test.examples)} questions")
            kept = self._put(key, lambda: self._answers(Run(part.arm, part.seed), shots))
        self._ask(part, key)
        return self._read(part, kept, key)

    def _run_arm(self, part: Part) -> Run:
        arm = self.arms[part.arm]
        chosen = next((t.config for t in self.trials(arm.name) if t.chosen), None)
        config = chosen or self._how(arm, self.settings.config)
        along = [self.settings.along, self.settings.metric] if self.settings.along else []
        along += ["bare"] if self.experiment.bare else []
        asked = (self.test.fingerprint, self.new_tokens)
        key = self._key(*asked, arm.name, arm.fingerprint, config.as_dict(), part.seed, *along)
        kept = self._get(key)
        if kept is None:
            self.say(f"{part}: finetuning on {len(arm.examples)} examples")
            with self._finetuned(arm, config, part.seed, key) as trained:
                kept = self._put(key, lambda: self._finetuned_answers(part, config, trained))
                marks = [p.mark for p in self._read(part, kept, key).predictions]
                self.say(f"{part}: {100 * sum(marks) / len(marks):.1f}% right after {kept['steps']} steps")
                self._ask(part, key)
        else:
            self._ask_more(part, config, key, kept["adapter"])
        self._drop_checkpoints(key)
        return self._read(part, kept, key)

    def _finetuned(self, arm: Arm, config: FinetuneConfig, seed: int, key: str) -> AbstractContextManager[Trained]:
        tuning = seed == TUNING_SEED
        logs = self.experiment.folder / "logs" / arm.name / (f"trial-{key}" if tuning else f"seed-{seed}")
        along = self._accuracy_along if self.settings.along and not tuning else None
        last = None if tuning or self.experiment.bare else self._last_said
        if self.experiment.bare:
            key = self._key("trained", arm.name, arm.fingerprint, config.changed(max_steps=None).as_dict(), seed)
        training = Training(config, seed, self.kept.folder / key, self.settings.report_to, logs, along, last)
        return finetuned(self.loaded, arm.examples, self.template, training, say=self.say)

    def _finetuned_answers(self, part: Part, config: FinetuneConfig, trained: Trained) -> dict[str, Any]:
        folder = self._adapter(part)
        run = Run(part.arm, part.seed, (), trained.steps, trained.validation_accuracy, trained.rows, config)
        if config.method != "full":
            save_adapter(trained.model, folder)
            run = replace(run, adapter=adapter_fingerprint(folder))
        return self._answers(run)

    def _answers(self, run: Run, shots: Shots | None = None) -> dict[str, Any]:
        """The run with what the model, as it is now, answers, and where it looks; it is marked when it is read."""
        answering = self._answering(Part(run.arm, run.seed))
        said = answers_of(answering, self.test.examples, self.template, shots, self.new_tokens)
        attention = None if shots or self.experiment.bare else self.probe.measure(self.loaded)
        return asdict(replace(run, attention=attention)) | {"predictions": said}

    def _answering(self, part: Part) -> LoadedModel:
        """The model that answers for a part; another generator does so with the adapter that was saved of it."""
        generator = self.answering.generator
        if generator is None or is_untouched(part.arm):
            return self.answering
        return replace(self.answering, generator=generator.with_adapter(self._adapter(part)))

    def _last_said(self) -> list[str]:
        """Answers to the test questions that are asked at the end of training, where another step is kept."""
        asked = [self.test.examples[n] for n in spread(LAST, len(self.test.examples))]
        return answers_of(self.loaded, asked, self.template, max_new_tokens=self.new_tokens)

    def _accuracy_along(self) -> float:
        """On test questions at even distances."""
        asked = [self.test.examples[n] for n in spread(self.settings.along, len(self.test.examples))]
        said = answers_of(self.loaded, asked, self.template, max_new_tokens=self.new_tokens)
        return sum(p.mark for p in self._marked(asked, said)) / len(asked)

    def _marked(self, examples: Sequence[Example], said: Sequence[str]) -> list[Prediction]:
        """The answers, if there are any, with how right they are."""
        return [marked(e, self.template, text, self.metric) for e, text in zip(examples, said, strict=bool(said))]

    def _more(self, part: Part) -> list[Asked]:
        """What a part is asked beside the test set: tasks of lm-eval without solved examples only."""
        few_shot = is_untouched(part.arm) and part.arm != BASE
        asked: list[Asked] = [] if few_shot else [*self.tasks]
        about = (self.template, (self.shots if few_shot else None) or Shots(self.template), self.new_tokens)
        if self.swapped:
            asked.append(Knowledge(self.test.examples, self.swapped, *about))
        if self.arm_shots and not is_untouched(part.arm):
            asked.append(FewShot(self.test.examples, self.template, self.arm_shots, self.new_tokens))
        return asked

    def _ask(self, part: Part, key: str) -> None:
        """Ask the model, as it is now, what the run under this key was not asked yet; each is kept."""
        for asked in self._unasked(part, key):
            self.say(f"{part}: {asked.title}")
            said = self._get(key)["predictions"]
            self._put(self._asked_key(key, asked), partial(asked.ask, self._answering(part), said))

    def _ask_more(self, part: Part, config: FinetuneConfig, key: str, adapter: str | None) -> None:
        """Ask a finished run what it was not asked: with its saved adapter, or else by training again."""
        folder = self._adapter(part)
        there = adapter is not None and by_first(lambda: adapter_fingerprint(folder)) == adapter
        lost = "" if there or adapter is None else f"; its adapter is no longer in {folder}"
        self.say(f"{part}: done earlier{lost}")
        unasked = self._unasked(part, key)
        if not unasked:
            return
        if there:
            again: AbstractContextManager[Any] = reloaded(self.loaded, config, folder)
        else:
            what = "--lm-eval" if unasked[0] in self.tasks else unasked[0].title
            self.say(f"{part}: nothing of its weights is kept; finetuning again for {what}")
            again = self._finetuned(self.arms[part.arm], config, part.seed, key)
        with again as trained:
            if self.answering.generator and not there:
                save_adapter(trained.model, folder)
            self._ask(part, key)

    def _unasked(self, part: Part, key: str) -> list[Asked]:
        return [asked for asked in self._more(part) if self._get(self._asked_key(key, asked)) is None]

    def _asked_key(self, key: str, asked: Asked) -> str:
        return f"{key}-{self._key(asked.fingerprint())}"

    def _adapter(self, part: Part) -> Path:
        return self.experiment.folder / "adapters" / part.arm / f"seed-{part.seed}"

    def _key(self, *content: Any) -> str:
        """A hash of curate's version, the model, the template and `content`."""
        return key_of(__version__, dict(self.answering.fingerprint()), self.template.as_dict(), *content)

    def drop_others(self) -> None:
        """Remove what is kept of other settings, the run being whole; what its parts were ever asked stays."""
        self.kept.drop_others(self._used)

    def _get(self, key: str) -> Any:
        self._used.add(key)
        return by_first(lambda: self.kept.get(key))

    def _put(self, key: str, make: Callable[[], Any]) -> Any:
        """Made and kept by the first process."""
        self.made_some |= key not in self.kept
        return by_first(lambda: self.kept.make(key, make))

    def _read(self, part: Part, kept: Mapping[str, Any], key: str) -> Run:
        """A kept run with what it was asked besides, which is kept apart."""
        config = kept["config"] and FinetuneConfig(**kept["config"])
        found = {type(asked): self._get(self._asked_key(key, asked)) for asked in self._more(part)}
        metrics = [self._get(self._asked_key(key, task)) for task in self.tasks]
        return Run(
            **{**kept, "config": config, "predictions": self._marked(self.test.examples, kept["predictions"])}
            | {"last": self._last(kept["training"])}
            | {"few_shot": self._marked(self.test.examples, found.get(FewShot) or ())}
            | {"knowledge": found.get(Knowledge), "tasks": [row for rows in metrics if rows for row in rows]}
        )

    def _last(self, training: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """The answers at the end of training, if another step was kept."""
        said = next((row["last_said"] for row in training if row.get("last_said")), ())
        return self._marked([self.test.examples[n] for n in spread(LAST, len(self.test.examples))], said)

    def _drop_checkpoints(self, key: str) -> None:
        """The part's training is over, and nothing is left to do with its model."""
        if is_first():
            rmtree(self.kept.folder / key, ignore_errors=True)
