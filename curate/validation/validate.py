"""Validate: finetune the model on every arm, ask every test question, compare. Resumable by arm and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from curate.datasets.read import QATable, read
from curate.datasets.write import check_writable
from curate.engines.settings import EngineOptions
from curate.errors import OutputError
from curate.lm.load import load_model
from curate.prompts import Template, default_template, find_template
from curate.seeds import as_seeds
from curate.shots import Shots
from curate.validation.arms import Arm, read_arms
from curate.validation.config import FinetuneConfig
from curate.validation.harness import find_tasks
from curate.validation.loggers import check_logger
from curate.validation.looking import EXAMPLES, attention_rows, attention_summary, make_probe
from curate.validation.outcome import Validation
from curate.validation.parts import PARTS
from curate.validation.popularity import popularity_of
from curate.validation.processes import is_first, join
from curate.validation.results import write_run
from curate.validation.running import Progress, Runner
from curate.validation.testset import count_leakage, make_test_set
from curate.validation.tune import grid

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
    progress: Progress | None = None,
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
    every arm are asked besides. `engine="ray"` makes every arm and seed a task of a Ray cluster (docs/scaling.md);
    `part` is for its workers. Writes the run folder `output`; the same call resumes a stopped one.
    Raises DataError for splits or a test set that cannot be read, ModelError for a model that cannot be loaded,
    SettingError for a setting out of range, OutputError for a folder that is somebody else's.
    """
    given = {name: value for name, value in locals().items() if name not in BEYOND}
    folder = Path(output)
    check_run_folder(folder)
    setting = replace(config or FinetuneConfig(), **finetuning)
    grid(tune, setting)  # refuses what cannot be tuned before any work
    seed_list = as_seeds(seeds)
    engines = EngineOptions(engine, ray_address, workers, cpus)
    if engines.engine == "ray":
        from curate.validation.on_ray import validate_on_ray

        return validate_on_ray(given | {"config": setting}, engines, progress or (lambda line: None))
    check_logger(report_to)
    data = read(eval)
    form = template_for(data, template)
    arms = read_arms(splits, limit, form)
    test = make_test_set(data, by, limit, form)
    shots = shots_from(arms, base_shots, form)
    tasks = find_tasks(lm_eval, limit)
    join(device)
    loaded = load_model(
        model, best_dtype(dtype, device, setting.method), device, revision, quantized=setting.method == "qlora"
    )
    probe = make_probe(loaded, test.examples, form)
    say = progress or (lambda line: None)
    runner = Runner(loaded, test, probe, form, setting, folder, tune, report_to, say, shots, tasks)
    if part is not None:
        return part.make(runner, arms)
    runs = list(runner.run(arms, seed_list))
    settings = {
        "model": dict(loaded.fingerprint()),
        "finetune": setting.as_dict(),
        "tune": tune,
        "template": asdict(form),
        "seeds": seed_list,
        "limit": limit,
        "base_shots": shots.fingerprint() if shots else None,
        "lm_eval": [task.fingerprint() for task in tasks] or None,
        "eval": {"name": data.source.name, "sha256": data.source.fingerprint, "rows": len(data)},
        "popularity": test.popularity,
        "bootstrap": BOOTSTRAP,
        "attention": f"on a seeded sample of at most {EXAMPLES} test examples whose question names its subject",
    }
    popularity = popularity_of(splits, data, test.popularity)
    attention = attention_summary(attention_rows(runs), [arm.name for arm in arms], probe)
    leakage = count_leakage(arms, test)
    result = Validation(test, arms, runs, settings, leakage, runner.trials, attention, popularity)
    if is_first():
        write_run(result, folder)
    return result


def template_for(data: QATable, name: str | None) -> Template:
    """The template of that name; else `mmlu` where the test set has choices, and `qa` where it has none."""
    return find_template(name or default_template(data.columns))


def shots_from(arms: Sequence[Arm], count: int, template: Template) -> Shots | None:
    """Solved examples of a question's relation from the whole training set, or the first arm; None for 0 of them."""
    pool = {arm.name: arm for arm in arms}.get("whole", arms[0])
    return Shots(template, pool.examples, count) if count else None


def best_dtype(dtype: str, device: str, method: str) -> str:
    """What `auto` stands for: bfloat16 on a GPU that computes in it, else float32; all weights train in float32."""
    if dtype != "auto":
        return dtype
    import torch

    on_gpu = device == "auto" or device.startswith("cuda")
    return "bfloat16" if on_gpu and method != "full" and torch.cuda.is_available() else "float32"


def check_run_folder(folder: Path) -> None:
    """Raise OutputError now if a run could not be written to the folder later."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PARTS).is_dir():
        raise OutputError(
            f"The folder {folder} holds files that curate validate did not make.",
            expected="a new or empty folder, or that of an earlier run",
            try_next="another name for -o",
        )
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", expected="a folder", try_next="-o run/")
    check_writable(folder)


def plan(
    splits: Any,
    eval: Any,
    by: str | None,
    config: FinetuneConfig,
    seeds: int,
    limit: int | None,
    tune: str = "off",
    template: str | None = None,
    base_shots: int = 0,
) -> dict[str, Any]:
    """What `validate` would do, and how much of it, without loading a model."""
    data = read(eval)
    form = template_for(data, template)
    arms = read_arms(splits, limit, form)
    test = make_test_set(data, by, limit, form)
    settings = len(grid(tune, config))
    return {
        "arms": [
            {"arm": arm.name, "examples": len(arm.examples), "steps": config.steps(len(arm.examples))} for arm in arms
        ],
        "finetunings": len(arms) * seeds,
        "trials": len(arms) * settings if settings > 1 else 0,
        "answers": len(test.examples) * (1 + (base_shots > 0) + len(arms) * seeds),
        "popularity": test.popularity,
        "template": form.name,
    }
