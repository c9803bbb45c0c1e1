"""A step is done once: again only after something it was made from has changed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

import curate as library
from curate.errors import SelectionError
from curate.recipes.run import Ledger, cost, origins, plan, prepare, resolve
from tests.recipes.made import popqa

STEPS = ["data train", "score", "select", "validate"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, roomy_model: Path) -> Path:
    """A folder with a recipe, its data, and what it left: mine.yaml, popQA.tsv, out/."""
    folder = tmp_path_factory.mktemp("recipe")
    popqa(folder)
    recipe = {
        "model": {"name": str(roomy_model)},
        "dataset": {"train": "popQA.tsv"},
        "estimators": {"by": "column:s_pop"},
        "selection": {"top": 0.5, "holdout": 0.2},
        "finetuning": {"max_steps": 1},
        "validation": {"seeds": 1},
        "limit": 4,
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        library.run("mine.yaml", "out")
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to be changed by one test, and the working directory."""
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def to_do(**changes: Any) -> list[str]:
    return [step["step"] for step in plan("mine.yaml", "out", **changes)["steps"] if step["state"] == "to do"]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.parquet"))}


def test_nothing_is_done_twice(here: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*.parquet")}
    said: list[str] = []
    found = library.run("mine.yaml", "out", progress=said.append)
    assert [line.partition(":")[0] for line in said if "done earlier" in line] == STEPS
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*.parquet")} == before
    assert found.summary["verdict"]


def test_a_change_is_felt_by_the_steps_that_depend_on_it(here: Path) -> None:
    assert to_do() == []
    assert to_do(settings={"finetuning.learning_rate": 1e-3}) == ["validate"]
    assert to_do(seeds=2) == ["validate"]
    assert to_do(settings={"selection.top": 0.3}) == ["select", "validate"]
    assert to_do(by="loss") == ["score", "select", "validate"]
    assert to_do(limit=5) == STEPS
    (here / "popQA.tsv").write_text((here / "popQA.tsv").read_text().replace("Subject 3", "Topic 3"))
    assert to_do() == STEPS


def test_another_model_is_another_validation_and_other_losses(here: Path, tiny_model: Callable[[str], Path]) -> None:
    assert to_do(model=tiny_model("llama")) == ["validate"]
    shutil.copytree(yaml.safe_load(Path("mine.yaml").read_text())["model"]["name"], "elsewhere")
    assert to_do(model="elsewhere") == [], "the same weights in another place"


def test_what_was_damaged_is_made_again_and_what_follows_is_kept(here: Path) -> None:
    before = bytes_of(here)
    (here / "out" / "scored.parquet").write_bytes(b"damaged")
    said: list[str] = []
    library.run("mine.yaml", "out", progress=said.append)
    assert [line.partition(":")[0] for line in said if "done earlier" in line] == ["data train", "select", "validate"]
    assert bytes_of(here) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"score": 1}', '{"score": {"output": "1"}}'])
def test_a_damaged_ledger_means_that_nothing_is_done(text: str, tmp_path: Path) -> None:
    (tmp_path / "steps.json").write_text(text)
    assert Ledger(tmp_path).done == {}


def test_the_resolved_recipe_runs_again_to_the_same_result(here: Path, folder: Path, tmp_path: Path) -> None:
    saved = yaml.safe_load(Path("out/recipe.yaml").read_text())
    assert saved["curate"] == library.__version__
    assert saved["dataset"]["train"] == str(folder / "popQA.tsv")
    assert saved["finetuning"]["learning_rate"] == library.FinetuneConfig().learning_rate
    assert (saved["selection"]["by"], saved["validation"]["by"]) == (["s_pop"], "s_pop")
    again = library.run("out/recipe.yaml", tmp_path / "again")
    assert (tmp_path / "again/recipe.yaml").read_text() == Path("out/recipe.yaml").read_text()
    assert bytes_of(tmp_path / "again") == bytes_of(Path("out"))
    assert again.summary == json.loads(Path("out/summary.json").read_text())


def test_every_step_is_a_command_that_does_the_same(here: Path, curate: Callable[..., Any]) -> None:
    os.chdir(here)
    before = bytes_of(here)
    for step in plan("mine.yaml", "out")["steps"]:
        if step["command"] is not None:
            result = curate(*shlex.split(step["command"])[1:])
            assert result.exit_code == 0, result.stderr
    assert bytes_of(here) == before


@pytest.mark.parametrize(
    ("selection", "arms"),
    [
        ({"controlled_by": "relation"}, ["top", "bottom"]),
        ({"controlled_by": "relation", "random": 0.5}, ["random"]),
        ({"min_score": 300, "holdout": 0.2}, ["whole"]),
        ({"band": "30:70", "whole": True, "holdout": 0.2}, ["band", "whole"]),
    ],
)
def test_the_cost_is_that_of_the_arms_that_the_selection_makes(
    selection: dict[str, Any], arms: list[str], here: Path
) -> None:
    settings = {"selection": selection, "validation.tune": "quick", "validation.seeds": 5}
    recipe = resolve("mine.yaml", settings=settings)
    chosen = library.select("out/scored.parquet", **recipe.section("selection"))
    assert [name for name, split in chosen.splits.items() if split.use == "training"] == arms
    assert cost(recipe) == {"arms": len(arms), "finetunings": 5 * len(arms), "trials": 3 * len(arms)}


def test_rows_are_chosen_before_they_are_scored(here: Path) -> None:
    recipe = resolve("mine.yaml", settings={"dataset.where": {"relation": ["sport", "country"]}})
    data = origins(recipe)["train"].name
    prepare(data, here / "some.parquet", where=recipe["dataset.where"], limit=40)
    some = pq.read_table("some.parquet")
    assert set(some["prop"].to_pylist()) == {"sport", "country"}
    assert some.num_rows == 40
    with pytest.raises(SelectionError, match="has 'chess' in relation"):
        prepare(data, here / "none.parquet", where={"relation": ["chess"]})


def test_a_test_set_of_its_own_is_scored_only_where_no_column_tells_its_popularity(here: Path) -> None:
    test_set = {"dataset.test": "popQA.tsv"}
    assert [s["step"] for s in plan("mine.yaml", "new", settings=test_set)["steps"]] == [
        "data train", "data test", "score", "select", "validate"
    ]  # fmt: skip
    steps = plan("mine.yaml", "new", by="loss", settings=test_set)["steps"]
    assert [step["step"] for step in steps][2:4] == ["score", "score test"]
    assert "--by loss --model" in steps[3]["command"]
    assert not Path("new").exists()
