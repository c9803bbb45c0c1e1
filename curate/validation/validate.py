"""Validate: finetune the model on every arm, ask the test set, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curate.data.table import QATable, read
from curate.lm.model import load_model
from curate.prompts import Shots, Template, default_template, find_template
from curate.records import as_seeds
from curate.settings import EngineSettings, FinetuneConfig, grid
from curate.validation.arms import Arm, TestSet, count_leakage, make_test_set, popularity_of, read_arms
from curate.validation.attention import EXAMPLES, attention_rows, attention_summary, make_probe
from curate.validation.evaluate import find_tasks
from curate.validation.results import Validation, write_run
from curate.validation.runner import Notify, Runner, check_run_folder
from curate.validation.trainer import check_logger, is_first, join


@dataclass(frozen=True)
class Inputs:
    """The evaluation set as it was read, the test set made of it, the arms, and the template of all questions."""

    data: QATable
    template: Template
    arms: Sequence[Arm]
    test: TestSet


def read_inputs(splits: Any, eval: Any, by: str | None, limit: int | None, template: str | None) -> Inputs:
    """Read them; DataError for splits or a test set that cannot be read.

    Without the name of a template it is `mmlu` where the test set has choices, and `qa` where it has none.
    """
    data = read(eval)
    form = find_template(template or default_template(data.roles))
    return Inputs(data, form, read_arms(splits, limit, form), make_test_set(data, by, limit, form))


def shots_from(arms: Sequence[Arm], count: int, template: Template) -> Shots | None:
    """Solved examples of a question's relation from the whole training set, or the first arm; None for 0 of them."""
    pool = {arm.name: arm for arm in arms}.get("whole", arms[0])
    return Shots(template, pool.examples, count) if count else None


BEYOND = ("engine", "ray_address", "workers", "cpus", "progress", "part", "finetuning")
"""Arguments of `validate` that a worker is not given: where the run is done, and what `config` has by then."""

BOOTSTRAP = (
    "95% percentile intervals of 10,000 paired resamples of test examples, those of one subject together, with "
    "Student's t for the seeds; p_adjusted after Holm's correction for all differences"
)


def validate(
    splits: Any,
    *,
    eval: Any,
    model: str | Path,
    output: str | Path,
    seeds: int | Sequence[int] = 3,
    by: str | None = None,
    config: FinetuneConfig | None = None,
    tune: str = "off",
    template: str | None = None,
    limit: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    report_to: str = "none",
    base_shots: int = 0,
    lm_eval: Sequence[str] = (),
    along: int = 0,
    progress: Notify | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    workers: str | int | None = None,
    cpus: int = 1,
    part: Any = None,
    **finetuning: Any,
) -> Validation:
    """Measure on a model whether a split makes it more factual; the Python twin of `curate validate`.

    `splits` is a folder of splits, files, a mapping of name to data, or a Selection; `eval` is any QA dataset;
    popularity for the curves is its score `by` (needed only when there are several). Each arm is finetuned and
    tested once a seed; `finetuning` are fields of FinetuneConfig (`learning_rate=1e-3`). `limit` takes a seeded
    sample of that many examples of each arm and of the test set. With `tune` (`quick`, `paper`) each arm gets the
    setting that does best on its own held-out part. A test set with choices is asked by letter (template `mmlu`).
    `report_to` is a logger that Trainer knows. With `base_shots` the untouched model is also asked after so many solved
    examples from the training sets; `lm_eval` names tasks of lm-evaluation-harness, or their YAML files, that it and
    every arm are asked besides. `along` test questions are asked after every epoch of a training too.
    `engine="ray"` makes every arm and seed a task of a Ray cluster (docs/scaling.md);
    `part` is for its workers. Writes the run folder `output`; the same call resumes a stopped one.
    Raises DataError for splits or a test set that cannot be read, ModelError for a model that cannot be loaded,
    SettingError for a setting out of range, OutputError for a folder that is somebody else's.
    """
    given = {name: value for name, value in locals().items() if name not in BEYOND}
    folder, say = Path(output), progress or (lambda line: None)
    check_run_folder(folder)
    setting = replace(config or FinetuneConfig(), **finetuning)
    grid(tune, setting)  # refuses what cannot be tuned before any work
    seed_list = as_seeds(seeds)
    engines = EngineSettings(engine, ray_address, workers, cpus)
    if engines.engine == "ray":
        from curate.validation.on_ray import validate_on_ray

        return validate_on_ray(given | {"config": setting}, engines, say)
    check_logger(report_to)
    inputs = read_inputs(splits, eval, by, limit, template)
    shots = shots_from(inputs.arms, base_shots, inputs.template)
    tasks = find_tasks(lm_eval, limit)
    join(device)
    best = best_dtype(dtype, device, setting.method)
    loaded = load_model(model, best, device, revision, quantized=setting.method == "qlora")
    probe = make_probe(loaded, inputs.test.examples, inputs.template)
    runner = Runner(
        loaded, inputs.test, probe, inputs.template, setting, folder, tune, report_to, say, shots, tasks, along
    )
    if part is not None:
        return part.make(runner, inputs.arms)
    runs = list(runner.run(inputs.arms, seed_list))
    result = Validation(
        inputs.test,
        inputs.arms,
        runs,
        _settings(runner, inputs, seed_list, limit),
        count_leakage(inputs.arms, inputs.test),
        runner.trials,
        attention_summary(attention_rows(runs), [arm.name for arm in inputs.arms], probe),
        popularity_of(splits, inputs.data, inputs.test.popularity),
    )
    if is_first():
        write_run(result, folder)
    return result


