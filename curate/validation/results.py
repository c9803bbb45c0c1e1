"""The outcome of a validation, and the folder it leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.data.files import versions, whole_file, write_json
from curate.records import contrast, is_untouched
from curate.validation.arms import Arm, TestSet
from curate.validation.attention import attention_rows, map_rows
from curate.validation.runner import Run, Trial
from curate.validation.statistics import (
    TOP_PERCENTS,
    Difference,
    accuracy,
    accuracy_rows,
    cluster_codes,
    compare_arms,
    curve_groups,
    gap_change,
    quintile_groups,
    relation_groups,
    standard_error,
    top_accuracy,
    verdict,
)


@dataclass(frozen=True)
class Validation:
    """The outcome: every prediction of every arm and seed, and what follows from them.

    `.summary()` is what stands in summary.json, `["verdict"]` its one sentence; `.arm_rows()` the accuracies,
    `.differences` every pair of arms with its interval, `.warnings()` what to read before the numbers.
    """

    test: TestSet
    arms: Sequence[Arm]
    runs: Sequence[Run]
    config: Mapping[str, Any]
    leakage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    trials: Sequence[Trial] = ()
    attention: Mapping[str, Any] | None = None
    popularity: Mapping[str, Any] | None = None

    @property
    def names(self) -> list[str]:
        """The untouched model, then the arms in their order."""
        return list(dict.fromkeys(run.arm for run in self.runs))

    def correct(self, arm: str) -> NDArray[np.float64]:
        """1.0 where the arm's answer was right: (S, N), seeds by test examples."""

        return np.array([[p.correct for p in run.predictions] for run in self.of(arm)], dtype=np.float64)

    def of(self, arm: str) -> list[Run]:
        """The runs of one arm, by seed."""
        return [run for run in self.runs if run.arm == arm]

    def arm_rows(self) -> list[dict[str, Any]]:
        """One row an arm: sizes, accuracy with its standard error over seeds, exact match, F1."""
        sizes = {arm.name: len(arm.examples) for arm in self.arms}
        return [self._arm_row(name, sizes.get(name, 0)) for name in self.names]

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

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """Which test examples are resampled together: those that ask about the same subject. -> (N,)"""
        return cluster_codes([example.subject for example in self.test.examples])

    @cached_property
    def differences(self) -> list[Difference]:
        """Every pair of arms, the earlier one minus the later one; the untouched model is last."""
        names = sorted(self.names, key=is_untouched)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        return compare_arms({name: self.correct(name) for name in names}, pairs, self.clusters)

    @cached_property
    def parts(self) -> dict[str, list[dict[str, Any]]]:
        """Accuracy of every arm per relation, per popularity quintile and on the top-x%, with intervals."""
        groups = {
            "relations": relation_groups([example.relation for example in self.test.examples]),
            "quintiles": quintile_groups(self.test.percentiles),
            "curves": curve_groups(self.test.percentiles),
        }
        correct = {name: self.correct(name) for name in self.names}
        rows = iter(accuracy_rows(correct, [g for found in groups.values() for g in found], self.clusters))
        return {name: [next(rows) for _ in range(len(found) * len(correct))] for name, found in groups.items()}

    @cached_property
    def gap(self) -> dict[str, Any] | None:
        """Whether the first arm of the `contrast` is further ahead on all test questions than on the popular ones."""
        pair = contrast(self.names)
        if pair is None:
            return None
        return gap_change({name: self.correct(name) for name in pair}, pair, self.test.percentiles, self.clusters)

    def training_rows(self) -> list[dict[str, Any]]:
        """How each arm and seed trained: step, epoch, training loss, held-out accuracy and loss, test accuracy."""
        return [{"arm": run.arm, "seed": run.seed, **row} for run in self.runs for row in run.training]

    def along_rows(self) -> list[dict[str, Any]]:
        """Each arm's accuracy on the test questions asked along training, mean of the seeds: after the first epoch, at
        the step that was kept, and after the last epoch.
        """
        ways = [(run, [r for r in run.training if r.get("test_accuracy") is not None]) for run in self.runs]
        rows = []
        for arm in self.arms:
            mine = [
                (way[0], next((row for row in way if row["step"] == run.steps), way[-1]), way[-1])
                for run, way in ways
                if run.arm == arm.name and way
            ]
            if mine:
                means = [
                    sum(row["test_accuracy"] or 0.0 for row in place) / len(mine) for place in zip(*mine, strict=True)
                ]
                rows.append({"arm": arm.name, **dict(zip(("first", "kept", "last"), means, strict=True))})
        return rows

    def task_rows(self) -> list[dict[str, Any]]:
        """Every metric of every lm-eval task, for every arm and seed."""
        return [{"arm": run.arm, "seed": run.seed, **row} for run in self.runs for row in run.tasks]

    def summary(self) -> dict[str, Any]:
        """What goes into summary.json."""
        return {
            "verdict": verdict(self.differences, self.arms[0].name) if self.arms else "No arm.",
            "arms": self.arm_rows(),
            "differences": [asdict(d) for d in self.differences],
            "warnings": self.warnings(),
            **self.parts,
            "gap": self.gap,
            "training": self.training_rows(),
            "along": self.along_rows(),
            "lm_eval": self.task_rows(),
            "popularity": self.popularity,
            "attention": self.attention,
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
        for run in self.runs:
            if any(not math.isfinite(row["held_out_loss"] or 0.0) for row in run.training):
                warnings.append(f"Training on {run.arm} with seed {run.seed} diverged; try a lower --learning-rate.")
        if self.test.unusable:
            warnings.append(f"{self.test.unusable} test examples have no question or no answer.")
        if self.test.popularity is None:
            warnings.append("The test set has no score, so there are no curves by popularity; see --by.")
        if not any(self.correct(name).any() for name in self.names):
            warnings.append("No arm answered any question: this model seems to store none of these facts.")
        return warnings


def write_run(result: Validation, folder: Path) -> None:
    """Write everything a finished validation leaves in its folder."""
    from curate.report.page import write_report

    manifest = run_manifest(result)
    _write_rows(prediction_rows(result), folder / "predictions.parquet", _prediction_schema())
    _write_rows(curve_rows(result), folder / "curves.parquet", _curve_schema())
    _write_rows(trial_rows(result), folder / "trials.parquet", _trial_schema())
    for name, rows in (("attention", attention_rows(result.runs)), ("attention_maps", map_rows(result.runs))):
        (folder / f"{name}.parquet").unlink(missing_ok=True)
        if rows:
            _write_rows(rows, folder / f"{name}.parquet")
    write_json(result.summary(), folder / "summary.json")
    write_report(folder, manifest)
    write_json(manifest, folder / "manifest.json")


def prediction_rows(result: Validation) -> list[dict[str, Any]]:
    """One row per arm, seed and test example."""
    percentiles = [None if math.isnan(p) else float(p) for p in result.test.percentiles]
    return [
        {
            "arm": run.arm,
            "seed": run.seed,
            "id": example.id,
            "question": example.question,
            "answers": list(example.answers),
            "prediction": predicted.prediction,
            "correct": predicted.correct,
            "exact_match": predicted.exact_match,
            "f1": predicted.f1,
            "popularity_percentile": percentile,
            "subject": example.subject,
            "relation": example.relation,
        }
        for run in result.runs
        for example, predicted, percentile in zip(result.test.examples, run.predictions, percentiles, strict=True)
    ]


def curve_rows(result: Validation) -> list[dict[str, Any]]:
    """Accuracy of every arm and seed on the top-x% most popular test examples; none without popularity."""
    if result.test.popularity is None:
        return []
    rows = []
    for name in result.names:
        correct = result.correct(name)
        for percent in TOP_PERCENTS:
            accuracies, n = top_accuracy(correct, result.test.percentiles, percent)
            if n:
                rows += [
                    {"arm": name, "seed": run.seed, "top_percent": percent, "accuracy": float(a), "n": n}
                    for run, a in zip(result.of(name), accuracies, strict=True)
                ]
    return rows


def trial_rows(result: Validation) -> list[dict[str, Any]]:
    """Every setting tried on an arm's held-out part, and after them the one of each finetuning that was evaluated."""
    evaluated = [
        Trial(run.arm, run.seed, run.config, run.steps, run.validation_accuracy, True)
        for run in result.runs
        if run.config is not None
    ]
    return [
        {
            "arm": trial.arm,
            "seed": trial.seed,
            "learning_rate": trial.config.learning_rate,
            "weight_decay": trial.config.weight_decay,
            "lora_rank": trial.config.lora_rank,
            "lora_alpha": trial.config.lora_alpha,
            "method": trial.config.method,
            "steps": trial.steps,
            "validation_accuracy": trial.validation_accuracy,
            "chosen": trial.chosen,
        }
        for trial in [*result.trials, *evaluated]
    ]


def run_manifest(result: Validation) -> dict[str, Any]:
    """How the run was made; written last, so that its presence means the run is complete."""
    return {
        "command": "validate",
        "versions": versions("torch", "transformers", "peft", "accelerate", "numpy", "pyarrow"),
        "arms": [
            {
                "arm": arm.name,
                "examples": len(arm.examples),
                "unusable": arm.unusable,
                "content": arm.fingerprint(),
            }
            for arm in result.arms
        ],
        **json.loads(json.dumps(dict(result.config), default=str)),
    }


def _write_rows(rows: list[dict[str, Any]], path: Path, schema: pa.Schema | None = None) -> None:
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def _prediction_schema() -> pa.Schema:
    return _schema(
        arm="string",
        seed="int64",
        id="string",
        question="string",
        answers="list",
        prediction="string",
        correct="bool",
        exact_match="bool",
        f1="float64",
        popularity_percentile="float64",
        subject="string",
        relation="string",
    )


def _curve_schema() -> pa.Schema:
    return _schema(arm="string", seed="int64", top_percent="int64", accuracy="float64", n="int64")


def _trial_schema() -> pa.Schema:
    return _schema(
        arm="string",
        seed="int64",
        learning_rate="float64",
        weight_decay="float64",
        lora_rank="int64",
        lora_alpha="int64",
        method="string",
        steps="int64",
        validation_accuracy="float64",
        chosen="bool",
    )


def _schema(**types: str) -> pa.Schema:
    return pa.schema([(n, pa.list_(pa.string()) if t == "list" else pa.type_for_alias(t)) for n, t in types.items()])
