"""A finished run, and a task of lm-evaluation-harness, for the tests of several rooms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import curate
from curate.validation.results import Validation
from tests import blank
from tests.validation.made import COLOURED, SHORT, TASK


@pytest.fixture(scope="package", autouse=True)
def _blank_figures() -> Iterator[None]:
    with blank.figures():
        yield


@pytest.fixture(scope="package")
def run(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Validation]:
    folder = tmp_path_factory.mktemp("validate")
    rows = [
        {
            "question": f"What is the colour of {name}?",
            "answer": "red" if i % 2 else "blue",
            "subject": name,
            "views": i,
        }
        for i, name in enumerate(["Ann", "Bob", "Cy", "Dee", "Eve", "Flo", "Gus", "Hal", "Ida", "Jim", "Kay", "Lou"])
    ]
    scored = curate.score(rows, "column:views", output=folder / "scored.parquet")
    curate.select(scored, top=0.5, bottom=0.5, whole=True, output=folder / "splits")
    result = curate.validate(
        folder / "splits", eval=scored, model=tiny_model("llama"), output=folder / "run", seeds=2, config=SHORT
    )
    return folder / "run", result


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in COLOURED))
    path = tmp_path / "colours.yaml"
    path.write_text(TASK.replace("DATA", str(tmp_path / "test.jsonl")))
    return path
