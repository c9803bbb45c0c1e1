"""Estimators of one's own: a function, an object, `module:Name`, an installed plug-in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import EstimatorError

ROOT = Path(__file__).parents[2]
ROWS = [
    {"question": f"Who directed Film {n}?", "answer": f"Person {n % 4}", "subj": f"Film {n}", "prop": "director"}
    for n in range(12)
]


def brevity(examples: Sequence[curate.Example]) -> list[float | None]:
    return [-len(example.question) if example.answers else None for example in examples]


def test_a_function_of_examples_is_an_estimator() -> None:
    scored = curate.score([*ROWS, {**ROWS[0], "answer": None}], by=brevity)
    assert [row["score_brevity"] for row in scored] == [-len(row["question"]) for row in ROWS] + [None]
    assert scored[-1]["brevity_status"] == "missing"


def test_an_object_and_a_function_score_beside_a_column() -> None:
    class Constant(curate.Estimator):
        name = "constant"

        def fingerprint(self) -> dict[str, Any]:
            return {"estimator": "constant"}

        def score(self, examples: Sequence[curate.Example]) -> list[curate.Score]:
            return [curate.Score(1.0) for _ in examples]

    scored = curate.score([{**row, "views": 3} for row in ROWS], by=[Constant(), brevity, "column:views"])
    assert scored[0]["score_constant"] == 1 and scored[0]["score_views"] == 3 and scored[0]["score_brevity"] == -20


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda examples: [0.0] * len(examples), "has no name"),
        (lambda examples: [0.0], "1 scores for 12 examples"),
        (lambda examples: ["much"] * len(examples), "gave 'much'"),
    ],
    ids=["a lambda", "too few", "no number"],
)
def test_a_function_that_gives_no_scores_is_told_what_is_wrong(function: Callable[..., Any], message: str) -> None:
    if "name" not in message:
        function.__name__ = "named"
    with pytest.raises(EstimatorError, match=message):
        curate.score(ROWS, by=function)


def typed(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command typed in a folder, with a folder of installed packages."""
    places = [str(place) for place in (path, ROOT) if place is not None]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-c", "from curate.cli.app import main; main()", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return tmp_path


def test_a_module_in_the_working_folder_is_found(folder: Path) -> None:
    (folder / "my_scores.py").write_text("def length(examples):\n    return [len(e.question) for e in examples]\n")
    done = typed(folder, "score", "data.jsonl", "--by", "my_scores:length", "-o", "scored.parquet")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(folder / "scored.parquet")["score_length"].to_pylist()[:2] == [20, 20]
    manifest = json.loads((folder / "scored.parquet.manifest.json").read_text())
    assert manifest["estimators"][0]["estimator"] == "my_scores:length"


def test_the_example_is_a_plug_in_with_a_model_settings_and_a_name(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]
) -> None:
    """Installed as pip leaves it: the module beside its metadata."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "examples" / "contrast_estimator.py", site)
    (site / "contrast-1.0.dist-info").mkdir()
    (site / "contrast-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: contrast\nVersion: 1.0\n")
    (site / "contrast-1.0.dist-info" / "entry_points.txt").write_text(
        "[curate.estimators]\ncontrast = contrast_estimator:ContrastEstimator\n"
    )
    words = ["score", "data.jsonl", "--by", "contrast", "--set", "foils=2", "--model", str(tiny_model("llama"))]
    done = typed(folder, *words, "-o", "scored.parquet", path=site)
    assert done.returncode == 0, done.stderr
    found = pq.read_table(folder / "scored.parquet").to_pylist()
    assert all(row["contrast_foils"] == 2 and row["score_contrast"] is not None for row in found)

    shuffled = curate.read(folder / "data.jsonl").examples()[::-1]
    sys.path.append(str(site))
    try:
        from contrast_estimator import ContrastEstimator, ContrastSettings  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(site))
    estimator = ContrastEstimator(ContrastSettings(model=tiny_model("llama"), foils=2))
    estimator.draw(lambda: shuffled)
    again = [score.value for score in estimator.score(shuffled)][::-1]
    assert again == pytest.approx([row["score_contrast"] for row in found], abs=1e-5)

    asked = ContrastEstimator(ContrastSettings(model=tiny_model("llama"), foils=1, shots=1))
    asked.draw(lambda: shuffled)
    for example in shuffled:
        (own, answer), *others = asked.pairs(example)
        solved = own.removesuffix(f"Question: {example.question}\nAnswer:")
        assert solved.count("Question:") == 1 and answer == f" {example.answers[0]}"
        assert others and all(prompt.startswith(solved) for prompt, _ in others)
        assert not any(foil in solved for foil in asked.foils(example))


@pytest.fixture
def typed_here(
    folder: Path, curate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """A command typed in the folder, in this process; the modules that it imports from there are forgotten."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield curate
    for name, module in [*sys.modules.items()]:
        if Path(getattr(module, "__file__", None) or ROOT).parent == folder:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("no_such_module:Name", "cannot be imported: ModuleNotFoundError"),
        ("json:no_such_name", "cannot be imported: AttributeError"),
        ("broken:Name", "cannot be imported: SyntaxError"),
        ("lacking:Name", "cannot be imported: ModuleNotFoundError: No module named 'nowhere_else'"),
        ("program:Name", "cannot be imported: SystemExit"),
        ("json:JSONDecoder", "is a class 'JSONDecoder', and no estimator"),
        ("nothing", "There is no estimator 'nothing'"),
    ],
)
def test_what_cannot_be_imported_is_said(folder: Path, typed_here: Callable[..., Any], by: str, message: str) -> None:
    for name, text in {"broken": "def (", "lacking": "import nowhere_else", "program": "raise SystemExit(2)"}.items():
        (folder / f"{name}.py").write_text(text)
    done = typed_here("score", "data.jsonl", "--by", by, "-o", "scored.parquet")
    assert done.exit_code == 1 and message in done.stderr
    assert not (folder / "scored.parquet").exists()
    module, _, attribute = by.partition(":")
    if "cannot be imported" in message:
        assert f'Try: python -c "import {module}; {module}.{attribute}"' in done.stderr


def test_a_fault_in_ones_own_code_is_told_with_its_place(folder: Path, typed_here: Callable[..., Any]) -> None:
    (folder / "my_scores.py").write_text("def length(examples):\n    return [1 / 0 for _ in examples]\n")
    done = typed_here("score", "data.jsonl", "--by", "my_scores:length", "-o", "scored.parquet")
    assert done.exit_code == 1
    assert "'length' failed: ZeroDivisionError" in done.stderr and "my_scores.py, line 2" in done.stderr


@pytest.mark.parametrize("given", ["foils", "foils=many", "other=1"])
def test_a_setting_that_is_none_is_said(
    folder: Path, typed_here: Callable[..., Any], given: str, tiny_model: Callable[[str], Path]
) -> None:
    shutil.copy(ROOT / "examples" / "contrast_estimator.py", folder)
    words = ["score", "data.jsonl", "--by", "contrast_estimator:ContrastEstimator", "--model", str(tiny_model("llama"))]
    done = typed_here(*words, "--set", given, "-o", "scored.parquet")
    assert done.exit_code == 1 and f"--set {given}" in done.stderr
