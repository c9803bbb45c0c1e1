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
    contains_words,
    evaluate,
    exact_match,
    find_metric,
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


@pytest.mark.parametrize(
    ("output", "answer", "right"),
    [
        ("in the army", "th", False),
        ("He was an actor.", "Actor", True),
        ("politics", "pol", False),
        ("C++, of course", "C++", True),
        ("born in St. Louis", "st. louis", True),
        ("Saint-Louis", "Louis", True),
        ("东京都", "东京", True),
        ("서울은", "서울", True),
        ("1984a", "1984", False),
        ("anything", " ", False),
    ],
)
def test_whole_words_count_and_parts_of_words_do_not(output: str, answer: str, right: bool) -> None:
    assert contains_words(output, [answer]) is right


def test_a_metric_of_ones_own_gives_a_number_from_0_to_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_marks.py").write_text(
        "def first(output, answers): return output.strip()[:1] == answers[0][:1]\ndef two(output, answers): return 2\n"
    )
    assert [find_metric("my_marks:first")(said, ["Ann"]) for said in (" Al", "Bob")] == [1, 0]
    with pytest.raises(SettingError, match=r"gave 2\.0"):
        find_metric("my_marks:two")("x", ["y"])
    for wrong, told in (("bleu", "no metric 'bleu'"), ("my_marks:none", "cannot be used"), ("nowhere:f", "nowhere")):
        with pytest.raises(SettingError, match=told):
            find_metric(wrong)


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
