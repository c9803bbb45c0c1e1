"""A recipe that is wrong is refused with its line and key, what was expected, and what may have been meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.errors import RecipeError
from curate.recipes.run import resolve
from curate.settings import FinetuneConfig
from tests.recipes.made import popqa

GOOD = """\
description: mine
model:
  name: some/model
dataset:
  train: facts.parquet
  test: test.parquet
estimators:
  by: [column:views]
selection:
  top: 0.5
  bottom: 50%
validation:
  tune: off
finetuning:
  learning_rate: 1e-4
"""


def refused(tmp_path: Path, text: str, *settings: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        resolve(path, settings=settings)
    return error.value.message()


def test_values_are_read_as_the_type_of_their_key_not_by_the_rules_of_yaml(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace("bottom: 50%", "band: 30:70"))
    recipe = resolve(tmp_path / "mine.yaml", settings={"estimators.by": "column:views"})
    assert recipe["validation.tune"] == "off"
    assert recipe["finetuning.learning_rate"] == 1e-4
    assert recipe["selection.band"] == ("30:70",)
    drawn = ["selection.mix={maybe: 0.7, highly: 0.3}", "selection.size=50", "selection.sizes=[10, 20]"]
    recipe = resolve(tmp_path / "mine.yaml", settings=["estimators.by=column:views", *drawn])
    assert recipe["selection.mix"] == "maybe=0.7,highly=0.3"
    assert recipe["selection.sizes"] == (10, 20)
    assert (recipe["selection.by"], recipe["validation.by"]) == (("views",), "views")
    assert recipe["estimators.by"] == ("column:views",)


def test_an_empty_section_has_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace("  learning_rate: 1e-4\n", "  # learning_rate: 1e-4\n"))
    assert resolve(tmp_path / "mine.yaml").finetuning == FinetuneConfig()
    changed = resolve(tmp_path / "mine.yaml", settings=["finetuning.epochs=2"])
    assert changed.finetuning == FinetuneConfig(epochs=2)


def test_a_recipe_names_an_estimator(tmp_path: Path) -> None:
    text = GOOD.replace("[column:views]", "[]")
    assert "mine.yaml line 8: estimators.by names no estimator" in refused(tmp_path, text)


def test_a_recipe_in_python_has_no_lines() -> None:
    with pytest.raises(RecipeError, match=r"^the recipe: selections is not"):
        resolve({"model": {"name": "m"}, "selections": {}})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("top:", "topp:", ("mine.yaml line 10: selection.topp is not a setting.", "by, top,", "selection.top")),
        ("selection:", "selections:", ("mine.yaml line 9: selections is not a setting.", "Try: selection")),
        (
            "  top: 0.5",
            "  top: 0.5\n  top: 0.3",
            ("line 11: selection.top is given twice; first on mine.yaml line 10",),
        ),
        ("top: 0.5", "top: 1.5", ("mine.yaml line 10: selection.top:", "1.5", "Try: selection.top 0.3 (in the recipe")),
        ("top: 0.5", "whole: perhaps", ("line 10: selection.whole is 'perhaps'.", "Expected: true or false")),
        ("top: 0.5", "top: [0.5]", ("line 10: selection.top holds a list", "a number")),
        ("1e-4", "fast", ("line 15: finetuning.learning_rate is 'fast'.", "Expected: a number")),
        ("1e-4", "-1", ("line 15: finetuning.learning_rate:", "out of range")),
        ("learning_rate: 1e-4", "epochs:", ("line 15: finetuning.epochs has no value.", "a number")),
        ("learning_rate: 1e-4", "lora_rank: 3.5", ("line 15: finetuning.lora_rank is '3.5'.", "a whole number")),
        ("off", "paperr", ("line 13: validation.tune:", "'paperr'", "off, quick, paper")),
        ("column:views", "lloss", ("line 8: estimators.by:", "'lloss'", "column:NAME, known, loss, pageviews")),
        ("[column:views]", "[column:views, loss]", ("line 9: selection.by is missing", "one of views, loss")),
        ("top: 0.5", "by: fame", ("line 10: there will be no score 'fame'.", "Expected: views")),
        ("  train: facts.parquet\n", "", ("line 5: dataset.train is missing.", "data='DATASET'")),
        ("model:\n  name: some/model\n", "", ("mine.yaml: model.name is missing.", "model='MODEL'")),
        ("model:\n  name: some/model", "model: some/model", ("mine.yaml line 2: model is not a section.",)),
        ("  test: test.parquet\n", "", ("line 4: there is nothing to test on.", "selection.holdout")),
        (
            "  by: [column:views]",
            "  by: [column:views]\n  shots: 0\n  shots_split: dev",
            ("line 7", "estimators.shots is 0", "how many solved examples"),
        ),
        ("description: mine", "limit: 1", ("line 1: limit is 1.", "at least 2")),
        ("  top: 0.5", "\ttop: 0.5", ("line 10: this is not YAML: a tab indents this line.", "spaces")),
        ("top: 0.5", "top: [0.5", ("this is not YAML", "line 1")),
        ("top: 0.5", "where: {a: b", ("this is not YAML",)),
    ],
)
def test_what_is_wrong_is_named_with_line_and_key(
    old: str, new: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    assert old in GOOD
    message = refused(tmp_path, GOOD.replace(old, new, 1))
    for part in expected:
        assert part in message


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    assert "mine.yaml is empty" in refused(tmp_path, "# nothing yet\n")
    assert "mine.yaml line 1: the file is not a recipe." in refused(tmp_path, "- a\n- b\n")
    assert "not YAML" in refused(tmp_path, "a: \x00")
    assert "not YAML" in refused(tmp_path, "a: 1\n---\nb: 2\n")


def test_a_tag_that_would_make_an_object_makes_none(tmp_path: Path) -> None:
    text = GOOD.replace("description: mine", "description: !!python/object/apply:os.system ['touch /tmp/x']")
    assert "line 1: description holds a list or a section." in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("selection.topp=0.3", "--set selection.topp=0.3: selection.topp is not a setting."),
        ("selection.top=2.5", "--set selection.top=2.5: selection.top:"),
        ("finetuning.epochs=many", "--set finetuning.epochs=many: finetuning.epochs is 'many'."),
        ("selection", "--set selection sets nothing."),
        ("model.name.x=1", "model.name is not a section"),
        ("model=x", "--set model=x: model is not a section."),
    ],
)
def test_a_setting_on_the_command_line_is_named_when_it_is_wrong(setting: str, expected: str, tmp_path: Path) -> None:
    assert expected in refused(tmp_path, GOOD, setting)


def test_a_setting_on_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    settings = ["selection.top=0.3", "selection.bottom=null", "finetuning.lora_rank=8", "dataset.where={relation: [a]}"]
    recipe = resolve(tmp_path / "mine.yaml", model="other", seeds=1, limit=9, settings=settings)
    assert (recipe["selection.top"], recipe["selection.bottom"], recipe["finetuning.lora_rank"]) == (0.3, None, 8)
    assert (recipe["model.name"], recipe["validation.seeds"], recipe["limit"]) == ("other", 1, 9)
    assert recipe["dataset.where"] == {"relation": ("a",)}


def test_mistakes_on_the_command_line_end_in_a_message(curate: Callable[..., Any], tmp_path: Path) -> None:
    wrong = {
        ("popqaa", "-o", "out"): ("There is no recipe 'popqaa'.", "curate run popqa"),
        ("popqaa",): ("There is no recipe 'popqaa'.",),
        ("popqa",): ("There is no folder to work in.", "curate run popqa -o out/"),
        ("entity-questions", "-o", "out"): ("dataset.train is missing", "--data"),
        ("popqa", "--data", "nowhere.tsv", "-o", "out"): ("'nowhere.tsv'",),
        ("world", "--data", "x.csv", "-o", "out"): ("x.csv is one file", "'train'"),
    }
    (tmp_path / "x.csv").write_text("question,answer\na,b\n")
    for arguments, parts in wrong.items():
        result = curate("run", *arguments)
        assert result.exit_code == 1
        assert all(part in result.stderr for part in parts), result.stderr


def test_a_folder_of_somebody_else_is_left_alone(curate: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    result = curate("run", "world", "-o", "out")
    assert result.exit_code == 1
    assert "did not make" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_what_a_step_asks_for_is_said_in_the_words_of_the_recipe(
    curate: Callable[..., Any], tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    given = ("--data", popqa(tmp_path), "--model", tiny_model("llama"))
    for by in ("pageviews", "sitelinks"):
        result = curate("run", "popqa", *given, "--by", by, "-o", by)
        assert result.exit_code == 1
        assert "estimators.pageviews.contact you@example.org" in result.stderr
        assert "--contact" not in result.stderr
    offline = ("--by", "sitelinks", "--set", "estimators.pageviews.offline=true", "-o", "offline")
    assert "--by sitelinks --offline -o offline/scored.parquet" in curate("run", "popqa", *given, *offline).stderr


def test_a_model_that_is_not_there_is_told_before_anything_is_scored(curate: Callable[..., Any]) -> None:
    result = curate("run", "world", "--model", "./nowhere", "-o", "out")
    assert result.exit_code == 1
    assert "'./nowhere'" in result.stderr
    assert not Path("out/scored.parquet").exists()
