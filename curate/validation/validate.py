"""Validate: finetune the model on every arm, ask the test set, compare."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from curate.checkpoint import PARTS, Status
from curate.display import Progress, bar_in_python
from curate.engines import RAY, Work, WorkerDiedError, absolute, is_first, on_ray
from curate.errors import CurateError, EngineError, ModelError, SettingError, setting
from curate.lm.model import LoadedModel, load_tokenizer, loaded_already
from curate.lm.packing import estimated
from curate.records import as_seeds
from curate.settings import (
    EngineSettings,
    FinetuneConfig,
    ReadSettings,
    ValidateEngineSettings,
    ValidateSettings,
    grid,
    takes,
)
from curate.validation.arms import read_inputs
from curate.validation.attention import EXAMPLES, attention_summary
from curate.validation.evaluate import find_metric
from curate.validation.results import Validation, write_run
from curate.validation.runner import Experiment, Notify, Part, Run, Runner, check_run_folder

log = logging.getLogger("curate")

BOOTSTRAP = (
    "95% percentile intervals of 10,000 paired resamples of test examples, those of one subject together, with "
    "Student's t for the seeds; p_adjusted after Holm's correction for all differences"
)


@takes(ValidateSettings, ValidateEngineSettings, ReadSettings)
def validate(
    splits: Any,
    *,
    eval: Any = None,
    model: Any,
    output: str | Path,
    config: FinetuneConfig | None = None,
    force: bool = False,
    progress: Notify | None = None,
    **options: Any,
) -> Validation:
    """Measure on a model whether a split makes it more factual; the Python twin of `curate validate`.

    `splits` is a folder of splits, files, a mapping of name to data (a DatasetDict), or a Selection; `eval` is any QA
    dataset, by default the `holdout` (or `test`) among them; `model` a folder, a Hub id, or one in memory with its
    tokenizer: `(model, tokenizer)`, or a pipeline;
    popularity for the curves is its score `by` (needed only when there are several). Each arm is finetuned and
    tested once a seed, with the settings of `config`, any of which may be given by itself (`learning_rate=1e-3`).
    `limit` takes a seeded sample of that many examples of each arm and of the test set. With `tune` (`quick`, `paper`)
    each arm gets the setting that does best on its own held-out part. A test set with choices is asked by letter
    (template `mmlu`).
    An answer is right by `metric`: `contains` (an accepted answer, as whole words), `exact`, `f1`, `paper` (contained,
    also inside a word) or `"module:function"`, which gives a number from 0 to 1.
    `knowledge` measures what became of the facts that the untouched model has after solved examples (by default where
    that adds less than a fifth to the work); with `arm_shots` the finetuned models are asked after so many of them too.
    `report_to` is a logger that Trainer knows. With `base_shots` the untouched model is also asked after so many solved
    examples from the training sets; `lm_eval` names tasks of lm-evaluation-harness, or their YAML files, that it and
    every arm are asked besides. `along` test questions are asked after every epoch of a training too.
    `engine="ray"` makes every arm and seed a task of a Ray cluster (docs/scaling.md). Writes the run folder `output`;
    the same call resumes a stopped one, and one with more arms, seeds or tasks adds them; a finished run of anything
    else there is an OutputError unless `force`.
    Raises DataError for splits or a test set that cannot be read, ModelError for a model that cannot be loaded,
    SettingError for a setting out of range, OutputError for a folder that is somebody else's.
    """
    settings = ValidateSettings.of({**options, "config": config})
    engine = ValidateEngineSettings.of(options)
    check_run_folder(Path(output))
    grid(settings.tune, settings.config)  # refuses what cannot be tuned
    as_seeds(settings.seeds)
    find_metric(settings.metric)
    model = loaded_already(model) or str(model)
    experiment = experiment_of(splits, eval, model, Path(output), settings, ReadSettings.of(options))
    say = progress or log.info
    with bar_in_python("parts") if progress is None else nullcontext(lambda *told: None) as show:
        return carry_out(experiment, engine, say, force, show)


def carry_out(experiment: Experiment, engine: EngineSettings, say: Notify, force: bool, show: Progress) -> Validation:
    """Do the experiment, here or on a cluster, unless its folder holds it whole; `show` is told what part it is at."""
    if experiment.is_made(force):
        return finish(Runner(experiment, say), write=False)  # but for parts that were lost since
    if engine.engine == "ray":
        return run_on_ray(experiment, engine, say)
    return finish(Runner(experiment, say), show=show)


def experiment_of(
    splits: Any, eval: Any, model: str | LoadedModel, output: Path, settings: ValidateSettings, reading: ReadSettings
) -> Experiment:
    """All that a run is made from; where questions are asked in a chat, in the chat template of the model."""
    inputs = read_inputs(splits, eval, settings, reading)
    if inputs.template.is_chat:
        template = inputs.template.fitted(load_tokenizer(model, settings.revision), getattr(model, "name", str(model)))
        inputs = replace(inputs, template=template)
    return Experiment(inputs, model, output, settings)


def made_before(
    splits: Any,
    eval: Any,
    model: str,
    output: Path,
    settings: ValidateSettings,
    reading: ReadSettings,
    force: bool = False,
) -> dict[str, Any] | None:
    """The summary of this very run, if its folder holds it whole; no model is loaded. OutputError as `validate`."""
    if not (output / "manifest.json").exists() or force:
        return None
    experiment = experiment_of(splits, eval, model, output, settings, reading)
    if not experiment.is_made():
        return None
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    return summary


def finish(runner: Runner, write: bool = True, show: Progress = lambda *told: None) -> Validation:
    """Do what is not done yet of an experiment, one part after the other; compare; write the run's folder."""
    experiment, inputs = runner.experiment, runner.experiment.inputs
    parts = [*experiment.untouched(), *experiment.trials(), *experiment.finetunings()]
    runs, status = [], status_of(experiment, parts, told=write)
    runner.say = status.hears(runner.say)
    for number, part in enumerate(parts):
        show("validate", number, len(parts))
        status.begin(str(part))
        started = time.monotonic()
        if part.trial is None:
            runs.append(runner.run(part))
        else:
            runner.trial(part)  # kept, and read below
        if told := status.end(str(part), kept=time.monotonic() - started < KEPT):
            runner.say(told)
    trials = [trial for arm in inputs.arms for trial in runner.trials(arm.name)]
    attention, made = attention_summary(runs, runner.probe), made_from(runner)
    result = Validation(inputs, runs, trials, attention, made, experiment.folder)
    if is_first() and (write or runner.made_some):
        write_run(result, experiment.folder, experiment.request())
        runner.drop_others()
    status.close()
    return result


