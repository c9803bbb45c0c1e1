"""Validate: finetune the model on every arm, ask every test question, compare. Resumable by arm and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.read import read
from curate.datasets.write import check_writable, whole_file
from curate.errors import DataError, OutputError
from curate.lm.load import LoadedModel, load_model
from curate.prompts import DEFAULT
from curate.validation.arms import BASE, Arm, fingerprint_examples, read_arms
from curate.validation.compare import (
    Difference,
    accuracy,
    paired_difference,
    standard_error,
    verdict,
)
from curate.validation.evaluate import Prediction, evaluate
from curate.validation.finetune import FinetuneConfig, finetuned, save_adapter
from curate.validation.testset import TestSet, count_leakage, make_test_set

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = ".parts"
"""Where a run keeps what every arm and seed answered."""

Progress = Callable[[str], None]
"""Called with one line of text whenever an arm and seed begins or ends."""


@dataclass(frozen=True)
class Run:
    """What one arm answered with one seed."""

    arm: str
    seed: int
    predictions: Sequence[Prediction]
    steps: int = 0
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Validation:
    """The outcome: every prediction of every arm and seed, and what follows from them."""

    test: TestSet
    arms: Sequence[Arm]
    runs: Sequence[Run]
    config: Mapping[str, Any]
    leakage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """base, then the arms in their order."""
        return [BASE, *(arm.name for arm in self.arms)]

    def correct(self, arm: str) -> NDArray[np.float64]:
        """1.0 where the arm's answer was right: (S, N), seeds by test examples."""
        import numpy as np

        return np.array([[p.correct for p in run.predictions] for run in self.of(arm)], dtype=np.float64)

    def of(self, arm: str) -> list[Run]:
        """The runs of one arm, by seed."""
        return [run for run in self.runs if run.arm == arm]

    def arm_rows(self) -> list[dict[str, Any]]:
        """One row an arm: sizes, accuracy with its standard error over seeds, exact match, F1."""
        sizes = {BASE: 0} | {arm.name: len(arm.examples) for arm in self.arms}
        return [self._arm_row(name, sizes[name]) for name in self.names]

    def _arm_row(self, name: str, n_train: int) -> dict[str, Any]:
        runs = self.of(name)
        answers = [p for run in runs for p in run.predictions]
        return {
            "arm": name,
            "n_train": n_train,
            "n_eval": len(self.test.examples),
            "seeds": len(runs),
            "accuracy": accuracy(self.correct(name)),
            "stderr": standard_error(self.correct(name)),
            "exact_match": sum(p.exact_match for p in answers) / len(answers),
            "f1": sum(p.f1 for p in answers) / len(answers),
        }

    def differences(self) -> list[Difference]:
        """Every pair of arms, the earlier one minus the later one."""
        names = [*self.names[1:], BASE]
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        return [paired_difference(a, b, self.correct(a), self.correct(b)) for a, b in pairs]

    def summary(self) -> dict[str, Any]:
        """What goes into summary.json."""
        differences = self.differences()
        return {
            "verdict": verdict(differences, self.names[1]) if len(self.names) > 1 else "No arm.",
            "arms": self.arm_rows(),
            "differences": [asdict(d) for d in differences],
            "leakage": dict(self.leakage),
            "config": dict(self.config),
        }

    def warnings(self) -> list[str]:
        """What a reader of the numbers has to know first."""
        warnings = []
        for name, shared in self.leakage.items():
            if shared["question"]:
                warnings.append(f"{shared['question']} test questions are also in the training set {name}.")
            elif shared["subject"]:
                warnings.append(f"{shared['subject']} test examples ask about a subject that {name} trains on.")
        for arm in self.arms:
            if arm.unusable:
                warnings.append(f"{arm.unusable} examples of {arm.name} have no question or no answer.")
        if self.test.unusable:
            warnings.append(f"{self.test.unusable} test examples have no question or no answer.")
        if self.test.popularity is None:
            warnings.append("The test set has no score, so there are no curves by popularity; see --by.")
        if not any(self.correct(name).any() for name in self.names):
            warnings.append("No arm answered any question: this model seems to store none of these facts.")
        return warnings


