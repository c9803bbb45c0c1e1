"""Which part of a QA dataset makes a pretrained model better at facts? Scores, splits and finetunings, and one table.

    python examples/real_models/run.py MODEL popQA.tsv WORK             # three seeds; goes on where it stopped
    python examples/real_models/run.py MODEL entityquestions/ WORK      # its train/ and test/
    python examples/real_models/run.py MODEL mmlu/ WORK                 # its test/ and dev/: the history subjects
    python examples/real_models/run.py MODEL popQA.tsv WORK --limit 800 --seeds 1 --steps 60 --only relation
    python examples/real_models/run.py MODEL popQA.tsv WORK --jobs 8    # on a GPU: so many folders of arms side by side

MODEL is a folder or the name of a model, such as HuggingFaceTB/SmolLM2-135M. Of PopQA relations of fewer than 70 rows
are left out, and three tenths of the questions, about other subjects, are the test; of EntityQuestions each of the 24
relations gives 100 questions to train on and 167 to test; of MMLU-History one half of the test split trains. Arms are
drawn from what trains: inside relations by the few-shot loss (MMLU: the loss of the letters, five shots); the same with
the mix of answers held fixed; by `known` and its classes; and a ladder of sizes. An arm of 1,000 examples, 120 steps
and three seeds takes a model of 135M about 13 minutes on one core.
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
TRAIN_ROWS, TEST_ROWS = 100, 167
HALVES = ("--top", "0.5", "--bottom", "0.5")
BANDS = ("--band", "20:70", "--band", "0:70")
OTHERS = ("--random", "0.5", "--whole")
FOLDERS = {
    "relation": ("--by", "loss", *HALVES, *BANDS, *OTHERS, "--stratify-by", "relation"),
    "answer-mix": ("--by", "loss", *HALVES, *BANDS, "--random", "0.5", "--stratify-by", "relation,answer-frequency"),
    "known": ("--by", "known", *HALVES, *BANDS, "--stratify-by", "relation"),
    "classes": ("--by", "known", "--known", "highly", "--known", "maybe", "--mix", "maybe=0.7,highly=0.3"),
    "sizes": ("--by", "loss", "--top", "960", "--random", "960", "--sizes", "60,240,960"),
}
"""Folders of arms, the most important first, and how `curate select` makes them."""
MADE_OF = {"popqa": tuple(FOLDERS), "entityquestions": ("relation", "answer-mix", "known"), "mmlu": ("relation",)}
TRAINING = ("--learning-rate", "1e-3", "--held-out", "0", "--by", "loss")


def curate(*arguments: object) -> None:
    """A command of curate, its messages kept for an error."""
    command = [sys.executable, "-m", "curate", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-2000:]}")


def kind_of(data: Path) -> str:
    """popqa, entityquestions or mmlu, by what is there."""
    if data.is_file():
        return "popqa"
    return "entityquestions" if (data / "train").is_dir() else "mmlu"


def prepare(model: str, data: Path, work: Path, limit: int | None, known: bool) -> None:
    """The scored questions in two parts: `whole`, from which arms are drawn, and `holdout`, the test."""
    kind = kind_of(data)
    scored, parts, split = work / "scored.parquet", work / "parts", ("--by", "loss", "--whole", "--force", "-o")
    if kind == "mmlu":
        curate("score", data / "test", "--by", "loss", "--shots", 5, "--shots-from", data / "dev", "--preset", "mmlu",
               "--model", model, "-o", scored)  # fmt: skip
        curate("select", scored, *split, parts, "--holdout", 0.5, "--holdout-by", "question")
        return
    frame = popqa(data) if kind == "popqa" else entityquestions(data)
    if limit:
        frame = frame.sample(min(limit, len(frame)), random_state=0).sort_index()
    frame.to_parquet(work / "questions.parquet", index=False)
    by = ("--by", "loss", "--by", "known") if known else ("--by", "loss")
    curate("score", work / "questions.parquet", *by, "--model", model, "-o", scored)
    if kind == "popqa":
        curate("select", scored, *split, parts, "--holdout", 0.3)
    else:
        curate("select", scored, *split, parts, "--where", "part=train")
        curate("select", scored, *split, work / "test", "--where", "part=test")
        (work / "test" / "whole.parquet").rename(parts / "holdout.parquet")


def popqa(data: Path) -> pd.DataFrame:
    """PopQA, without small relations."""
    frame = pd.read_csv(data, sep="\t")
    return frame[frame.groupby("prop")["prop"].transform("size") >= LEAST_ROWS]


def entityquestions(data: Path) -> pd.DataFrame:
    """A seeded sample of every relation's questions: `question`, `answers`, `relation`, and the `part` they are for."""
    frames = []
    for part, rows in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
        for path in sorted((data / part).glob("*.json")):
            frame = pd.read_json(path).drop_duplicates("question")
            frame = frame.sample(min(rows, len(frame)), random_state=0)
            frames.append(frame.assign(relation=path.name.split(".")[0], part=part))
    return pd.concat(frames).drop_duplicates("question")


