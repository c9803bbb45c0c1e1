"""What lies in memory is taken wherever a path is: a model with its tokenizer, a DatasetDict; and what is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.errors import DataError, ModelError, SettingError

pytestmark = pytest.mark.usefixtures("blank_figures")

Loaded = tuple[Any, Any]


@pytest.fixture
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def losses(rows: list[dict[str, Any]], **options: Any) -> list[float]:
    return [row["score_loss"] for row in curate.score(rows, by="loss", shots=0, device="cpu", **options)]


def test_a_model_in_memory_scores_as_its_folder_does(films: list[dict[str, Any]], folder: Path, loaded: Loaded) -> None:
    from transformers import pipeline

    expected = pytest.approx(losses(films, model=folder))
    assert losses(films, model=loaded) == expected
    assert losses(films, model=pipeline("text-generation", loaded[0], tokenizer=loaded[1])) == expected
    assert losses(films, model=loaded, template="plain") != expected


def test_what_was_scored_with_the_weights_in_memory_is_known_again(
    films: list[dict[str, Any]], loaded: Loaded, tmp_path: Path
) -> None:
    import torch

    options: dict[str, Any] = {"by": "loss", "model": loaded, "shots": 0, "output": tmp_path / "s.parquet"}
    curate.score(films, **options)
    curate.score(films, **options)
    with torch.no_grad():
        next(loaded[0].parameters()).add_(0.5)
    with pytest.raises(curate.CurateError, match=r"other scores|force"):
        curate.score(films, **options)


def test_what_cannot_be_a_model_is_told(films: list[dict[str, Any]], loaded: Loaded) -> None:
    with pytest.raises(ModelError, match="no model with its tokenizer"):
        losses(films, model=loaded[0])
    with pytest.raises(SettingError, match="in the memory of this process"):
        losses(films, model=loaded, processes=2)


def test_every_split_of_a_datasetdict_is_scored(films: list[dict[str, Any]], tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    data = DatasetDict({"train": Dataset.from_list(films), "test": Dataset.from_list(films[:2])})
    scored = curate.score(data, by="column:views")
    assert isinstance(scored, DatasetDict)
    assert scored["test"]["score_views"][:] == [900, 500] and scored["train"].num_rows == 6
    with pytest.raises(DataError, match="no one file"):
        curate.score(data, by="column:views", output=tmp_path / "s.parquet")
    splits = curate.select(scored["train"], top=2, bottom=2).to_datasets()
    assert isinstance(splits, DatasetDict) and {name: part.num_rows for name, part in splits.items()} == {
        "top": 2,
        "bottom": 2,
    }


def test_a_validation_of_a_datasetdict_and_a_model_in_memory_logs_how_far_it_is(
    films: list[dict[str, Any]], loaded: Loaded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from datasets import Dataset, DatasetDict

    scored = curate.score(films, by="column:views")
    splits = DatasetDict({"top": Dataset.from_list(scored[:3]), "holdout": Dataset.from_list(scored[3:])})
    options: dict[str, Any] = {"model": loaded, "output": tmp_path / "run", "seeds": 1, "max_steps": 1}
    before = {name: weight.clone() for name, weight in loaded[0].named_parameters()}
    with caplog.at_level(logging.INFO, "curate"):
        result = curate.validate(splits, **options)
    assert [row["arm"] for row in result.summary()["arms"]] == ["base", "top"]
    assert "top, seed 0: finetuning on 3 examples" in caplog.text
    assert all((before[name] == weight).all() for name, weight in loaded[0].named_parameters()), "as it was given"
    assert curate.validate(splits, **options).summary()["arms"] == result.summary()["arms"]