def costs_of(experiment: Experiment, model: str) -> dict[str, float]:
    """Tokens that training and answering read, those read again counted again; seconds, and memory, roughly."""
    settings, template = experiment.settings, experiment.inputs.template
    tokenizer = load_tokenizer(model, settings.revision)
    template = template.fitted(tokenizer, model) if template.is_chat else template
    questions = [template.zero_shot(example) for example in experiment.inputs.test.examples]
    mean = sum(map(len, tokenizer(questions)["input_ids"])) / len(questions)
    parts = [*experiment.untouched(), *experiment.trials(), *experiment.finetunings()]
    tokens = mean * sum(map(experiment.passes, parts)) * (1 + experiment.knowledge * experiment.knowledge_cost)
    adapters = settings.config.method != "full"
    return {"tokens": round(tokens), **estimated(model, settings, tokens, training=True, adapters=adapters)}


KEPT = 1.0
"""Seconds that a part takes at least, unless it was there."""


def status_of(experiment: Experiment, parts: Sequence[Part], told: bool = True) -> Status:
    """The status of a run, which the first process tells."""
    if told := told and is_first():
        (experiment.folder / PARTS).mkdir(parents=True, exist_ok=True)  # by which the folder is known again
    return Status(experiment.folder, {str(part): experiment.passes(part) for part in parts}, told)


def run_on_ray(experiment: Experiment, engine: EngineSettings, say: Notify) -> Validation:
    """Do the parts on the workers of a Ray cluster, which leave them in the run's folder, and have one finish it.

    All nodes must see the folder, and the model under the same path if it is in one.
    """
    experiment = _placed(experiment)
    trials, others = experiment.trials(), [*experiment.untouched(), *experiment.finetunings()]
    status = status_of(experiment, [*trials, *others])
    say = status.hears(say)
    make = partial(make_worker, experiment, engine.cpus)
    with on_ray(make, engine, experiment.settings.device, most=max(len(trials), len(others))) as pool:
        for parts in (trials, others):
            running = {pool.submit([part]): part for part in parts}
            for future in as_completed(running):
                _wait(future, running[future])
                say(f"{running[future]}: done")
                status.end(str(running[future]))
        (result,) = _wait(pool.submit([None]), "writing the run")
    return result


