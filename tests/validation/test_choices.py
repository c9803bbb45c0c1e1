"""Multiple choice, Kang-style: score by loss, select, finetune on letters, choose the likeliest letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from curate.lm.model import load_model
from curate.prompts import TEMPLATES
from curate.records import Example
from curate.validation.arms import usable_examples
from curate.validation.evaluate import evaluate
from curate.validation.trainer import IGNORED, training_items

MMLU = TEMPLATES["mmlu"]
EXAMPLE = Example("1", "Which is a colour?", ("red",), choices=("dog", "red", "Paris"))


def test_the_answer_is_the_argmax_of_the_next_token_over_the_letters(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("qwen"), device="cpu")
    examples = [replace(EXAMPLE, id=str(n), question="Which is a colour? " * n) for n in range(1, 4)]
    for example, predicted in zip(examples, evaluate(loaded, examples, MMLU), strict=True):
        prompt = MMLU.zero_shot(example)
        ids = [loaded.tokenizer(f"{prompt} {letter}")["input_ids"] for letter in "ABC"]
        assert len({tuple(i[:-1]) for i in ids}) == 1, "every letter is one token here"
        logits = loaded.model(torch.tensor([ids[0][:-1]])).logits[0, -1]
        assert predicted.prediction == "ABC"[int(logits[[i[-1] for i in ids]].argmax())]
        assert predicted.correct == (predicted.prediction == "B")


def test_the_letter_is_what_trains(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("qwen"), device="cpu")
    (item,) = training_items(loaded, [EXAMPLE], MMLU)
    learned = [token for token, label in zip(item["input_ids"], item["labels"], strict=True) if label != IGNORED]
    assert loaded.tokenizer.decode(learned) == " B<|endoftext|>"
    assert "A. dog\nB. red\nC. Paris\nAnswer:" in loaded.tokenizer.decode(item["input_ids"])


def test_an_answer_that_is_not_a_choice_cannot_be_used() -> None:
    assert usable_examples([EXAMPLE, replace(EXAMPLE, answers=("green",))], MMLU) == [EXAMPLE]


def test_mmlu_history_from_scores_to_the_report(curate: Callable[..., Any], shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    train = shared / "data" / "mmlu" / "val"
    model = shared / "models" / "stories260K"
    for name, files in {"train": train, "test": train.parent / "dev"}.items():
        result = curate("score", f"{files}/prehistory_*.csv", "--by", "loss", "--model", model, "-o", f"{name}.parquet")
        assert result.exit_code == 0, result.stderr
    result = curate("select", "train.parquet", "--top", "0.5", "--bottom", "0.5", "-o", "splits/")
    assert result.exit_code == 0, result.stderr
    options = "--eval test.parquet -o run --seeds 1 --max-steps 2 --batch-size 4 --limit 8 --json"
    result = curate("validate", "splits/", "--model", model, *options.split())
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["config"]["template"]["name"] == "mmlu"
    assert [arm["arm"] for arm in summary["arms"]] == ["base", "top", "bottom"]
    rows = pq.read_table("run/predictions.parquet").to_pylist()
    assert {row["prediction"] for row in rows} <= set("ABCD")
    assert all(row["correct"] == (row["answers"][0] == _choice(row)) for row in rows)
    assert Path("run/report.html").is_file()


def _choice(row: dict[str, Any]) -> str:
    """The text of the letter that was chosen, looked up in the scored test file."""
    scored = {r["curate_id"]: r for r in pq.read_table("test.parquet").to_pylist()}
    return str(_choices(scored[row["id"]])["ABCD".index(row["prediction"])])


def _choices(row: dict[str, Any]) -> list[Any]:
    return row["choices"] if "choices" in row else [row[letter] for letter in "ABCD"]
