"""What several accepted answers, and four solved examples, cost beside a question alone: seconds as a ratio.

    python benchmarks/loss_answers.py --data popQA.tsv -o benchmarks/results/loss_answers.json

The same questions, the models of loss_vs_lm_eval.py, in turn in one process; each time is the best of the rounds, in
seconds of the processor, which other work on the machine disturbs less than seconds of the clock.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loss_vs_lm_eval import make_model

from curate.data.table import read
from curate.estimators.loss import SHOTS, LossEstimator, LossSettings
from curate.lm.model import LoadedModel
from curate.prompts import DEFAULT
from curate.records import Example
from curate.scoring import CHUNK

ANSWERS = {answers: LossSettings(answers=answers, shots=0) for answers in ("first", "best", "all-mean")}
EXEMPLARS = {f"{shots} shots": LossSettings(shots=shots) for shots in (0, SHOTS)}
CASES = (("3M", 600, ANSWERS), ("34M", 100, ANSWERS), ("3M", CHUNK, EXEMPLARS), ("34M", CHUNK, EXEMPLARS))
"""Model, questions, and the ways to ask them that are compared with the first of these."""


class Timed:
    """Seconds and tokens of one way to ask; solved examples are drawn from all `examples`."""

    def __init__(self, model: LoadedModel, settings: LossSettings, examples: list[Example]) -> None:
        self.estimator = LossEstimator(settings, model)
        self.estimator.draw(lambda: examples)
        self.seconds = float("inf")
        self.tokens = 0

    def run(self, examples: list[Example]) -> None:
        self.tokens = 0
        self.estimator.report = self._count
        started = time.process_time()
        list(self.estimator.score(examples))
        self.seconds = min(self.seconds, time.process_time() - started)

    def _count(self, share: float, tokens: int) -> None:
        self.tokens += tokens


def compare(
    model: LoadedModel, asked: Mapping[str, LossSettings], examples: list[Example], count: int, rounds: int
) -> dict[str, Any]:
    """Tokens and seconds of each way, and its seconds as multiples of those of the first."""
    ways = {name: Timed(model, settings, examples) for name, settings in asked.items()}
    few = examples[:count]
    for _ in range(rounds):
        for way in ways.values():
            way.run(few)
    least = next(iter(ways.values())).seconds
    return {
        "questions": len(few),
        "answers_a_question": round(sum(len(e.answers) for e in few) / len(few), 2),
        "tokens": {name: way.tokens for name, way in ways.items()},
        "seconds": {name: round(way.seconds, 2) for name, way in ways.items()},
        "ratio": {name: round(way.seconds / least, 2) for name, way in ways.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a dataset with several answers a question, such as PopQA")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of questions")
    parser.add_argument("--only", type=int, nargs="+", default=range(len(CASES)), help="these cases, counted from 0")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    data = read(options.data)
    examples = [e for e in data.examples() if e.question and e.answers]
    random.Random(0).shuffle(examples)
    texts = [DEFAULT.ask(e) + DEFAULT.render_completion(a) for e in examples for a in e.answers]
    results = []
    for size, count, asked in (CASES[number] for number in options.only):
        result = compare(make_model(size, texts), asked, examples, int(count * options.scale), options.rounds)
        results.append({"model": size, **result})
        print(json.dumps(results[-1]), flush=True)
    if options.output:
        options.output.write_text(json.dumps({"data": data.name, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
