"""Every bundled recipe runs to its report, on small files in the layouts of the real data and on the real data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.data.sources import find_files
from curate.recipes.recipe import names, recipe_text
from curate.recipes.run import DEMO_SCORES, Ledger, Work, origins, resolve
from tests.recipes.made import DATA, HISTORY

FAST = ("--seeds", 1, "--set", "validation.tune=off", "--set", "finetuning.max_steps=1", "--quiet")

ARMS = {
    "popqa-controlled": ["base", "top", "bottom"],
    "popqa": ["base", "top", "random", "bottom", "whole"],
    "entity-questions": ["base", "top", "random", "bottom", "whole"],
    "mmlu-history": ["base", "top", "bottom", "whole"],
    "world": ["base", "top", "random", "bottom", "whole"],
    "mine": ["base", "top", "random", "whole"],
}


@pytest.mark.parametrize("name", names())
def test_every_bundled_recipe_runs_to_its_report(
    name: str, curate: Callable[..., Any], roomy_model: Path, tmp_path: Path
) -> None:
    options = ["--data", DATA[name](tmp_path), "--model", roomy_model] if name in DATA else []
    if name == "entity-questions":
        options += ["--by", "loss"]  # page views would be asked of Wikimedia
    result = curate("run", name, *options, "--limit", 6, *FAST, "-o", "out", "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert [arm["arm"] for arm in summary["arms"]] == ARMS[name]
    assert {arm["n_eval"] for arm in summary["arms"]} == {6}
    assert summary["verdict"] == json.loads(Path("out/summary.json").read_text())["verdict"]
    assert "<html" in Path("out", summary["files"]["report"]).read_text()
    assert pq.read_metadata("out/run/curves.parquet").num_rows > 0, "curves by popularity"
    CHECKS.get(name, lambda: None)()


def the_controlled_arms_have_one_answer_a_relation_and_the_test_set_others() -> None:
    top, bottom, test = (pq.read_table(f"out/splits/{name}.parquet") for name in ("top", "bottom", "test"))
    frequent = set(top["obj"].to_pylist())
    assert set(bottom["obj"].to_pylist()) == frequent
    assert len(frequent) == len(set(top["prop"].to_pylist())) == 3
    assert frequent.isdisjoint(test["obj"].to_pylist())
    assert set(test["prop"].to_pylist()) == {"country", "sport", "occupation"}


def no_test_subject_is_trained_on() -> None:
    whole, test = (set(pq.read_table(f"out/splits/{n}.parquet")["subj"].to_pylist()) for n in ("whole", "holdout"))
    assert whole
    assert whole.isdisjoint(test)


def the_test_questions_are_those_of_the_test_split() -> None:
    test = pq.read_table("out/test.parquet")
    assert all("Test " in question for question in test["question"].to_pylist())
    assert test["score_loss"].null_count == 0


def history_alone_is_scored_after_five_solved_examples() -> None:
    assert set(pq.read_table("out/data/train.parquet")["relation"].to_pylist()) == set(HISTORY)
    manifest = json.loads(Path("out/scored.parquet.manifest.json").read_text())
    (loss,) = manifest["estimators"]
    assert (loss["shots"]["count"], loss["template"]["name"], manifest["statuses"]["loss"]) == (5, "mmlu", {"ok": 40})


CHECKS = {
    "popqa-controlled": the_controlled_arms_have_one_answer_a_relation_and_the_test_set_others,
    "popqa": no_test_subject_is_trained_on,
    "mine": no_test_subject_is_trained_on,
    "entity-questions": the_test_questions_are_those_of_the_test_split,
    "mmlu-history": history_alone_is_scored_after_five_solved_examples,
}
"""What the paper says of each besides."""


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("popqa-controlled", "popqa/popQA.tsv", ["train"]),
        ("entity-questions", "entityquestions", ["train", "test"]),
        ("mmlu-history", "mmlu", ["train", "shots"]),
        ("mmlu-history", "mmlu_hub_layout", ["train", "shots"]),
    ],
)
def test_the_recipes_find_their_parts_in_the_real_data(name: str, data: str, parts: list[str], shared: Path) -> None:
    settings = ["model.name=any", "estimators.by=[loss]", "selection.by=loss"]
    resolved = resolve(name, data=shared / "data" / data, settings=settings)
    found = origins(resolved)
    assert list(found) == parts
    assert all(find_files(origin.name) for origin in found.values())


@pytest.mark.parametrize("name", ["popqa-controlled", "popqa"])
def test_the_real_data_is_divided_as_the_paper_does(
    name: str, popqa: Path, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    work = Work(resolve(name, model=stories, data=popqa), Path("out"))
    Ledger(Path("out")).run([*work.steps()][:-1], work.do, say=print)  # all but the finetuning
    CHECKS[name]()
    answers = pq.read_table("out/splits/top.parquet")["obj"].to_pylist()
    assert {"United States of America", "association football"} < set(answers) or name == "popqa"


def test_list_names_every_recipe_and_show_prints_one_to_start_from(curate: Callable[..., Any], tmp_path: Path) -> None:
    listed = curate("run", "--list")
    assert all(name in listed.stdout for name in ARMS)
    assert set(json.loads(curate("run", "--list", "--json").stdout)["recipes"]) == set(ARMS)
    shown = curate("run", "popqa", "--show").stdout
    assert shown == recipe_text("popqa")[0]
    (tmp_path / "mine.yaml").write_text(shown)
    assert curate("run", "mine.yaml", "--data", DATA["popqa"](tmp_path), "--dry-run", "-o", "out").exit_code == 0
    assert not Path("out").exists()


def test_the_recipe_of_the_world_is_what_the_demo_does() -> None:
    assert resolve("world")["selection.by"] == DEMO_SCORES[:1]
