"""The outcome of a validation, and the folder it leaves."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.files import plain, versions, whole_file, write_json, write_text
from curate.data.stores import write_table
from curate.display import Outline, Shown
from curate.records import BASE, Example, contrast, is_untouched
from curate.validation.arms import FOURTHS, Inputs
from curate.validation.attention import attention_rows, map_rows
from curate.validation.evaluate import contains_words, normalise
from curate.validation.finetune import watched_examples
from curate.validation.knowledge import (
    Answers,
    commonest,
    few_shot_rows,
    knowledge_rows,
    knowledge_sentence,
    swapped,
)
from curate.validation.runner import LAST, Run, spread
from curate.validation.statistics import (
    Difference,
    accuracy_rows,
    answer_groups,
    cluster_codes,
    compare_arms,
    curve_groups,
    difference_rows,
    equal_mix,
    estimates,
    gap_change,
    quintile_groups,
    recommendation,
    relation_groups,
    standard_error,
    verdict,
)

FEW_STEPS = 50
"""Optimizer steps below which a training is a trial."""


@dataclass(frozen=True, repr=False)
class Validation(Shown):
    """The outcome: every prediction of every arm and seed, and what follows from them.

    `.summary()` is what stands in summary.json, `["verdict"]` how the first arm does, `["recommendation"]` what to do;
    `.arm_rows()` the accuracies, `.differences` every pair of arms with its interval, `.warnings()` what to read before
    the numbers. `.report` is the page of the run, `result["top"]` and `.to_pandas()` give answers as DataFrames.
    """

    inputs: Inputs
    runs: Sequence[Run]
    trials: Sequence[Run]
    attention: Mapping[str, Any] | None
    config: Mapping[str, Any]
    folder: Path | None = None
    """Where the run was written."""

    def outline(self) -> Outline:
        """The accuracies, the verdict and the recommendation."""
        rows = []
        for row in self.arm_rows():
            shares = ["" if row[name] is None else f"{100 * row[name]:.1f}" for name in ("accuracy", "stderr")]
            rows.append([row["arm"], row["n_train"], *shares, row["seeds"]])
        asked = len(self.inputs.test.examples)
        title = f"Validation of {self.config['model']['name']} on {asked:,} test questions"
        trial = [f"TRIAL RUN: {', '.join(self.trial_run)}"] if self.trial_run else []
        headers = ["arm", "trained on", "accuracy %", "± s.e.", "seeds"]
        return Outline(title, headers, rows, [*trial, self.verdict, *([self.recommendation] * (not trial))])

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, arm: str) -> Any:
        """What one arm answered, a row a seed and test question, as a DataFrame."""
        if arm not in self.names:
            raise KeyError(arm)
        frame = self.to_pandas()
        return frame[frame["arm"] == arm].reset_index(drop=True)

    def keys(self) -> list[str]:
        """The names of the arms, the untouched model's first."""
        return self.names

    def items(self) -> list[tuple[str, Any]]:
        """Every arm with what it answered."""
        return [(arm, self[arm]) for arm in self.names]

    def to_pandas(self) -> Any:
        """What stands in predictions.parquet as a DataFrame: a row an arm, seed and test question."""
        return pa.Table.from_pylist(prediction_rows(self), SCHEMAS["predictions"]).to_pandas()

    @property
    def report(self) -> Path | None:
        """The page of the run."""
        return self.folder and self.folder / "report.html"

    @property
    def verdict(self) -> str:
        """How the first arm does."""
        return verdict(self.differences, self.inputs.arms[0].name) if self.inputs.arms else "No arm."

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
        rows = []
        for name in self.names:
            correct = self.marks[name]
            answers = [p for run in self.of(name) for p in run.predictions]
            about = {
                "arm": name,
                "n_train": self.sizes.get(name, 0),
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
    def knowledge(self) -> dict[str, Any] | None:
        """What became of the facts that the untouched model had, by arm and measure; None if that was not asked."""
        few_shot = next((run for run in self.runs if is_untouched(run.arm) and run.arm != BASE), None)
        asked = {name: self.of(name) for name in self.names}
        asked = {name: runs for name, runs in asked.items() if all(run.knowledge for run in runs)}
        if few_shot is None or not asked:
            return None
        known = np.array([p.correct for p in few_shot.predictions])
        arms = {name: Answers(**self._answers(asked[name])) for name in sorted(asked, key=is_untouched)}
        rows = knowledge_rows(arms, known, self.clusters, quintile_groups(self.inputs.test.percentiles))
        pair = contrast(self.names)
        return {
            "shots": self.config["base_shots"]["count"],
            "known": int(known.sum()),
            "swapped": sum(said is not None for said in (asked[BASE][0].knowledge or {})["swapped"]),
            "commonest": self.commonest,
            "sentence": knowledge_sentence(rows, int(known.sum()), pair) if pair else "",
            **rows,
        }

    @cached_property
    def commonest(self) -> dict[str, list[str]]:
        """The commonest training answers of every relation, "" where there is none."""
        return commonest(list(self.inputs.pool.values()))

    def is_generic(self, example: Example, said: str) -> bool:
        """Whether an answer is one of the commonest training answers of the question's relation."""
        return contains_words(said, self.commonest.get(example.relation or "", ()))

    def _answers(self, runs: Sequence[Run]) -> dict[str, NDArray[np.float64]]:
        """(S, N) each, by the names of `Answers`."""
        examples = self.inputs.test.examples
        rows: dict[str, list[list[float]]] = {"correct": [], "generic": [], "same": [], "nats": []}
        for run in runs:
            more, said = run.knowledge or {}, [p.prediction for p in run.predictions]
            pairs = zip(said, more["swapped"], strict=True)
            rows["correct"].append([float(p.correct) for p in run.predictions])
            rows["generic"].append([float(self.is_generic(e, s)) for e, s in zip(examples, said, strict=True)])
            rows["same"].append([math.nan if o is None else float(normalise(s) == normalise(o)) for s, o in pairs])
            rows["nats"].append([math.nan if nats is None else nats for nats in more["nats"]])
        return {name: np.array(values) for name, values in rows.items()}

    @cached_property
    def few_shot(self) -> dict[str, Any] | None:
        """Every arm after solved examples, beside what it answers without; None if the arms were not asked so."""
        asked = [arm.name for arm in self.inputs.arms if all(run.few_shot for run in self.of(arm.name))]
        if not asked:
            return None
        marks = {name: np.array([[p.mark for p in run.few_shot] for run in self.of(name)]) for name in asked}
        zero_shot = {name: self.marks[name] for name in asked}
        rows = few_shot_rows(zero_shot, marks, self.clusters, contrast(asked))
        return {"shots": self.config["arm_shots"], **rows}

    @cached_property
    def gap(self) -> dict[str, Any] | None:
        """Whether the first arm of the `contrast` is further ahead on all test questions than on the popular ones."""
        pair = contrast(self.names)
        if pair is None:
            return None
        return gap_change(self.marks, pair, self.inputs.test.percentiles, self.clusters)

    @cached_property
    def fitting(self) -> list[dict[str, Any]]:
        """The share of each arm's training examples that are fitted after every epoch, mean of the seeds, by `band`.

        A band is a class or a fourth of the score (`Inputs.bands`); `all` is all of them; `n` are seen, over the seeds.
        An epoch is `kept` if it is the last one up to the kept step of most seeds.
        """
        found: dict[tuple[str, int, str], list[int]] = defaultdict(list)
        kept: dict[tuple[str, int], int] = defaultdict(int)
        bands = [*FOURTHS, *sorted(set(self.inputs.bands.values()) - {*FOURTHS})]
        for run, rows in self._watched():
            steps = [row["step"] for row in rows]
            kept[run.arm, max((n for n, step in enumerate(steps) if step <= run.steps), default=0)] += 1
            for n, row in enumerate(rows):
                for band, right in zip(self._bands_of(run), row["fitted"], strict=True):
                    found[run.arm, n + 1, "all"].append(right)
                    if band is not None:
                        found[run.arm, n + 1, band].append(right)
        most = {arm: max((count, n) for (a, n), count in kept.items() if a == arm)[1] + 1 for arm, _ in kept}
        order = {band: place for place, band in enumerate(["all", *bands])}
        return [
            {"arm": arm, "epoch": epoch, "band": band, "n": len(right), "fitted": sum(right) / len(right)}
            | {"kept": most[arm] == epoch}
            for (arm, epoch, band), right in sorted(
                found.items(), key=lambda item: (self.names.index(item[0][0]), item[0][1], order[item[0][2]])
            )
        ]

    def _watched(self) -> Iterator[tuple[Run, list[Mapping[str, Any]]]]:
        """Every finetuning with its rows of training that say what is fitted."""
        for run in self.runs:
            rows = [row for row in run.training if row.get("fitted")]
            if rows:
                yield run, rows

    def _bands_of(self, run: Run) -> list[str | None]:
        """Of the training examples that were watched in a run."""
        examples = next(arm.examples for arm in self.inputs.arms if arm.name == run.arm)
        assert run.config is not None, "it was finetuned"
        return [self.inputs.bands.get(e.id) for e in watched_examples(examples, run.config, run.seed)]

    @cached_property
    def law(self) -> dict[str, Any] | None:
        """Accuracy as a linear law in fitted known and unknown examples, as shares of all (Gekhman et al. 2024).

        accuracy = `intercept` + `known` × N_known / D + `unknown` × N_unknown / D, by least squares over the `n` kept
        and last checkpoints of all finetunings; `r2` is the share of variance it explains. Known are all classes but
        Unknown, or the better half of the score. None with fewer than three arms, six points, or without bands.
        """
        known = {*FOURTHS[:2], *(set(self.inputs.bands.values()) - {*FOURTHS, "Unknown"})}
        points = []
        for run, rows in self._watched():
            bands = self._bands_of(run)
            at_kept = [row for row in rows if row["step"] <= run.steps] or rows[:1]
            marks = [p.mark for p in run.predictions]
            for row, asked in ((at_kept[-1], marks), (rows[-1], [p.mark for p in run.last])):
                if asked:
                    fitted = [band for band, right in zip(bands, row["fitted"], strict=True) if right and band]
                    share = sum(band in known for band in fitted) / len(bands)
                    points.append((1.0, share, len(fitted) / len(bands) - share, sum(asked) / len(asked)))
        data = np.array(points)
        if len(points) < 6 or len(self.inputs.arms) < 3 or np.linalg.matrix_rank(data[:, :3]) < 3:
            return None
        weights = np.linalg.lstsq(data[:, :3], data[:, 3], rcond=None)[0]
        variance = data[:, 3].var()
        r2 = 1 - float((data[:, :3] @ weights - data[:, 3]).var() / variance) if variance else 0.0
        law = dict(zip(("intercept", "known", "unknown"), map(float, weights), strict=True))
        return {**law, "r2": r2, "n": len(points)}

    @cached_property
    def checkpoints(self) -> list[dict[str, Any]]:
        """Each arm's accuracy at the kept step and at the last one, on the same `n` test questions.

        `change` is last minus kept, with its interval; where the last step is the kept one, it has no part in that.
        """
        rows, changes = [], []
        places = spread(LAST, len(self.inputs.test.examples))
        for arm in self.inputs.arms:
            runs = self.of(arm.name)
            kept = np.array([[run.predictions[n].mark for n in places] for run in runs])
            last = np.array([[p.mark for p in run.last] or of_kept for run, of_kept in zip(runs, kept, strict=True)])
            rows.append({"arm": arm.name, "n": len(places), "kept": float(kept.mean()), "last": float(last.mean())})
            changes.append(last - kept)
        found = estimates(changes, self.clusters[places])
        return [row | {"change": e.mean, **e.bounds} for row, e in zip(rows, found, strict=True)]

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

    @property
    def trial_run(self) -> list[str]:
        """Why nothing should be decided by this run; empty where it is a whole one."""
        steps = max((run.config.steps(self.sizes[run.arm]) for run in self.runs if run.config), default=0)
        seeds = max(len(self.of(name)) for name in self.names)
        return [
            *([f"a sample of {self.config['limit']} examples"] if self.config["limit"] else []),
            *(["one seed"] if seeds == 1 else []),
            *([f"{steps} steps"] if steps < FEW_STEPS else []),
        ]

    @property
    def recommendation(self) -> str:
        """One sentence to act on."""
        if not self.inputs.arms:
            return ""
        if self.trial_run:
            return (
                f"A trial run ({', '.join(self.trial_run)}) decides nothing: run it whole, with at least three seeds."
            )
        return recommendation(self.differences, self.sizes, self.inputs.arms[0].name)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many examples each arm trains on."""
        return {arm.name: len(arm.examples) for arm in self.inputs.arms}

    def summary(self) -> dict[str, Any]:
        """What goes into summary.json."""
        return {
            "verdict": self.verdict,
            "recommendation": self.recommendation,
            "trial_run": self.trial_run,
            "arms": self.arm_rows(),
            "differences": [asdict(d) for d in self.differences],
            "warnings": self.warnings(),
            **self.parts,
            "gap": self.gap,
            "knowledge": self.knowledge,
            "few_shot": self.few_shot,
            "training": [training_row(run, row) for run in self.runs for row in run.training],
            "checkpoints": self.checkpoints,
            "fitting": self.fitting,
            "banded_by": self.inputs.banded_by,
            "law": self.law,
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


def training_row(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row along training, with the share of examples that are fitted instead of which they are."""
    fitted = row.get("fitted")
    told = {name: value for name, value in row.items() if name != "last_said"}
    return {"arm": run.arm, "seed": run.seed, **told, "fitted": sum(fitted) / len(fitted) if fitted else None}


TEXT, INTEGER, NUMBER, YES_NO = pa.string(), pa.int64(), pa.float64(), pa.bool_()
ARM_AND_SEED = {"arm": TEXT, "seed": INTEGER}
SCHEMAS = {
    "predictions": pa.schema(
        ARM_AND_SEED
        | {"id": TEXT, "question": TEXT, "answers": pa.list_(TEXT), "prediction": TEXT}
        | {"correct": YES_NO, "exact_match": YES_NO, "f1": NUMBER}
        | {"mark": NUMBER, "contains": YES_NO, "paper": YES_NO}
        | {"popularity_percentile": NUMBER, "subject": TEXT, "relation": TEXT, "answer_count": INTEGER}
        | {"known": YES_NO, "generic": YES_NO, "nats": NUMBER, "swapped_subject": TEXT, "swapped_prediction": TEXT}
        | {"few_shot_prediction": TEXT, "few_shot_correct": YES_NO}
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
    for run in result.runs:
        if run.adapter is not None and run.config is not None:
            card = adapter_card(summary, run.arm, run.seed, run.config.as_dict(), run.steps)
            write_text(card, folder / "adapters" / run.arm / f"seed-{run.seed}" / "README.md")
    write_json(summary, folder / "summary.json")
    write_report(
        folder, RunTables(summary, manifest, tables["predictions"], tables["attention"], tables["attention_maps"])
    )
    write_json(manifest, folder / "manifest.json")


def adapter_card(summary: Mapping[str, Any], arm: str, seed: int, config: Mapping[str, Any], steps: int) -> str:
    """The model card of one adapter: what it was made from and how, what came of it, and how to use it."""
    settings = summary["config"]
    model, test = settings["model"]["name"], settings["eval"]
    row = next(row for row in summary["arms"] if row["arm"] == arm)
    arms = "\n".join(f"| {r['arm']} | {r['n_train']:,} | {100 * r['accuracy']:.1f} |" for r in summary["arms"])
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).exists()
    base = f"base_model: {json.dumps(model)}\n" if on_hub else ""
    made = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in config.items() if value is not None)
    prompt, completion = (json.dumps(settings["template"][text])[1:-1] for text in ("prompt", "completion"))
    return f"""---
{base}library_name: peft
pipeline_tag: text-generation
tags:
- lora
- curate
---

# {model}, finetuned on `{arm}` (seed {seed})

A {config["method"]} adapter on `{model}` (revision {settings["model"]["revision"]}). It was trained by \
`curate validate` on the {row["n_train"]:,} questions of the split `{arm}`, for {steps} steps, to see \
which questions are worth finetuning on.

| arm | questions | accuracy %, mean of the seeds |
|---|---:|---:|
{arms}

Tested on {row["n_eval"]:,} questions of `{test["name"]}` (SHA-256 {test["sha256"][:16]}…), metric \
`{settings["metric"]}`. {summary["verdict"]}

How: {made}. Prompt: `{prompt}`, then `{completion}`.

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("THIS FOLDER")
```

```sh
vllm serve {model} --enable-lora --max-lora-rank {config["lora_rank"]} --lora-modules {arm}=THIS_FOLDER
```
"""


def prediction_rows(result: Validation) -> list[dict[str, Any]]:
    """One row per arm, seed and test example."""
    percentiles = [None if math.isnan(p) else float(p) for p in result.inputs.test.percentiles]
    counts = result.inputs.answer_counts.tolist()
    examples = result.inputs.test.examples
    few_shot = next((run for run in result.runs if is_untouched(run.arm) and run.arm != BASE), None)
    known = [p.correct for p in few_shot.predictions] if few_shot else [None] * len(examples)
    others = [e and e.subject for e in swapped(examples)] if result.knowledge else [None] * len(examples)
    return [
        {
            "arm": run.arm,
            "seed": run.seed,
            **asdict(run.predictions[n]),
            "question": example.question,
            "answers": list(example.answers),
            "popularity_percentile": percentiles[n],
            "subject": example.subject,
            "relation": example.relation,
            "answer_count": counts[n],
            "known": known[n],
            "generic": result.is_generic(example, run.predictions[n].prediction),
            "nats": run.knowledge["nats"][n] if run.knowledge else None,
            "swapped_subject": others[n],
            "swapped_prediction": run.knowledge["swapped"][n] if run.knowledge else None,
            "few_shot_prediction": run.few_shot[n].prediction if run.few_shot else None,
            "few_shot_correct": run.few_shot[n].correct if run.few_shot else None,
        }
        for run in result.runs
        for n, example in enumerate(examples)
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
