"""Try ways of finetuning on the random half, with a seed and a test set apart from those that are reported.

    python examples/popqa_world/choose.py WORK/popqa/questions/all.parquet s_pop WORK/popqa/model OUT

What is chosen by is the accuracy of the random half alone, so that no setting can favour top or bottom.
"""

from __future__ import annotations

import sys
from pathlib import Path

import curate

TRIED = [
    {"method": "lora", "learning_rate": 1e-3},
    {"method": "lora", "learning_rate": 3e-3},
    {"method": "full", "learning_rate": 3e-4},
    {"method": "full", "learning_rate": 1e-3},
]
SEED = 100


def main() -> None:
    questions, views, model, out = sys.argv[1:]
    scored = curate.score(questions, f"column:{views}")
    splits = curate.select(scored, random=0.5, holdout=0.2, seed=SEED)
    for tried in TRIED:
        name = f"{tried['method']}-{tried['learning_rate']}"
        result = curate.validate(
            {"random": splits["random"]},
            eval=splits["holdout"],
            by=views,
            model=model,
            output=Path(out) / name,
            seeds=[SEED],
            batch_size=32,
            max_steps=200,
            **tried,
        )
        run = result.of("random")[0]
        rows = [(row["step"], row["held_out_accuracy"]) for row in run.training if row["held_out_accuracy"] is not None]
        print(name, f"{result.arm_rows()[1]['accuracy']:.3f}", f"best step {run.steps}", rows, flush=True)


if __name__ == "__main__":
    main()
