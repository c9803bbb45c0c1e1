"""Which part of PopQA makes a pretrained model better at facts? Scores, splits and finetunings, and one table.

    python examples/real_models/run.py MODEL popQA.tsv WORK                  # three seeds; goes on where it stopped
    python examples/real_models/run.py MODEL popQA.tsv WORK --limit 300 --seeds 1 --only relation
    python examples/real_models/run.py MODEL popQA.tsv WORK --jobs 20        # on a GPU: so many trainings side by side

MODEL is a folder or the name of a model, such as HuggingFaceTB/SmolLM2-135M. Relations of fewer than 70 rows are left
out. Three tenths of the questions, about other subjects, are the test. Arms are drawn from the rest: inside relations
by the few-shot loss; the same with the mix of answers held fixed; by `known` and its classes; and a ladder of sizes.
An arm of 1,000 examples, 120 steps and three seeds takes a model of 135M about 13 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from curate.validation.statistics import OFTEN, answer_groups, cluster_codes, compare_arms, equal_mix, standard_error

LEAST_ROWS = 70
HALVES = ("--top", "0.5", "--bottom", "0.5")
BANDS = ("--band", "20:70", "--band", "0:70")
FOLDERS = {
    "relation": ("--by", "loss", *HALVES, *BANDS, "--random", "0.5", "--whole", "--stratify-by", "relation"),
    "answer-mix": ("--by", "loss", *HALVES, *BANDS, "--random", "0.5", "--stratify-by", "relation,answer-frequency"),
    "known": ("--by", "known", *HALVES, *BANDS, "--stratify-by", "relation"),
    "classes": ("--by", "known", "--known", "highly", "--known", "maybe", "--mix", "maybe=0.7,highly=0.3"),
    "sizes": ("--by", "loss", "--top", "960", "--random", "960", "--sizes", "60,240,960"),
}
"""Folders of arms, the most important first, and how `curate select` makes them."""
TRAINING = ("--learning-rate", "1e-3", "--held-out", "0", "--dtype", "float32", "--by", "loss")


def curate(*arguments: object) -> None:
    """A command of curate, its messages kept for an error."""
    command = [sys.executable, "-m", "curate", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-2000:]}")


def prepare(model: str, popqa: Path, work: Path, limit: int | None) -> None:
    """The scored questions, the test set, and all folders of arms."""
    frame = pd.read_csv(popqa, sep="\t")
    frame = frame[frame.groupby("prop")["prop"].transform("size") >= LEAST_ROWS]
    if limit:
        frame = frame.sample(min(limit, len(frame)), random_state=0).sort_index()
    frame.to_parquet(work / "questions.parquet", index=False)
    curate("score", work / "questions.parquet", "--by", "loss", "--by", "known", "--model", model,
           "-o", work / "scored.parquet")  # fmt: skip
    curate(
        "select", work / "scored.parquet", "--by", "loss", "--whole", "--holdout", 0.3, "-o", work / "parts", "--force"
    )


def select(work: Path, folder: str) -> list[Path]:
    """The arms of a folder."""
    pool = work / "parts" / "whole.parquet"
    options = [*FOLDERS[folder]]
    classes = pd.read_parquet(pool)["known_class"].value_counts()
    if folder == "classes":  # as many as there are of both classes in these shares
        size = int(min(classes.get("MaybeKnown", 0) / 0.7, classes.get("HighlyKnown", 0) / 0.3))
        options += ["--size", str(size)]
    curate("select", pool, *options, "-o", work / "splits" / folder, "--force")
    return sorted(path for path in (work / "splits" / folder).glob("*.parquet"))


def validate(model: str, work: Path, arm: Path, seeds: int, steps: int) -> None:
    """One arm, in a run of its own, so that many can go on side by side; with more seeds it goes on."""
    run = work / "runs" / arm.parent.name / arm.stem
    run.parent.mkdir(parents=True, exist_ok=True)
    knowledge = "--knowledge" if arm.parent.name == "relation" else "--no-knowledge"
    curate("validate", arm, "--eval", work / "parts" / "holdout.parquet", "--model", model, "--seeds", seeds,
           "--max-steps", steps, *TRAINING, knowledge, "-o", run)  # fmt: skip
    print(f"{arm.parent.name}/{arm.stem}: {seeds} seeds", flush=True)


def table(work: Path) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Accuracy of every arm that is done, overall and by how common the answer is; and paired differences."""
    test = pd.read_parquet(work / "parts" / "holdout.parquet").set_index("curate_id")
    pool = pd.read_parquet(work / "parts" / "whole.parquet")
    first = lambda frame: frame["prop"] + "/" + frame["obj"].str.lower()  # noqa: E731
    often = first(test).map(first(pool).value_counts()).fillna(0).to_numpy(int)
    groups = answer_groups(often)
    weights = equal_mix(first(test).tolist())
    clusters = cluster_codes(test["subj"].tolist())
    correct: dict[str, np.ndarray] = {}
    rows: list[dict[str, object]] = []
    for path in sorted((work / "runs").glob("*/*/predictions.parquet")):
        name = f"{path.parent.parent.name}/{path.parent.name}"
        split = work / "splits" / f"{name}.parquet"
        if not split.exists():  # an arm of earlier options
            continue
        said = pd.read_parquet(path)
        for arm, own in said.groupby("arm", sort=False):
            label = name if arm == path.parent.name else "untouched model"
            by_seed = own.pivot(index="seed", columns="id", values="correct")[test.index].to_numpy(float)
            if label not in correct:
                correct[label] = by_seed
                n = len(pd.read_parquet(split)) if label == name else 0
                bands = {str(g["answer"]): by_seed[:, members].mean() for g, members in groups}
                rows.append({"arm": label, "examples": n, "seeds": len(by_seed), "accuracy": by_seed.mean(),
                             "stderr": standard_error(by_seed)} | bands)  # fmt: skip
    others = [arm for arm in correct if arm not in ("relation/random", "untouched model")]
    pairs = [(arm, "relation/random") for arm in others if "relation/random" in correct]
    pairs += [(f"{f}/top", f"{f}/bottom") for f in FOLDERS if {f"{f}/top", f"{f}/bottom"} <= correct.keys()]
    found = compare_arms(correct, pairs, clusters, weights) if pairs else []
    fields = ("a", "b", "difference", "low", "high", "p_adjusted", "equal_mix", "equal_mix_low", "equal_mix_high")
    return rows, [{field: getattr(d, field) for field in fields} for d in found]