def validate(
    splits: Any,
    *,
    eval: Any,
    model: str | Path,
    output: str | Path,
    seeds: int | Sequence[int] = 3,
    by: str | None = None,
    config: FinetuneConfig | None = None,
    limit: int | None = None,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    progress: Progress | None = None,
    **finetuning: Any,
) -> Validation:
    """Measure on a model whether a split makes it more factual; the Python twin of `curate validate`.

    `splits` is a folder of splits, files, a mapping of name to data, or a Selection; `eval` is any QA dataset;
    popularity for the curves is its score `by` (needed only when there are several). Each arm is finetuned and
    tested once a seed; `finetuning` are fields of FinetuneConfig (`learning_rate=1e-3`). `limit` takes a seeded
    sample of that many examples of each arm and of the test set. Writes the run folder `output`; the same call
    resumes a stopped one.
    """
    from curate.validation.results import write_run

    folder = Path(output)
    check_run_folder(folder)
    finetune_config = replace(config or FinetuneConfig(), **finetuning)
    arms = read_arms(splits, limit)
    data = read(eval)
    test = make_test_set(data, by, limit)
    loaded = load_model(model, dtype, device, revision)
    seed_list = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not seed_list:
        raise DataError("No seed was given.", expected="at least one", try_next="--seeds 3")
    runs = list(run_arms(loaded, arms, test, finetune_config, seed_list, folder, progress or (lambda line: None)))
    settings = {
        "model": dict(loaded.fingerprint()),
        "finetune": finetune_config.as_dict(),
        "template": asdict(DEFAULT),
        "seeds": seed_list,
        "limit": limit,
        "eval": {"name": data.source.name, "sha256": data.source.fingerprint, "rows": len(data)},
        "popularity": test.popularity,
        "bootstrap": "10,000 paired resamples of test examples and seeds, 95% percentile interval",
    }
    result = Validation(test, arms, runs, settings, count_leakage(arms, test))
    write_run(result, folder)
    return result


def check_run_folder(folder: Path) -> None:
    """Make the folder, or raise OutputError now, if a run could not be written to it later."""
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
    splits: Any, eval: Any, by: str | None, config: FinetuneConfig, seeds: int, limit: int | None
) -> dict[str, Any]:
    """What `validate` would do, and how much of it, without loading a model."""
    arms = read_arms(splits, limit)
    test = make_test_set(read(eval), by, limit)
    return {
        "arms": [
            {"arm": arm.name, "examples": len(arm.examples), "steps": config.steps(len(arm.examples))} for arm in arms
        ],
        "finetunings": len(arms) * seeds,
        "answers": len(test.examples) * (1 + len(arms) * seeds),
        "popularity": test.popularity,
    }


def run_arms(
    loaded: LoadedModel,
    arms: Sequence[Arm],
    test: TestSet,
    config: FinetuneConfig,
    seeds: Sequence[int],
    folder: Path,
    say: Progress,
) -> Iterator[Run]:
    """The base model, then every arm and seed; finished ones are read back from `folder` instead of run again."""
    evaluated = fingerprint_examples(test.examples)
    base_key = run_key(loaded, evaluated)
    yield _kept(folder, base_key) or _keep(folder, base_key, _run_base(loaded, test, say))
    for seed in seeds:
        for arm in arms:
            key = run_key(loaded, evaluated, arm.name, arm.fingerprint(), config.as_dict(), seed)
            kept = _kept(folder, key)
            if kept is not None:
                say(f"{arm.name}, seed {seed}: done earlier")
            yield kept or _keep(folder, key, _run_arm(loaded, arm, test, config, seed, folder, say))


def run_key(loaded: LoadedModel, *parts: Any) -> str:
    """A hash of everything that could change the predictions of one arm and seed."""
    content = [dict(loaded.fingerprint()), asdict(DEFAULT), *parts]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _run_base(loaded: LoadedModel, test: TestSet, say: Progress) -> Run:
    say(f"base: {len(test.examples)} questions")
    return Run(BASE, 0, evaluate(loaded, test.examples, DEFAULT))


def _run_arm(
    loaded: LoadedModel,
    arm: Arm,
    test: TestSet,
    config: FinetuneConfig,
    seed: int,
    folder: Path,
    say: Progress,
) -> Run:
    say(f"{arm.name}, seed {seed}: finetuning on {len(arm.examples)} examples")
    with finetuned(loaded, arm.examples, config, DEFAULT, seed) as result:
        save_adapter(result, folder / "adapters" / arm.name / f"seed-{seed}")
        predictions = evaluate(result.loaded, test.examples, DEFAULT)
    right = sum(p.correct for p in predictions) / len(predictions)
    say(f"{arm.name}, seed {seed}: {100 * right:.1f}% right after {result.steps} steps")
    return Run(arm.name, seed, predictions, result.steps, result.validation_accuracy)


def _keep(folder: Path, key: str, run: Run) -> Run:
    with whole_file(_part(folder, key)) as temporary:
        temporary.write_text(json.dumps(asdict(run)))
    return run


def _kept(folder: Path, key: str) -> Run | None:
    part = _part(folder, key)
    if not part.is_file():
        return None
    fields = json.loads(part.read_text())
    return Run(**{**fields, "predictions": [Prediction(**p) for p in fields["predictions"]]})


def _part(folder: Path, key: str) -> Path:
    return folder / PARTS / f"{key}.json"
