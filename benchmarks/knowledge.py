"""Which score tells what a model knows? AUC of several against whether it answers, on PopQA.

    python benchmarks/knowledge.py MODEL popQA.tsv [--rows 1200] [--only contrast] [--output FILE.json]

Known is what the model answers greedily after four solved examples of the same relation, other ones than any estimator
sees. The AUC is how well a score tells known from unknown (0.5 is chance), over all rows, inside relations, among rare
answers, and inside groups of the same relation and answer: that of `curate show --agreement`. Contrast is the subject
contrast of examples/contrast_estimator.py. With --only, the scores whose name holds that text. The file has an entry a
model, whose other scores stay as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import curate
from curate.lm.generate import greedy_answers
from curate.lm.model import LoadedModel, load_model
from curate.prompts import TEMPLATES, draw_exemplars
from curate.show import agreement

LEAST_ROWS = 70
"""Rows of a relation that is asked about."""

CONTRAST = "contrast_estimator:ContrastEstimator"
SCORES: dict[str, tuple[str, dict[str, Any]]] = {
    "page views (s_pop)": ("column:s_pop", {}),
    "loss, zero-shot": ("loss", {"shots": 0}),
    "loss, 4 shots": ("loss", {}),
    "loss, 4 shots, best answer": ("loss", {"answers": "best"}),
    "known, exact": ("known", {}),
    "contrast, zero-shot": (CONTRAST, {}),
    "contrast, 4 shots": (CONTRAST, {"shots": 4}),
}


def answered(loaded: LoadedModel, frame: pd.DataFrame, seed: int) -> np.ndarray:
    """Whether the greedy answer after four solved examples of a seed of their own contains an accepted answer."""
    examples = curate.read(frame).examples()
    exemplars = draw_exemplars(TEMPLATES["qa"], examples, 4, sets=(f"truth-{seed}",))[0]
    said = greedy_answers(loaded, [exemplars.prefix(e) + TEMPLATES["qa"].ask(e) for e in examples])
    return np.array([any(a.lower() in s.lower() for a in e.answers) for e, s in zip(examples, said, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("popqa", type=Path)
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--only", default="")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    frame = pd.read_csv(given.popqa, sep="\t")
    frame = frame[frame.groupby("prop")["prop"].transform("size") >= LEAST_ROWS]
    frame = frame.sample(min(given.rows, len(frame)), random_state=0).reset_index(drop=True)
    loaded = load_model(given.model)
    found, seconds = frame.assign(known_greedy=answered(loaded, frame, seed=1).astype(float)), {}
    sys.path.append(str(Path(__file__).parents[1] / "examples"))
    for name, (by, options) in ((name, score) for name, score in SCORES.items() if given.only in name):
        started = time.perf_counter()
        scored = curate.score(frame, by, model=given.model, **options)
        seconds[name] = time.perf_counter() - started
        (column,) = (column for column in scored if column.startswith("score_"))
        found[f"score_{name}"] = scored[column]
    told = agreement(curate.read(found))
    known = told["known"]
    table = pd.DataFrame(known["auc"]).T.assign(seconds=pd.Series(seconds))
    print(f"{told['compared']} rows, {100 * known['known'] / told['compared']:.1f}% known")
    print(table.round(2).to_string())
    if given.output:
        models = (
            {model["model"]: model for model in json.loads(given.output.read_text())} if given.output.exists() else {}
        )
        about = {"model": loaded.name, "rows": told["compared"], "known": known["known"] / told["compared"]}
        entry = models.get(loaded.name, {})
        others = entry if about.items() <= entry.items() else {"auc": {}, "seconds": {}}
        measured = {"auc": known["auc"], "seconds": seconds}
        models[loaded.name] = {**about, **{name: others[name] | found for name, found in measured.items()}}
        given.output.write_text(json.dumps([*models.values()], indent=2) + "\n")


if __name__ == "__main__":
    main()
