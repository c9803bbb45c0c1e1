from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import curate
from curate.errors import DataError, SettingError
from curate.settings import ValidateSettings
from curate.validation.arms import arms_alike, histograms, make_arm, read_inputs
from tests.validation.made import CHOICE, MMLU


@pytest.fixture
def files(films: list[dict[str, Any]], tmp_path: Path) -> list[Path]:
    """A split called top in each of two folders."""
    paths = [tmp_path / folder / "top.parquet" for folder in ("views", "loss")]
    for path in paths:
        path.parent.mkdir()
        curate.score(films, "column:views", output=path)
    return paths


def test_a_split_trained_in_another_way_is_one_more_arm_of_the_same_examples(films: list[dict[str, Any]]) -> None:
    scored = curate.score([{**film, "views": n} for n, film in enumerate(films)], "column:views")
    asked = ValidateSettings(arm=("top+distill", "top+obscure-first", "top+distill+obscure-first"))
    inputs = read_inputs({"top": scored[::-1]}, films, asked)
    assert [arm.name for arm in inputs.arms] == ["top", *asked.arm]
    assert [arm.how for arm in inputs.arms[:3]] == [{}, {"regularize": "distill"}, {"order": "obscure-first"}]
    assert [e.question for e in inputs.arms[0].examples] == [film["question"] for film in films[::-1]]
    assert [e.question for e in inputs.arms[2].examples] == [film["question"] for film in films]
    assert not any("the same examples" in warning for warning in inputs.warnings())
    for name in ("top+sgd", "bottom+distill", "top"):
        with pytest.raises(SettingError, match="There is no arm"):
            read_inputs({"top": scored}, films, ValidateSettings(arm=(name,)))
    with pytest.raises(SettingError, match="no class and no score"):
        read_inputs({"top": films}, films, ValidateSettings(arm=("top+obscure-first",)))


def test_two_files_of_one_name_are_two_arms(files: list[Path], films: list[dict[str, Any]]) -> None:
    assert [arm.name for arm in read_inputs(files, films).arms] == ["top", "top-2"]


def test_one_file_named_twice_is_refused(files: list[Path], films: list[dict[str, Any]]) -> None:
    for twice in (
        [files[0], files[0]],
        [files[0].parent, files[0]],
        [files[0], files[1].parent / "../views/top.parquet"],
    ):
        with pytest.raises(DataError, match=r"top\.parquet is named twice"):
            read_inputs(twice, films)


def test_a_question_is_shared_whatever_its_capitals_and_spaces(films: list[dict[str, Any]]) -> None:
    written = [{**films[0], "question": "WHO directed  Alien? ", "subject": "alien"}]
    found = read_inputs({"top": films, "bottom": films[1:4]}, written)
    assert found.leakage == {
        "top": {"question": 1, "subject": 1, "answer": 1},
        "bottom": {"question": 0, "subject": 1, "answer": 0},
    }


def test_a_sample_of_the_random_split_is_not_that_of_the_whole(tmp_path: Path) -> None:
    rows = [{"question": f"Who wrote book {n}?", "answer": f"writer {n}", "score_views": float(n)} for n in range(60)]
    chosen = curate.select(rows, random=0.5, whole=True)
    random, whole = read_inputs(chosen, rows, ValidateSettings(limit=10)).arms
    assert len(random.examples) == len(whole.examples) == 10
    assert {e.id for e in random.examples} != {e.id for e in whole.examples}
    assert arms_alike([random, whole]) == []


def test_two_arms_of_the_same_rows_are_said_to_be_the_same(films: list[dict[str, Any]]) -> None:
    found = read_inputs({"random": films[:4], "top": films[3::-1], "whole": films}, films)
    said = "top and random train on the same examples: what differs between them is chance."
    assert said in found.warnings()