def points(value: object) -> str:
    return "" if value is None else f"{100 * float(str(value)):.1f}"


def markdown(rows: list[dict[str, object]], differences: list[dict[str, object]]) -> str:
    """Both tables, in per cent and points."""
    bands = [name for name in OFTEN.values() if name in rows[0]]
    lines = [f"| arm | examples | accuracy | {' | '.join(bands)} |", "| --- |" + " ---: |" * (2 + len(bands))]
    for row in sorted(rows, key=lambda row: -float(str(row["accuracy"]))):
        spread = f" ± {points(row['stderr'])}" if row["stderr"] is not None else ""
        cells = " | ".join(points(row[band]) for band in bands)
        lines.append(f"| {row['arm']} | {row['examples']} | {points(row['accuracy'])}{spread} | {cells} |")
    lines += ["", "| difference | points (95%) | Holm's p | at equal answer mix |", "| --- | ---: | ---: | ---: |"]
    for d in differences:
        mixed = f"{points(d['equal_mix'])} ({points(d['equal_mix_low'])} to {points(d['equal_mix_high'])})"
        lines.append(
            f"| {d['a']} − {d['b']} | {points(d['difference'])} ({points(d['low'])} to {points(d['high'])}) "
            f"| {float(str(d['p_adjusted'])):.3f} | {mixed} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("popqa", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--limit", type=int, help="rows of PopQA")
    parser.add_argument("--only", default=",".join(FOLDERS), help="folders of arms, with commas")
    parser.add_argument("--arms", help="these arms alone: relation/top,known/top")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if not (given.work / "parts" / "holdout.parquet").exists():
        prepare(given.model, given.popqa, given.work, given.limit)
    if given.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"
    with ThreadPoolExecutor(given.jobs) as side_by_side:
        folders = given.only.split(",")
        arms = [arm for some in side_by_side.map(lambda f: select(given.work, f), folders) for arm in some]
        if given.arms:
            arms = [arm for arm in arms if f"{arm.parent.name}/{arm.stem}" in given.arms.split(",")]
        going = [side_by_side.submit(validate, given.model, given.work, arm, given.seeds, given.steps) for arm in arms]
    for arm, done in zip(arms, going, strict=True):  # the table is made of those that could be trained
        if (problem := done.exception()) is not None:
            print(f"{arm}: {problem}", file=sys.stderr)
    rows, differences = table(given.work)
    text = markdown(rows, differences)
    (given.work / "table.md").write_text(text)
    (given.work / "table.json").write_text(json.dumps({"arms": rows, "differences": differences}, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    main()
