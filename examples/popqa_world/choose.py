"""Try ways of finetuning, with a seed and a test set apart from those that are reported.

    python examples/popqa_world/choose.py WORK/popqa/questions/all.parquet s_pop WORK/popqa/model OUT
    python examples/popqa_world/choose.py WORK/popqa/questions/all.parquet s_pop WORK/popqa/model OUT --controlled

What is chosen by is the accuracy of the random half alone, or with `--controlled`, which has no random half, the mean
of top and bottom: no setting can favour either.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import curate

METHODS = [
    {"method": "lora", "learning_rate": 1e-3, "max_steps": 200},
    {"method": "lora", "learning_rate": 3e-3, "max_steps": 200},
    {"method": "full", "learning_rate": 3e-4, "max_steps": 200},
]
STEPS = [{"method": "lora", "learning_rate": 1e-3, "max_steps": steps} for steps in (10, 20, 40)]
CONTROLLED = {"country", "sport", "occupation"}
SEED = 100


def main() -> None:
    parser = argparse.ArgumentParser(description="Choose how to finetune.")
    for name in ("questions", "views", "model", "out"):
        parser.add_argument(name)
    parser.add_argument("--controlled", action="store_true")
    given = parser.parse_args()
    scored = curate.score(given.questions, f"column:{given.views}")
    if given.controlled:
        where = [f"relation={','.join(sorted(CONTROLLED))}"]
        splits = curate.select(scored, where=where, top=0.5, bottom=0.5, controlled_by="relation", seed=SEED)
        arms = {name: splits[name] for name in ("top", "bottom")}
    else:
        splits = curate.select(scored, random=0.5, holdout=0.2, seed=SEED)
        arms = {"random": splits["random"]}
    test = splits["test" if given.controlled else "holdout"]
    for tried in STEPS if given.controlled else METHODS:
        name = "-".join(map(str, tried.values()))
        folder = Path(given.out) / name
        result = curate.validate(
            arms, eval=test, by=given.views, model=given.model, output=folder, seeds=[SEED], batch_size=32, **tried
        )
        print(name, *[f"{row['arm']} {100 * row['accuracy']:.1f}" for row in result.arm_rows()], flush=True)


if __name__ == "__main__":
    main()