def test_the_holdout_beside_the_splits_is_tested_on(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{i}", "answer": "a", "subject": f"s{i // 2}", "relation": "abc"[i % 3], "score_x": i}
        for i in range(60)
    ]
    options: dict[str, Any] = {"top": 0.5, "whole": True, "holdout": 0.2}
    chosen = curate.select(rows, **options, output=tmp_path / "splits")
    for splits in (tmp_path / "splits", str(tmp_path / "splits"), [tmp_path / "splits"], chosen):
        inputs = read_inputs(splits, None)
        assert [arm.name for arm in inputs.arms] == ["top", "whole"]
        assert [e.question for e in inputs.test.examples] == [row["question"] for row in chosen["holdout"]]
    curate.select(rows, top=0.5, output=tmp_path / "bare")
    for splits in (tmp_path / "bare", curate.select(rows, top=0.5), {"top": rows}):
        with pytest.raises(DataError, match="There is nothing to test on") as error:
            read_inputs(splits, None)
        assert "holdout=0.2" in str(error.value.try_next)


def test_sizes_of_a_ladder_come_in_order(films: list[dict[str, Any]]) -> None:
    names = ["random", "top-1920", "top-240", "top-60", "top"]
    arms = read_inputs(dict.fromkeys(names, films), films).arms
    assert [arm.name for arm in arms] == ["top", "random", "top-60", "top-240", "top-1920"]


def test_data_without_a_name_is_no_arm(films: list[dict[str, Any]], tmp_path: Path) -> None:
    for splits in (films, pd.DataFrame(films), [pd.DataFrame(films)]):
        with pytest.raises(DataError, match="what its arms are called"):
            curate.validate(splits, eval=films, model="not asked for", output=tmp_path / "run")


def test_a_split_of_one_example_is_too_small(films: list[dict[str, Any]], stories: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'one' has 1 example"):
        curate.validate({"one": films[:1]}, eval=films, model=stories, output=tmp_path / "run")


def test_a_split_cannot_have_the_name_of_the_untouched_model(films: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="named 'base-5-shot'"):
        read_inputs({"base-5-shot": films}, films)


def test_an_answer_that_is_not_a_choice_cannot_be_used() -> None:
    rows = [{"question": CHOICE.question, "choices": CHOICE.choices, "answer": said} for said in ("red", "green")]
    arm = make_arm("top", curate.read(rows), MMLU)
    assert ([example.answers for example in arm.examples], arm.unusable) == ([("red",)], 1)


def numbers(*values: float) -> curate.QATable:
    """A table with these numbers in the column x."""
    return curate.read([{"question": "Who?", "answer": "She", "x": value} for value in values])


def test_shares_of_every_arm_in_bins_they_have_in_common() -> None:
    found = histograms({"top": numbers(24.0, 23.5), "bottom": numbers(0.0, 1.5, np.nan, 24.0)}, "x")
    assert found is not None
    assert (found["edges"][0], found["edges"][-1], found["log"]) == (0, 24, False)
    assert found["shares"]["top"] == [0] * 23 + [1]
    assert found["shares"]["bottom"][0] == found["shares"]["bottom"][1] == pytest.approx(1 / 3)


def test_raw_views_get_a_logarithmic_scale_and_their_logarithms_do_not() -> None:
    views = np.array([0.0, 3, 10, 40, 1_000_000])
    raw, logs = histograms({"top": numbers(*views)}, "x"), histograms({"top": numbers(*np.log10(1 + views))}, "x")
    assert raw is not None and logs is not None
    assert (raw["log"], logs["log"]) == (True, False)
    assert sum(raw["shares"]["top"]) == sum(logs["shares"]["top"]) == pytest.approx(1)


def test_one_value_has_a_histogram_and_none_has_no_histogram() -> None:
    one = histograms({"top": numbers(5.0, 5.0)}, "x")
    assert one is not None and sum(one["shares"]["top"]) == 1
    assert histograms({"top": numbers(np.nan)}, "x") is None
    assert histograms({"top": numbers(1.0)}, "views") is None
