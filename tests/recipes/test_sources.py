"""Which data a recipe takes, and what the resolved recipe calls it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from curate.errors import DataError, RecipeError
from curate.recipes.run import Origin, locate, resolve
from tests.hub_server import REVISION, HubHandler


def recipe(train: str) -> dict[str, object]:
    return {
        "model": {"name": "bundled:world/model"},
        "dataset": {"train": train, "test": "bundled:world/test.parquet"},
        "estimators": {"by": "column:views"},
        "selection": {"top": 0.5},
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import constants

    with ThreadingHTTPServer(("127.0.0.1", 0), HubHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield
        server.shutdown()


def test_a_dataset_on_the_hub_is_pinned_to_its_revision(hub: None) -> None:
    assert resolve(recipe("me/facts"))["dataset.train"] == f"me/facts@{REVISION}"
    assert resolve(recipe("me/facts:easy"))["dataset.train"] == f"me/facts:easy@{REVISION}"
    assert resolve(recipe("me/facts:easy@main"))["dataset.train"] == f"me/facts:easy@{REVISION}"
    assert resolve(recipe("me/nothing"))["dataset.train"] == "me/nothing", "whoever reads it says so"


def test_names_stay_as_they_are_where_the_hub_cannot_be_asked() -> None:
    assert resolve(recipe("me/facts:easy"))["dataset.train"] == "me/facts:easy"


def test_local_names_become_absolute_and_bundled_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("facts.jsonl").write_text("{}")
    assert resolve(recipe("facts.jsonl"))["dataset.train"] == str(tmp_path / "facts.jsonl")
    assert resolve(recipe("facts.*"))["dataset.train"] == str(tmp_path / "facts.*")
    assert resolve(recipe("bundled:world/train.parquet"))["dataset.train"] == "bundled:world/train.parquet"


@pytest.mark.parametrize(
    ("split", "found"),
    [("train", "train"), ("validation", "val"), ("test", "test.jsonl.gz"), ("dev", "val")],
)
def test_a_part_of_a_folder_is_what_has_its_name(split: str, found: str, tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
    for name in ("test.jsonl.gz", "test.jsonl.gz.manifest.json", "testing.jsonl"):
        (tmp_path / name).write_text("{}")
    assert locate(str(tmp_path), split) == Origin(str(tmp_path / found))


def test_a_part_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no part 'train'"):
        locate(str(tmp_path), "train")
    with pytest.raises(RecipeError, match="There is no 'bundled:atlantis'"):
        locate("bundled:atlantis", None)
    assert locate("owner/name", "train") == Origin("owner/name", "train")
