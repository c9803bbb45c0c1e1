"""A run that never happened, of any size, with text meant to break a page."""

from __future__ import annotations

import random
from typing import Any

from curate.report.page import RunTables

BAD = '</script><script>window.broken = true</script><b>bold</b> & "quoted" $x_1$ \u2028'
ARMS = {"base": 0.2, "top": 0.5, "random": 0.45, "bottom": 0.38, "whole": 0.47}
RELATIONS = ["capital", "occupation", "sport", "a relation with quite a long name, as some have", BAD]
REQUEST = {
    "seeds": [0, 1],
    "arm_shots": 4,
    "settings": {"metric": "exact", "arm": ["top", "top+distill"], "tune": "off", "knowledge": None},
    "finetuning": {"learning_rate": 1e-3, "method": "lora"},
}
OFTEN = ["never", "once", "2-4", "5-20", "over 20"]
TOP = range(5, 101, 5)
TOKENS = ["<s>", "Question", ":", " What", " is", " Ann", " Lee", "'s", " sport", "?", "\n", "Answer", ":"]


def made_up_run(questions: int = 200, seeds: int = 2) -> RunTables:
    """Tables as a finished run leaves them; the first arm of any pair is the better one."""
    summary = {
        "verdict": f"Finetuning on top beats random (+4.1, +1.0 to +7.3), bottom (+12.0, +8.1 to +16.0) {BAD}",
        "recommendation": f"Train on top: half of the data, same accuracy. {BAD}",
        "trial_run": ["one seed", BAD],
        "warnings": [f"3 test questions are also in the training set {BAD}."],
        "arms": [_arm(arm, share, questions, seeds) for arm, share in ARMS.items()],
        "differences": [_difference(a, b) for a in ARMS for b in ARMS if a < b],
        "relations": [_part("relation", r, arm, share) for r in RELATIONS for arm, share in ARMS.items()],
        "quintiles": [_part("quintile", q, arm, share - q / 20) for q in range(1, 6) for arm, share in ARMS.items()],
        "curves": [_part("top_percent", x, arm, share + (100 - x) / 400) for arm, share in ARMS.items() for x in TOP],
        "by_answer": [
            _part("answer", name, arm, share / n) for n, name in enumerate(OFTEN, 1) for arm, share in ARMS.items()
        ],
        "by_answer_differences": [
            {"answer": name, **_difference(a, b), "n": 40} for name in OFTEN for a in ARMS for b in ARMS if a < b
        ],
        "knowledge": {
            "shots": 4,
            "known": 31,
            "swapped": 90,
            "sentence": f"Of the 31 facts top keeps more. {BAD}",
            "commonest": {BAD: ["politician"]},
            "arms": [
                {"arm": arm, "measure": measure, "value": share, "low": share - 0.1, "high": share + 0.1}
                for arm, share in ARMS.items()
                for measure in ("kept", "lost", "gained", "generic", "unmoved", "surest_half", "auroc")
            ],
            "differences": [
                {"measure": "kept", "a": "top", "b": "bottom", "difference": 0.1, "low": 0, "high": 1, "p": 0.01}
            ],
        },
        "few_shot": {
            "shots": 4,
            "sentence": BAD,
            "arms": [
                {"arm": arm, "zero_shot": share, "few_shot": share, "low": 0, "high": 1} for arm, share in ARMS.items()
            ],
        },
        "popularity": {
            "column": "score_views",
            "log": True,
            "edges": [0, 1, 10, 100, 1000],
            "shares": {arm: [0.1, 0.2, 0.3, 0.4] for arm in [*ARMS, "test"] if arm != "base"},
        },
        "training": [
            {"arm": arm, "seed": seed, "step": step, "train_loss": 9 / step, "held_out_accuracy": share * step / 50}
            for arm, share in ARMS.items()
            if arm != "base"
            for seed in range(seeds)
            for step in range(10, 60, 10)
        ],
        "checkpoints": [
            {"arm": arm, "n": 120, "kept": share, "last": share - 0.1, "change": -0.1, "low": -0.2, "high": 0.0}
            for arm, share in ARMS.items()
            if arm != "base"
        ],
        "banded_by": BAD,
        "fitting": [
            {"arm": arm, "epoch": epoch, "band": band, "n": 80, "fitted": share, "kept": epoch == 2}
            for arm, share in ARMS.items()
            if arm != "base"
            for epoch in (1, 2, 3)
            for band in ("all", "Unknown", BAD)
        ],
        "law": {"intercept": 0.369, "known": 0.073, "unknown": -0.083, "r2": 0.8, "n": 24},
        "attention": {"sentence": f"FT-Top looks at the subject more. {BAD}", "examples": 500},
        "leakage": {arm: {"question": 3, "subject": 5} for arm in ARMS if arm != "base"},
        "config": {"model": {"name": BAD}, "bootstrap": BAD, "seeds": [0, 1]},
    }
    return RunTables(
        summary,
        {"command": "validate", "note": BAD, "request": REQUEST},
        list(_predictions(questions, seeds)),
        [
            {"arm": arm, "seed": seed, "layer": layer, "subject_attention": share / layer}
            for arm, share in ARMS.items()
            for seed in range(seeds)
            for layer in range(1, 9)
        ],
        [_map(arm, id, layer) for arm in ARMS for id in ("q0", "q1") for layer in range(1, 9)],
    )


