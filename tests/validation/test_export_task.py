"""What others can use of a run: its questions as a task, its adapters with their cards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate.errors import DataError, OutputError
from curate.validation.evaluate import export_task
from curate.validation.results import Validation
from tests.validation.made import TO_THE_END


@pytest.mark.filterwarnings("ignore")
def test_the_exported_task_asks_the_same_and_marks_the_same(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")
    import curate

    def run(output: str, *tasks: str) -> Validation:
        return curate.validate(
            {"a": films}, eval=films, model=tiny_model("llama"), output=tmp_path / output, seeds=1, config=TO_THE_END,
            lm_eval=tasks,
        )  # fmt: skip

    run("run")
    made = export_task(tmp_path / "run", tmp_path / "task", name="films")
    assert made["questions"] == len(films) and made["task"] == "films"
    lines = [json.loads(line) for line in (tmp_path / "task" / "test.jsonl").read_text().splitlines()]
    assert lines[0]["prompt"] == "Question: Who directed Alien?\nAnswer:" and lines[0]["answers"] == ["Ridley Scott"]
    asked = run("run", str(tmp_path / "task" / "films.yaml")).summary()
    told = {(row["arm"], row["metric"]): row["value"] for row in asked["lm_eval"]}
    for arm in asked["arms"]:
        for metric in ("contains", "paper", "exact_match"):
            assert told[arm["arm"], metric] == pytest.approx(arm[metric]), "the harness marks as curate does"
    assert told["a", "contains"] > 0
    with pytest.raises(OutputError, match="holds a task already"):
        export_task(tmp_path / "run", tmp_path / "task")
    export_task(tmp_path / "run", tmp_path / "task", force=True)


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished validation"):
        export_task(tmp_path, tmp_path / "task")


def test_every_adapter_has_a_card_and_loads_with_peft(run: tuple[Path, Validation]) -> None:
    from peft import AutoPeftModelForCausalLM

    folder, result = run
    for arm in ("top", "bottom", "whole"):
        card = (folder / "adapters" / arm / "seed-1" / "README.md").read_text()
        head, _, text = card.removeprefix("---\n").partition("---\n")
        assert yaml.safe_load(head)["library_name"] == "peft"
        assert "base_model" not in yaml.safe_load(head), "a folder is no name on the Hub"
        row = next(row for row in result.arm_rows() if row["arm"] == arm)
        assert f"the {row['n_train']:,} questions of the split `{arm}`" in text
        assert f"| {arm} | {row['n_train']} | {100 * row['accuracy']:.1f} |" in text
        assert "learning rate 0.02" in text and "More Information Needed" not in text
        assert r"`Question: {{ question }}\nAnswer:`" in text
    model = AutoPeftModelForCausalLM.from_pretrained(folder / "adapters" / "top" / "seed-1")
    assert model.peft_config["default"].r == 16
