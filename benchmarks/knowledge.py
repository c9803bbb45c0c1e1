"""Which score tells what a model knows? AUC of several against whether it answers, on PopQA.

    python benchmarks/knowledge.py MODEL popQA.tsv [--rows 1200] [--output FILE.json]

Known is what the model answers greedily after four solved examples of the same relation, other ones than any estimator
sees. The AUC is how well a score tells known from unknown (0.5 is chance): over all rows; inside each relation; among
rows whose answer occurs at most 4 times; and inside groups of the same relation and answer, since a common one can be
right by guessing. Inside groups it is the mean over groups, weighted by their pairs of a known and an unknown row.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

import curate
from curate.lm.generate import greedy_answers
from curate.lm.model import LoadedModel, load_model
from curate.prompts import TEMPLATES, draw_exemplars

LEAST_ROWS = 70
"""Rows of a relation that is asked about."""


def auc(scores: np.ndarray, known: np.ndarray, groups: Sequence[np.ndarray] = ()) -> float:
    """The share of pairs of a known and an unknown row, inside groups, in which the known one has the higher score."""
    right = pairs = 0.0
    for rows in groups or [np.arange(len(scores))]:
        ranks, yes = rankdata(scores[rows]), known[rows]
        n, m = int(yes.sum()), int((~yes).sum())
        pairs += n * m
        right += ranks[yes].sum() - n * (n + 1) / 2
    return right / pairs if pairs else float("nan")


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
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    frame = pd.read_csv(given.popqa, sep="\t")
    frame = frame[frame.groupby("prop")["prop"].transform("size") >= LEAST_ROWS]
    frame = frame.sample(min(given.rows, len(frame)), random_state=0).reset_index(drop=True)
    loaded = load_model(given.model)
    known = answered(loaded, frame, seed=1)
    first = frame["possible_answers"].map(lambda cell: json.loads(cell)[0])
    frequency = first.groupby([frame["prop"], first]).transform("size")
    relations = list(frame.groupby("prop").indices.values())
    alike = list(first.groupby([frame["prop"], first]).indices.values())
    rare = np.flatnonzero(frequency <= 4)
    rows, seconds = {}, {}
    for name, by, options in (
        ("page views (s_pop)", "column:s_pop", {}),
        ("loss, zero-shot", "loss", {"shots": 0}),
        ("loss, 4 shots", "loss", {}),
        ("loss, 4 shots, best answer", "loss", {"answers": "best"}),
        ("known, exact", "known", {}),
    ):
        started = time.perf_counter()
        scored = curate.score(frame, by, model=given.model, **options)
        seconds[name] = time.perf_counter() - started
        scores = scored[f"score_{by.partition(':')[2] or by}"].to_numpy(float)
        rows[name] = {
            "all": auc(scores, known),
            "inside relations": auc(scores, known, relations),
            "rare answers": auc(scores[rare], known[rare]),
            "same relation and answer": auc(scores, known, alike),
        }
    table = pd.DataFrame(rows).T
    table["seconds"] = pd.Series(seconds)
    print(f"{len(frame)} rows, {100 * known.mean():.1f}% known")
    print(table.round(2).to_string())
    if given.output:
        found = {
            "model": loaded.name,
            "rows": len(frame),
            "known": float(known.mean()),
            "auc": rows,
            "seconds": seconds,
        }
        given.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