def _settings(runner: Runner, inputs: Inputs, seeds: Sequence[int], limit: int | None) -> dict[str, Any]:
    """All that could change a number of the run."""
    return {
        "model": dict(runner.loaded.fingerprint()),
        "finetune": runner.config.as_dict(),
        "tune": runner.tune,
        "template": asdict(inputs.template),
        "seeds": seeds,
        "limit": limit,
        "base_shots": runner.shots.fingerprint() if runner.shots else None,
        "along": runner.along,
        "lm_eval": [task.fingerprint() for task in runner.tasks] or None,
        "eval": {"name": inputs.data.name, "sha256": inputs.data.fingerprint, "rows": len(inputs.data)},
        "popularity": inputs.test.popularity,
        "bootstrap": BOOTSTRAP,
        "attention": f"on a seeded sample of at most {EXAMPLES} test examples whose question names its subject",
    }


def best_dtype(dtype: str, device: str, method: str) -> str:
    """What `auto` stands for: bfloat16 on a GPU that computes in it, else float32; all weights train in float32."""
    if dtype != "auto":
        return dtype
    import torch

    on_gpu = device == "auto" or device.startswith("cuda")
    return "bfloat16" if on_gpu and method != "full" and torch.cuda.is_available() else "float32"


def plan(
    splits: Any,
    eval: Any,
    by: str | None,
    config: FinetuneConfig,
    seeds: int | Sequence[int],
    limit: int | None,
    tune: str = "off",
    template: str | None = None,
    base_shots: int = 0,
) -> dict[str, Any]:
    """What `validate` would do, and how much of it, without loading a model."""
    inputs = read_inputs(splits, eval, by, limit, template)
    settings = len(grid(tune, config))
    finetunings = len(inputs.arms) * len(as_seeds(seeds))
    return {
        "arms": [
            {"arm": arm.name, "examples": len(arm.examples), "steps": config.steps(len(arm.examples))}
            for arm in inputs.arms
        ],
        "finetunings": finetunings,
        "trials": len(inputs.arms) * settings if settings > 1 else 0,
        "answers": len(inputs.test.examples) * (1 + (base_shots > 0) + finetunings),
        "popularity": inputs.test.popularity,
        "template": inputs.template.name,
    }