def _arm(arm: str, share: float, questions: int, seeds: int) -> dict[str, Any]:
    return {
        "arm": arm,
        "n_train": 0 if arm == "base" else 1500,
        "n_eval": questions,
        "seeds": 1 if arm == "base" else seeds,
        "accuracy": share,
        "stderr": None if arm == "base" else 0.01,
        "exact_match": share - 0.02,
        "disputed": 17,
        "f1": share + 0.02,
    }


def _difference(a: str, b: str) -> dict[str, Any]:
    gap = ARMS[a] - ARMS[b]
    return {
        "a": a,
        "b": b,
        "difference": gap,
        "low": gap - 0.06,
        "high": gap + 0.06,
        "p": 0.0123,
        "p_adjusted": 0.08,
        "needed": 400,
        "equal_mix": gap / 2,
        "equal_mix_low": gap / 2 - 0.05,
        "equal_mix_high": gap / 2 + 0.05,
        "equal_mix_p": 0.3,
    }


def _part(key: str, value: Any, arm: str, share: float) -> dict[str, Any]:
    return {key: value, "arm": arm, "n": 40, "accuracy": share, "low": share - 0.05, "high": share + 0.05}


def _predictions(questions: int, seeds: int) -> Any:
    draw = random.Random(0)
    for number in range(questions):
        question = f"What is the occupation of the person number {number}?" if number else f"What is {BAD}?"
        for arm, share in ARMS.items():
            for seed in range(1 if arm == "base" else seeds):
                correct = draw.random() < share
                said = draw.choice(["politician", "association football player", "actor and singer"])
                yield {
                    "arm": arm,
                    "seed": seed,
                    "id": f"q{number}",
                    "question": question,
                    "answers": ["politician", "political leader", "pol", "polit.", BAD] if number else [BAD],
                    "prediction": said if number else BAD,
                    "correct": correct,
                    "known": number % 4 == 0,
                    "exact_match": correct and not (number and said == "actor and singer"),
                    "contains": correct,
                    "paper": correct,
                    "popularity_percentile": 100 * number / questions,
                    "relation": RELATIONS[number % len(RELATIONS)],
                    "subject": f"Person {number}",
                }


def _map(arm: str, id: str, layer: int) -> dict[str, Any]:
    weights = [0.6, *(0.02 for _ in TOKENS[1:])]
    weights[5] = ARMS[arm] / layer
    subject = [token in (" Ann", " Lee") for token in TOKENS]
    return {"arm": arm, "seed": 0, "id": id, "layer": layer, "tokens": TOKENS, "subject": subject, "attention": weights}