def run_parts(experiment: Experiment, parts: Sequence[Part], engine: EngineSettings, say: Notify) -> list[Run]:
    """What arms with a seed, or the untouched model, answered, in their order; done here, or as tasks of a cluster."""
    if engine.engine != "ray":
        runner = Runner(experiment, say)
        return [runner.run(part) for part in parts]
    make = partial(make_worker, _placed(experiment), engine.cpus)
    found = []
    with on_ray(make, engine, experiment.settings.device, most=len(parts)) as pool:
        for part, future in [(part, pool.submit([part])) for part in parts]:
            found += _wait(future, part)
            say(f"{part}: done")
    return found


def _placed(experiment: Experiment) -> Experiment:
    """The experiment with names of files and folders that mean the same to every worker."""
    if isinstance(experiment.model, LoadedModel):
        raise SettingError(
            f"{experiment.model.name} is a model in the memory of this process.",
            expected=f"its folder or Hub id, for {setting('engine', 'ray')}",
        )
    settings = experiment.settings.changed(lm_eval=tuple(map(absolute, experiment.settings.lm_eval)))
    places = {"model": absolute(experiment.model), "folder": experiment.folder.resolve()}
    return replace(experiment, settings=settings, **places)


def make_worker(experiment: Experiment, cpus: int, device: str) -> tuple[Any, Work]:
    """A worker that does parts of an experiment, or, given None, finishes it."""
    torch.set_num_threads(cpus)
    runner = Runner(replace(experiment, settings=experiment.settings.changed(device=device)))

    def work(parts: Sequence[Part | None]) -> Iterator[Validation | Run | None]:
        for part in parts:
            if part is None:
                yield finish(runner)
            elif part.trial is None:
                yield runner.run(part)
            else:
                runner.trial(part)  # what it gives is kept in the folder
                yield None

    return runner.loaded.fingerprint(), work


def _wait(future: Future[list[Any]], part: Part | str) -> list[Any]:
    """What a worker gave; its error with the name of the part."""
    try:
        return future.result()
    except CurateError as error:
        found, *others = error.spelled(setting)
        raise type(error)(f"{part}: {found}", *others) from None
    except WorkerDiedError as error:
        raise EngineError(
            f"{part}: {RAY.deaths} workers died over it, the last with {error}.",
            expected="workers that stay alive, with room for the model and its training",
            try_next=f"fewer workers a node ({setting('cpus')}), a smaller {setting('batch_size')}; "
            "the same command goes on from here",
        ) from error


def made_from(runner: Runner) -> dict[str, Any]:
    """All that could change a number of the run, for its manifest."""
    experiment, settings, test = runner.experiment, runner.experiment.settings, runner.experiment.inputs.test
    return {
        "model": dict(runner.answering.fingerprint()),
        "finetune": settings.config.as_dict(),
        "tune": settings.tune,
        "template": experiment.inputs.template.as_dict(),
        "seeds": as_seeds(settings.seeds),
        "limit": settings.limit,
        "metric": settings.metric,
        "max_new_tokens": runner.new_tokens,
        "answers_too_long": runner.too_long,
        "base_shots": runner.shots.fingerprint() if runner.shots else None,
        "arm_shots": settings.arm_shots,
        "knowledge": experiment.knowledge,
        "along": settings.along,
        "lm_eval": [task.fingerprint() for task in runner.tasks] or None,
        "eval": experiment.inputs.source,
        "popularity": test.popularity,
        "bootstrap": BOOTSTRAP,
        "attention": f"on a seeded sample of at most {EXAMPLES} test examples whose question names its subject",
    }


def plan(splits: Any, eval: Any, settings: ValidateSettings, reading: ReadSettings, model: str = "") -> dict[str, Any]:
    """What `validate` would do, and how much of it, without loading a model.

    `costs` are tokens, seconds and bytes of memory, roughly; None where the model is not here to tell.
    """
    find_metric(settings.metric)
    inputs = read_inputs(splits, eval, settings, reading)
    experiment = Experiment(inputs, "", Path(), settings)
    finetunings = len(experiment.finetunings())
    try:
        costs = costs_of(experiment, model) if model else None
    except ModelError:
        costs = None
    return {
        "costs": costs,
        "arms": [
            {"arm": arm.name, "examples": len(arm.examples), "steps": settings.config.steps(len(arm.examples))}
            for arm in inputs.arms
        ],
        "finetunings": finetunings,
        "trials": len(experiment.trials()),
        "answers": len(inputs.test.examples) * (len(experiment.untouched()) + finetunings),
        "knowledge": experiment.knowledge,
        "knowledge_cost": round(experiment.knowledge_cost, 3),
        "popularity": inputs.test.popularity,
        "template": inputs.template.name,
        "warnings": inputs.warnings(),
    }
