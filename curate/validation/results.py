"""What a validation leaves behind: tables in Parquet, summary.json, figures, the report; the manifest last."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.write import whole_file, write_json
from curate.validation.compare import TOP_PERCENTS, top_accuracy
from curate.validation.looking import attention_rows, map_rows
from curate.validation.tune import Trial
from curate.versions import versions

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.validation.outcome import Validation


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
    import pyarrow as pa
    import pyarrow.parquet as pq

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
    import pyarrow as pa

    return pa.schema([(n, pa.list_(pa.string()) if t == "list" else pa.type_for_alias(t)) for n, t in types.items()])
