"""The outcome of a validation, and the folder it leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.files import plain, versions, whole_file, write_json
from curate.data.stores import write_table
from curate.records import contrast, is_untouched
from curate.validation.arms import Inputs
from curate.validation.attention import attention_rows, map_rows
from curate.validation.runner import Run
from curate.validation.statistics import (
    Difference,
    accuracy_rows,
    answer_groups,
    cluster_codes,
    compare_arms,
    curve_groups,
    difference_rows,
    equal_mix,
    gap_change,
    quintile_groups,
    relation_groups,
    standard_error,
    verdict,
)


@dataclass(frozen=True)
class Validation:
    """The outcome: every prediction of every arm and seed, and what follows from them.

    `.summary()` is what stands in summary.json, `["verdict"]` its one sentence; `.arm_rows()` the accuracies,
    `.differences` every pair of arms with its interval, `.warnings()` what to read before the numbers.
    """

    inputs: Inputs
    runs: Sequence[Run]
    trials: Sequence[Run]
    attention: Mapping[str, Any] | None
    config: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """The untouched model, then the arms in their order."""
        return list(dict.fromkeys(run.arm for run in self.runs))

    def correct(self, arm: str) -> NDArray[np.float64]:
        """How right the arm's answers were by the metric of the run, 0 to 1: (S, N), seeds by test examples."""
        return np.array([[p.mark for p in run.predictions] for run in self.of(arm)], dtype=np.float64)

    def of(self, arm: str) -> list[Run]:
        """The runs of one arm, by seed."""
        return [run for run in self.runs if run.arm == arm]

    def arm_rows(self) -> list[dict[str, Any]]:
        """One row an arm: sizes, accuracy with its standard error over seeds, and what the other metrics say.

        `disputed` counts the answers on which those that say yes or no differ.
        """
        sizes = {arm.name: len(arm.examples) for arm in self.inputs.arms}
        rows = []
        for name in self.names:
            correct = self.marks[name]
            answers = [p for run in self.of(name) for p in run.predictions]
            about = {
                "arm": name,
                "n_train": sizes.get(name, 0),
                "n_eval": len(self.inputs.test.examples),
                "seeds": len(correct),
            }
            measures = {
                "accuracy": float(correct.mean()),
                "stderr": standard_error(correct),
                "exact_match": sum(p.exact_match for p in answers) / len(answers),
                "f1": sum(p.f1 for p in answers) / len(answers),
                "contains": sum(p.contains for p in answers) / len(answers),
                "paper": sum(p.paper for p in answers) / len(answers),
                "disputed": sum(p.disputed for p in answers),
            }
            rows.append(about | measures)
        return rows

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """Which test examples are resampled together: those that ask about the same subject. -> (N,)"""
        return cluster_codes([example.subject for example in self.inputs.test.examples])

    @cached_property
    def differences(self) -> list[Difference]:
        """Every pair of arms, the earlier one minus the later one; the untouched model is last."""
        answers = [self.inputs.answer(example) for example in self.inputs.test.examples]
        return compare_arms(self.marks, self.pairs, self.clusters, equal_mix(answers))

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every pair of arms, the earlier one first; the untouched model is last."""
        return list(combinations(sorted(self.names, key=is_untouched), 2))

    @cached_property
    def marks(self) -> dict[str, NDArray[np.float64]]:
        """What `correct` gives of every arm."""
        return {name: self.correct(name) for name in self.names}

    @cached_property
    def parts(self) -> dict[str, list[dict[str, Any]]]:
        """Accuracy of every arm per relation, popularity quintile, on the top-x% and by how common the right answer is.

        `by_answer_differences` are those of every pair of arms by how common it is. All with intervals.
        """
        answers = answer_groups(self.inputs.answer_counts)
        groups = {
            "relations": relation_groups([example.relation for example in self.inputs.test.examples]),
            "quintiles": quintile_groups(self.inputs.test.percentiles),
            "curves": curve_groups(self.inputs.test.percentiles),
            "by_answer": answers,
        }
        rows = iter(accuracy_rows(self.marks, [g for found in groups.values() for g in found], self.clusters))
        parts = {name: [next(rows) for _ in range(len(found) * len(self.names))] for name, found in groups.items()}
        return parts | {"by_answer_differences": difference_rows(self.marks, self.pairs, answers, self.clusters)}

    @cached_property
    def gap(self) -> dict[str, Any] | None:
        """Whether the first arm of the `contrast` is further ahead on all test questions than on the popular ones."""
        pair = contrast(self.names)
        if pair is None:
            return None
        return gap_change(self.marks, pair, self.inputs.test.percentiles, self.clusters)

    def along_rows(self) -> list[dict[str, Any]]:
        """Each arm's accuracy on the test questions asked along training, mean of the seeds: after the first epoch, at
        the step that was kept, and after the last epoch.
        """
        rows = []
        for arm in self.inputs.arms:
            places = []
            for run in self.of(arm.name):
                asked = [row for row in run.training if row.get("test_accuracy") is not None]
                if asked:
                    kept = next((row for row in asked if row["step"] == run.steps), asked[-1])
                    places.append([row["test_accuracy"] for row in (asked[0], kept, asked[-1])])
            if places:
                means = (sum(values) / len(places) for values in zip(*places, strict=True))
                rows.append({"arm": arm.name, **dict(zip(("first", "kept", "last"), means, strict=True))})
        return rows

    def summary(self) -> dict[str, Any]:
        """What goes into summary.json."""
        return {
            "verdict": verdict(self.differences, self.inputs.arms[0].name) if self.inputs.arms else "No arm.",
            "arms": self.arm_rows(),
            "differences": [asdict(d) for d in self.differences],
            "warnings": self.warnings(),
            **self.parts,
            "gap": self.gap,
            "training": [{"arm": run.arm, "seed": run.seed, **row} for run in self.runs for row in run.training],
            "along": self.along_rows(),
            "lm_eval": [{"arm": run.arm, "seed": run.seed, **row} for run in self.runs for row in run.tasks],
            "popularity": self.inputs.popularity,
            "attention": self.attention,
            "leakage": self.inputs.leakage,
            "ambiguous": self.inputs.ambiguous,
            "config": dict(self.config),
        }

    def warnings(self) -> list[str]:
        """What a reader of the numbers has to know first."""
        warnings = self.inputs.warnings()
        if self.config["answers_too_long"]:
            warnings.append(
                f"{self.config['answers_too_long']} test questions have no accepted answer of at most "
                f"{self.config['max_new_tokens']} tokens: they cannot be answered; see --max-new-tokens."
            )
        for run in self.runs:
            if any(not math.isfinite(row["held_out_loss"] or 0.0) for row in run.training):
                warnings.append(f"Training on {run.arm} with seed {run.seed} diverged; try a lower --learning-rate.")
        if not any(marks.any() for marks in self.marks.values()):
            warnings.append("No arm answered any question: this model seems to store none of these facts.")
        return warnings


TEXT, INTEGER, NUMBER, YES_NO = pa.string(), pa.int64(), pa.float64(), pa.bool_()
ARM_AND_SEED = {"arm": TEXT, "seed": INTEGER}
SCHEMAS = {
    "predictions": pa.schema(
        ARM_AND_SEED
        | {"id": TEXT, "question": TEXT, "answers": pa.list_(TEXT), "prediction": TEXT}
        | {"correct": YES_NO, "exact_match": YES_NO, "f1": NUMBER}
        | {"mark": NUMBER, "contains": YES_NO, "paper": YES_NO}
        | {"popularity_percentile": NUMBER, "subject": TEXT, "relation": TEXT, "answer_count": INTEGER}
    ),
    "curves": pa.schema(ARM_AND_SEED | {"top_percent": INTEGER, "accuracy": NUMBER, "n": INTEGER}),
    "trials": pa.schema(
        ARM_AND_SEED
        | {"learning_rate": NUMBER, "weight_decay": NUMBER, "lora_rank": INTEGER, "lora_alpha": INTEGER}
        | {"method": TEXT, "steps": INTEGER, "validation_accuracy": NUMBER, "chosen": YES_NO}
    ),
}


def write_run(result: Validation, folder: Path, request: Mapping[str, Any]) -> None:
    """Write everything a finished validation leaves in its folder; the manifest last: it says that the run is whole."""
    from curate.report.page import RunTables, write_report

    tables = {
        "predictions": prediction_rows(result),
        "curves": curve_rows(result),
        "trials": trial_rows(result),
        "attention": attention_rows(result.runs),
        "attention_maps": map_rows(result.runs),
    }
    for name, rows in tables.items():
        path = folder / f"{name}.parquet"
        if not rows and name not in SCHEMAS:  # no attention to look at
            path.unlink(missing_ok=True)
            continue
        with whole_file(path) as temporary:
            write_table(pa.Table.from_pylist(rows, SCHEMAS.get(name)), temporary)
    manifest = {
        "command": "validate",
        "versions": versions("torch", "transformers", "peft", "accelerate", "numpy", "pyarrow"),
        "arms": [
            {"arm": arm.name, "examples": len(arm.examples), "unusable": arm.unusable, "content": arm.fingerprint}
            for arm in result.inputs.arms
        ],
        **result.config,
        "request": request,
    }
    summary = plain(result.summary())
    write_json(summary, folder / "summary.json")
    write_report(
        folder, RunTables(summary, manifest, tables["predictions"], tables["attention"], tables["attention_maps"])
    )
    write_json(manifest, folder / "manifest.json")


def prediction_rows(result: Validation) -> list[dict[str, Any]]:
    """One row per arm, seed and test example."""
    percentiles = [None if math.isnan(p) else float(p) for p in result.inputs.test.percentiles]
    counts = result.inputs.answer_counts.tolist()
    return [
        {
            "arm": run.arm,
            "seed": run.seed,
            **asdict(predicted),
            "question": example.question,
            "answers": list(example.answers),
            "popularity_percentile": percentile,
            "subject": example.subject,
            "relation": example.relation,
            "answer_count": count,
        }
        for run in result.runs
        for example, predicted, percentile, count in zip(
            result.inputs.test.examples, run.predictions, percentiles, counts, strict=True
        )
    ]


def curve_rows(result: Validation) -> list[dict[str, Any]]:
    """Accuracy of every arm and seed on the top-x% most popular test examples; none without popularity."""
    return [
        {"arm": arm, "seed": run.seed, **top, "accuracy": float(correct[members].mean()), "n": int(members.sum())}
        for arm in result.names
        for top, members in curve_groups(result.inputs.test.percentiles)
        for run, correct in zip(result.of(arm), result.correct(arm), strict=True)
    ]


def trial_rows(result: Validation) -> list[dict[str, Any]]:
    """Every setting tried on an arm's held-out part, and after them the one of each finetuning that was evaluated."""
    rows = [run.config.as_dict() | vars(run) for run in (*result.trials, *result.runs) if run.config]
    return [{name: row[name] for name in SCHEMAS["trials"].names} for row in rows]
