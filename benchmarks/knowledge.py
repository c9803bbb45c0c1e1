"""Which score tells what a model knows? AUC of several against whether it answers, on PopQA.

    python benchmarks/knowledge.py MODEL popQA.tsv [--rows 1200] [--only contrast] [--output FILE.json]
    python benchmarks/knowledge.py MODEL popQA.tsv --dtype bfloat16 --losses [--output FILE.json]
    python benchmarks/knowledge.py MODEL popQA.tsv --rows 500 --dtype bfloat16 --modes [--output FILE.json]

Known is what the model answers greedily after four solved examples of the same relation, other ones than any estimator
sees. The AUC is how well a score tells known from unknown (0.5 is chance), over all rows, inside relations, among rare
answers, and inside groups of the same relation and answer: that of `curate show --agreement`. Contrast is the subject
contrast of examples/contrast_estimator.py. With --only, the scores whose name holds that text. The file has an entry a
model, whose other scores stay as they are.

With --losses instead: what can be made of the loss after four solved examples, from one pass over all accepted answers:
of the first or the best of them or their chances summed up, by token or as a sum, the end of the line included or not.

With --modes instead: `known` without generating beside what is said, greedily and in samples; seconds are those of the
processor, the model being loaded before.
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
import torch

import curate
from curate.estimators.known import CLASSES, KnownEstimator, KnownSettings
from curate.lm.forward import Measure
from curate.lm.generate import greedy_answers
from curate.lm.loss import _read, line_ends
from curate.lm.model import LoadedModel, load_model
from curate.lm.packing import LINE_END
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
    "loss, 4 shots, sum": ("loss", {"reduction": "sum"}),
    "loss, 4 shots, best answer, sum": ("loss", {"answers": "best", "reduction": "sum"}),
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


def split_loss(ends: torch.Tensor) -> Measure:
    """Of every token its loss, and apart from it that of the end of the line, in nats: (N, 2)"""

    def measure(logits: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        chances, last = torch.log_softmax(logits.float(), -1), (tokens == LINE_END).float()
        end = -torch.logsumexp(chances[:, ends], -1)[rows]
        return torch.stack([-chances[rows, tokens.clamp(min=0)] * (1 - last), end * last], dim=1)

    return measure


def losses(loaded: LoadedModel, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Scores of every row, one for each way to make one of its losses."""
    template, examples = TEMPLATES["qa"], list(curate.read(frame).examples())
    (shots,) = draw_exemplars(template, examples, 4)
    asked = [(n, a) for n, e in enumerate(examples) for a in dict.fromkeys(e.answers)]
    pairs = [(shots.prefix(examples[n]) + template.ask(examples[n]), template.render_completion(a)) for n, a in asked]
    read = _read(loaded, pairs, split_loss(line_ends(loaded)), None, lambda share, tokens: None, with_end=True)
    rows = [(n, loss.tokens - 1, *(sums or (np.nan, np.nan))) for (n, _), (loss, sums) in zip(asked, read, strict=True)]
    table = pd.DataFrame(rows, columns=["row", "tokens", "nats", "end"])
    found: dict[str, np.ndarray] = {}
    for end in ("", " and end"):
        nats = table["nats"] + (table["end"] if end else 0)
        for how, loss in (("token-mean", nats / (table["tokens"] + bool(end))), ("sum", nats)):
            found[f"first, {how}{end}"] = -loss.groupby(table["row"]).first().to_numpy()
            found[f"best, {how}{end}"] = -loss.groupby(table["row"]).min().to_numpy()
        found[f"all chances summed up{end}"] = np.log(np.exp(-nats).groupby(table["row"]).sum().clip(lower=1e-300))
    return found


def modes(loaded: LoadedModel, given: argparse.Namespace, frame: pd.DataFrame) -> dict[str, Any]:
    """How far `known` exact agrees with `known` sampled, and what each costs."""
    data, found, seconds = curate.read(frame), {}, {}
    for mode in ("exact", "sampled"):
        estimator = KnownEstimator(KnownSettings(model=given.model, dtype=given.dtype, known_mode=mode), loaded)
        estimator.draw(data.examples)
        started = time.process_time()
        scores = list(estimator.score(list(data.examples())))
        seconds[mode] = round(time.process_time() - started)
        found[mode] = pd.DataFrame([{**(s.evidence or {}), "score": s.value} for s in scores])
    exact, sampled = found["exact"], found["sampled"]
    counts = {
        mode: table["class"].value_counts().reindex(CLASSES, fill_value=0).tolist() for mode, table in found.items()
    }
    return {
        "model": loaded.name,
        "dtype": given.dtype,
        "rows": len(frame),
        "seconds": seconds,
        "classes": {"names": list(CLASSES), **counts},
        "same_class": float((exact["class"] == sampled["class"]).mean()),
        "same_greedy_share": float((exact["greedy"] == sampled["greedy"]).mean()),
        "greedy_answers_that_differ": round(10 * float((exact["greedy"] - sampled["greedy"]).abs().sum())),
        "sampled_rank_correlation": float(exact["sampled"].corr(sampled["sampled"], method="spearman")),
        "sampled_correlation": float(exact["sampled"].corr(sampled["sampled"])),
        "sampled_mean": {mode: float(table["sampled"].mean()) for mode, table in found.items()},
        "score_correlation": float(exact["score"].corr(sampled["score"])),
    }


def write(output: Path | None, entry: dict[str, Any]) -> None:
    """Print what was found of a model, and put it in place of what the file has of it."""
    print(json.dumps(entry, indent=2))
    if output:
        others = json.loads(output.read_text()) if output.exists() else []
        kept = [other for other in others if other["model"] != entry["model"]]
        output.write_text(json.dumps([*kept, entry], indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("popqa", type=Path)
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", default="")
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--modes", action="store_true")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    frame = pd.read_csv(given.popqa, sep="\t")
    frame = frame[frame.groupby("prop")["prop"].transform("size") >= LEAST_ROWS]
    frame = frame.sample(min(given.rows, len(frame)), random_state=0).reset_index(drop=True)
    loaded = load_model(given.model, given.dtype)
    if given.modes:
        write(given.output, modes(loaded, given, frame))
        return
    found, seconds = frame.assign(known_greedy=answered(loaded, frame, seed=1).astype(float)), {}
    if given.losses:
        made = found.assign(**{f"score_{name}": scores for name, scores in losses(loaded, frame).items()})
        told = agreement(curate.read(made))["known"]
        write(given.output, {"model": loaded.name, "dtype": given.dtype, "rows": len(frame), **told})
        return
    sys.path.append(str(Path(__file__).parents[1] / "examples"))
    for name, (by, options) in ((name, score) for name, score in SCORES.items() if given.only in name):
        started = time.perf_counter()
        scored = curate.score(frame, by, model=given.model, dtype=given.dtype, **options)
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
