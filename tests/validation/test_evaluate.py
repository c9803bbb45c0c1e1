from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from curate.errors import SettingError
from curate.lm.model import load_model
from curate.validation.evaluate import (
    contains_answer,
    evaluate,
    exact_match,
    find_tasks,
    metric_rows,
    normalise,
    token_f1,
)
from tests.validation.made import CHOICE, MMLU, TASK


@pytest.mark.parametrize(
    ("output", "answers", "right"),
    [
        (" He is a Politician.\n", ["politician"], True),
        ("politics", ["politician", "pol"], True),
        ("baker", ["politician"], False),
        ("anything", [""], False),
        ("anything", ["  "], False),
        ("Paris", [" PARIS "], True),
        ("", ["Paris"], False),
    ],
)
def test_an_answer_is_right_if_it_contains_an_accepted_one(output: str, answers: list[str], right: bool) -> None:
    assert contains_answer(output, answers) is right


def test_containment_flatters_short_aliases_and_exact_match_does_not() -> None:
    assert contains_answer("politics", ["pol"])
    assert not exact_match("politics", ["pol"])


def test_normalisation_is_that_of_squad() -> None:
    assert normalise("The  Beatles, an English band!") == "beatles english band"


def test_f1_counts_shared_tokens_and_takes_the_best_answer() -> None:
    assert token_f1("the ridley scott film", ["Ridley Scott", "nobody"]) == pytest.approx(0.8)
    assert token_f1("baker", ["Ridley Scott"]) == 0.0


def test_the_answer_is_the_argmax_of_the_next_token_over_the_letters(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("qwen"), device="cpu")
    examples = [replace(CHOICE, id=str(n), question="Which is a colour? " * n) for n in range(1, 4)]
    for example, predicted in zip(examples, evaluate(loaded, examples, MMLU), strict=True):
        prompt = MMLU.zero_shot(example)
        ids = [loaded.tokenizer(f"{prompt} {letter}")["input_ids"] for letter in "ABC"]
        assert len({tuple(i[:-1]) for i in ids}) == 1, "every letter is one token here"
        logits = loaded.model(torch.tensor([ids[0][:-1]])).logits[0, -1]
        assert predicted.prediction == "ABC"[int(logits[[i[-1] for i in ids]].argmax())]
        assert predicted.correct == (predicted.prediction == "B")


def test_a_task_that_is_not_there_is_told_before_any_work(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    (tmp_path / "no-name.yaml").write_text("dataset_path: json\n")
    with pytest.raises(SettingError, match="does not say what its task is called"):
        find_tasks([str(tmp_path / "no-name.yaml")])
    with pytest.raises(SettingError, match="There is no file"):
        find_tasks([str(tmp_path / "none.yaml")])
    (tmp_path / "broken.yaml").write_text(TASK.replace("DATA", "nowhere.jsonl"))
    with pytest.raises(SettingError, match="'colours' of lm-eval cannot be loaded"):
        find_tasks([str(tmp_path / "broken.yaml")])


def test_a_group_is_told_as_one_and_its_members_not_at_all() -> None:
    member = {"alias": "m", "acc,none": 0.5, "acc_stderr,none": 0.1}
    found = {
        "results": {"mmlu": {"acc,none": 0.4, "acc_stderr,none": "N/A", "alias": "mmlu"}, "mmlu_a": member},
        "group_subtasks": {"mmlu": ["mmlu_a"], "mmlu_a": []},
        "n-samples": {"mmlu_a": {"effective": 8}},
        "higher_is_better": {"mmlu": {"acc": True}},
    }
    (row,) = metric_rows(found)
    assert row == {"task": "mmlu", "metric": "acc", "value": 0.4, "stderr": None, "n": None, "higher_is_better": True}
