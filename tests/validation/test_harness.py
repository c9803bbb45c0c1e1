"""Tasks of lm-evaluation-harness and the few-shot base model, beside the arms; offline, from a YAML file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import DataError, SettingError
from curate.prompts import DEFAULT
from curate.settings import FinetuneConfig
from curate.validation import finetune
from curate.validation.arms import read_arms
from curate.validation.evaluate import find_tasks, metric_rows
from curate.validation.validate import shots_from

CONFIG = FinetuneConfig(learning_rate=2e-2, max_steps=25, batch_size=4, held_out=0)
COLOURS = [("Ann", "red"), ("Bob", "blue"), ("Cy", "red"), ("Dee", "blue"), ("Eve", "red"), ("Flo", "blue")]
QUESTIONS = [{"question": f"What is the colour of {name}?", "answer": colour} for name, colour in COLOURS]
DONE = "top, seed 0: done earlier"
AGAIN = "top, seed 0: nothing of its weights is kept; finetuning again for --lm-eval"
TASK = r"""
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "Question: {{question}}\nAnswer:"
doc_to_target: " {{answer}}"
generation_kwargs: {until: ["\n"], max_gen_toks: 10}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    path = tmp_path / "colours.yaml"
    path.write_text(TASK.replace("DATA", str(tmp_path / "test.jsonl")))
    return path


@pytest.mark.filterwarnings("ignore")
def test_a_task_of_ones_own_is_asked_of_every_arm_once(
    tiny_model: Callable[[str], Path], task: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")

    def run(progress: Callable[[str], None]) -> dict[str, Any]:
        found = curate.validate(
            {"top": QUESTIONS, "whole": QUESTIONS[:4]},
            eval=QUESTIONS,
            model=tiny_model("llama"),
            output=tmp_path / "run",
            seeds=1,
            config=CONFIG,
            base_shots=2,
            lm_eval=[str(task)],
            progress=progress,
        )
        return found.summary()

    first = run(lambda line: None)
    asked = {row["arm"]: row for row in first["lm_eval"]}
    assert list(asked) == ["base", "top", "whole"]
    assert all(row["task"] == "colours" and row["n"] == 6 and row["higher_is_better"] for row in asked.values())
    ours = {row["arm"]: row["exact_match"] for row in first["arms"]}
    assert {arm: row["value"] for arm, row in asked.items()} == {arm: ours[arm] for arm in asked}
    assert ours["top"] == 1, "the harness is asked while the adapter is on"
    assert "Other tasks" in (tmp_path / "run" / "report.html").read_text()

    said: list[str] = []
    assert run(said.append) == first
    assert said == ["top, seed 0: done earlier", "whole, seed 0: done earlier"]

    rows = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
    assert list(dict.fromkeys(row["arm"] for row in rows)) == ["base", "base-2-shot", "top", "whole"]
    assert [(d["a"], d["b"]) for d in first["differences"]][-1] == ("base", "base-2-shot")
    assert first["verdict"].startswith("Finetuning on top")


@pytest.mark.filterwarnings("ignore")
def test_a_task_added_later_is_asked_of_the_saved_adapter_and_trains_only_where_none_is_left(
    tiny_model: Callable[[str], Path], task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    other = tmp_path / "colours-again.yaml"
    other.write_text(task.read_text().replace("task: colours", "task: colours-again"))
    # Writing the run is the slowest part of so small a one.
    monkeypatch.setattr("curate.validation.validate.write_run", lambda *given: None)
    trained: list[int] = []
    said: list[str] = []
    real = finetune.train
    monkeypatch.setattr(finetune, "train", lambda *given: trained.append(1) or real(*given))

    def run(*tasks: Path, method: str = "lora") -> dict[str, Any]:
        trained.clear(), said.clear()
        found = curate.validate(
            {"top": QUESTIONS},
            eval=QUESTIONS,
            model=tiny_model("llama"),
            output=tmp_path / "run",
            seeds=1,
            config=replace(CONFIG, method=method, learning_rate=2e-2 if method == "lora" else 1e-3),
            lm_eval=[str(path) for path in tasks],
            progress=said.append,
        )
        return found.summary()

    alone = run()
    assert (len(trained), alone["lm_eval"]) == (1, [])
    added = run(task)
    assert (len(trained), said) == (0, ["base: colours of lm-eval", DONE, "top, seed 0: colours of lm-eval"])
    assert added["arms"] == alone["arms"]
    assert [(row["arm"], row["value"]) for row in added["lm_eval"]] == [("base", 0), ("top", 1)]
    assert run() == alone and not trained, "a task that is taken away trains nothing"

    (tmp_path / "run" / "adapters" / "top" / "seed-0" / "adapter_model.safetensors").unlink()
    assert [row["value"] for row in run(task, other)["lm_eval"]] == [0, 0, 1, 1]
    assert len(trained) == 1 and "its adapter is no longer in" in said[1] and said[2] == AGAIN

    run(method="full")
    assert [row["value"] for row in run(other, method="full")["lm_eval"]] == [0, 1]
    assert len(trained) == 1 and said[:2] == [DONE, AGAIN]
    assert not list((tmp_path / "run" / ".parts").glob("*/")), "its checkpoints are dropped again"


def test_shots_come_from_the_whole_training_set_and_from_the_same_relation(films: list[dict[str, Any]]) -> None:
    shots = shots_from(read_arms({"top": films[:2], "whole": films}), 1, DEFAULT)
    assert shots is not None
    asked = read_arms({"test": films})[0].examples[3]
    assert [shot.question for shot in shots.choose(asked)] == ["What genre is Ikiru?"]
    assert shots_from(read_arms({"top": films}), 0, DEFAULT) is None


def test_a_split_cannot_have_the_name_of_the_untouched_model(films: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="named 'base-5-shot'"):
        read_arms({"base-5-shot": films})


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