def validate(model: str, work: Path, folder: str, seeds: int, steps: int, dtype: str) -> None:
    """A folder of arms, drawn and validated; a run that was stopped goes on, also with more seeds."""
    pool, splits = work / "parts" / "whole.parquet", work / "splits" / folder
    options = [*FOLDERS[folder]]
    names = pd.read_parquet(pool).columns
    if folder == "classes":  # as many as there are of both classes in these shares
        classes = pd.read_parquet(pool)["known_class"].value_counts()
        size = int(min(classes.get("MaybeKnown", 0) / 0.7, classes.get("HighlyKnown", 0) / 0.3))
        options += ["--size", str(size)]
    curate("select", pool, *options, "-o", splits, "--force")
    more = ("--knowledge", "--arm-shots", 4) if folder == "relation" and "known_class" in names else ("--no-knowledge",)
    curate("validate", splits, "--eval", work / "parts" / "holdout.parquet", "--model", model, "--seeds", seeds,
           "--max-steps", steps, "--dtype", dtype, *TRAINING, *more, "-o", work / "runs" / folder)  # fmt: skip
    print(f"{folder}: done", flush=True)


def first_answers(frame: pd.DataFrame) -> pd.Series:
    """The first accepted answer and its relation; with choices every question is one of its own."""
    if "obj" in frame:
        return frame["prop"] + "/" + frame["obj"].str.lower()
    return frame["relation"] + "/" + frame["answers"].str[0].str.lower() if "answers" in frame else frame["question"]


def table(work: Path) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Accuracy of every arm that is done, overall and by how common the answer is; and paired differences."""
    test = pd.read_parquet(work / "parts" / "holdout.parquet").set_index("curate_id")
    pool = pd.read_parquet(work / "parts" / "whole.parquet")
    often = first_answers(test).map(first_answers(pool).value_counts()).fillna(0).to_numpy(int)
    groups = answer_groups(often)
    weights = equal_mix(first_answers(test).tolist())
    clusters = cluster_codes(test["subj" if "subj" in test else "question"].tolist())
    correct: dict[str, np.ndarray] = {}
    rows: list[dict[str, object]] = []
    for path in sorted((work / "runs").glob("*/predictions.parquet")):
        folder = path.parent.name
        for arm, own in pd.read_parquet(path).groupby("arm", sort=False):
            split = work / "splits" / folder / f"{arm}.parquet"
            label = f"{folder}/{arm}" if split.exists() else f"untouched model{str(arm).removeprefix('base')}"
            if label in correct:
                continue
            by_seed = own.pivot(index="seed", columns="id", values="correct")[test.index].to_numpy(float)
            correct[label] = by_seed
            bands = {str(g["answer"]): by_seed[:, members].mean() for g, members in groups}
            rows.append({"arm": label, "examples": len(pd.read_parquet(split)) if split.exists() else 0,
                         "seeds": len(by_seed), "accuracy": by_seed.mean(), "stderr": standard_error(by_seed)}
                        | bands)  # fmt: skip
    arms = {str(row["arm"]) for row in rows if row["examples"]}
    others = [arm for arm in correct if arm in arms and arm != "relation/random"]
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
    parser.add_argument("data", type=Path, help="popQA.tsv, or the folder of EntityQuestions or MMLU")
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument(
        "--dtype", default="float32", help="of training; bfloat16 takes half the time where a CPU has AMX"
    )
    parser.add_argument("--limit", type=int, help="rows of the data")
    parser.add_argument("--only", help="folders of arms, with commas: " + ",".join(FOLDERS))
    parser.add_argument("--jobs", type=int, default=1, help="folders side by side")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    folders = given.only.split(",") if given.only else MADE_OF[kind_of(given.data)]
    if not (given.work / "parts" / "holdout.parquet").exists():
        prepare(given.model, given.data, given.work, given.limit, not {"known", "classes"}.isdisjoint(folders))
    if given.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"
    with ThreadPoolExecutor(given.jobs) as side_by_side:
        going = [
            side_by_side.submit(validate, given.model, given.work, folder, given.seeds, given.steps, given.dtype)
            for folder in folders
        ]
    for folder, done in zip(folders, going, strict=True):  # the table is made of those that could be trained
        if (problem := done.exception()) is not None:
            print(f"{folder}: {problem}", file=sys.stderr)
    rows, differences = table(given.work)
    text = markdown(rows, differences)
    (given.work / "table.md").write_text(text)
    (given.work / "table.json").write_text(json.dumps({"arms": rows, "differences": differences}, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    main()
