from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import DataError
from curate.validation.finetune import FinetuneConfig
from curate.validation.validate import Validation

CONFIG = FinetuneConfig(learning_rate=2e-2, max_steps=8, batch_size=4)


@pytest.fixture(scope="module")
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
        folder / "splits", eval=scored, model=tiny_model("llama"), output=folder / "run", seeds=2, config=CONFIG
    )
    return folder / "run", result


def test_a_run_leaves_everything_it_promises(run: tuple[Path, Validation]) -> None:
    folder, _ = run
    left = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert {
        "summary.json",
        "manifest.json",
        "report.html",
        "predictions.parquet",
        "curves.parquet",
        "trials.parquet",
        "figures/accuracy.png",
        "figures/curves.png",
        "adapters/top/seed-1/adapter_model.safetensors",
    } <= left


def test_base_comes_first_and_every_arm_has_every_seed(run: tuple[Path, Validation]) -> None:
    folder, _ = run
    summary = json.loads((folder / "summary.json").read_text())
    assert [(a["arm"], a["n_train"], a["seeds"]) for a in summary["arms"]] == [
        ("base", 0, 1),
        ("top", 6, 2),
        ("bottom", 6, 2),
        ("whole", 12, 2),
    ]
    assert {(d["a"], d["b"]) for d in summary["differences"]} == {
        ("top", "bottom"),
        ("top", "whole"),
        ("top", "base"),
        ("bottom", "whole"),
        ("bottom", "base"),
        ("whole", "base"),
    }


def test_accuracies_and_curves_follow_from_the_predictions(run: tuple[Path, Validation]) -> None:
    """Recomputed from predictions.parquet alone."""
    folder, _ = run
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    by_arm: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_arm[row["arm"]].append(row)
    summary = json.loads((folder / "summary.json").read_text())
    for arm in summary["arms"]:
        marks = [row["correct"] for row in by_arm[arm["arm"]]]
        assert arm["accuracy"] == pytest.approx(sum(marks) / len(marks))
        assert len(marks) == arm["n_eval"] * arm["seeds"]
    for point in pq.read_table(folder / "curves.parquet").to_pylist():
        marks = [
            row["correct"]
            for row in by_arm[point["arm"]]
            if row["seed"] == point["seed"] and row["popularity_percentile"] < point["top_percent"]
        ]
        assert (point["n"], point["accuracy"]) == (len(marks), pytest.approx(sum(marks) / len(marks)))


def test_shared_questions_are_counted_and_warned_about(run: tuple[Path, Validation]) -> None:
    _, result = run
    assert result.leakage["top"] == {"question": 6, "subject": 6}
    assert any("also in the training set" in warning for warning in result.warnings())


def test_the_same_call_resumes_and_ends_with_the_same_numbers(
    run: tuple[Path, Validation], tiny_model: Callable[[str], Path]
) -> None:
    folder, first = run
    kept = sorted((folder / ".parts").iterdir())
    assert len(kept) == 1 + 3 * 2
    kept[0].unlink()
    said: list[str] = []
    again = curate.validate(
        folder.parent / "splits",
        eval=folder.parent / "scored.parquet",
        model=tiny_model("llama"),
        output=folder,
        seeds=2,
        config=CONFIG,
        progress=said.append,
    )
    assert again.summary() == first.summary()
    assert sum("done earlier" in line for line in said) >= 5


def test_the_report_needs_no_network_and_escapes_the_data(tmp_path: Path) -> None:
    from curate.report.page import report_page

    bad = "<script>alert(1)</script>"
    summary = {
        "verdict": bad,
        "arms": [
            {
                "arm": bad,
                "n_train": 1,
                "n_eval": 1,
                "seeds": 1,
                "accuracy": 1.0,
                "stderr": None,
                "exact_match": 1,
                "f1": 1,
            }
        ],
        "differences": [],
        "leakage": {},
        "config": {"bootstrap": bad},
    }
    prediction = {
        "arm": bad,
        "id": "1",
        "question": bad,
        "answers": [bad],
        "prediction": bad,
        "correct": True,
        "popularity_percentile": None,
    }
    page = report_page(summary, {"accuracy": b"png"}, [prediction])
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page and "https://" not in page


def test_arms_may_be_held_in_memory(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    result = curate.validate(
        {"films": films},
        eval=films,
        model=tiny_model("gpt2"),
        output=tmp_path / "run",
        seeds=1,
        config=FinetuneConfig(learning_rate=1e-2, max_steps=2, batch_size=4),
    )
    assert result.names == ["base", "films"]
    assert (
        not (tmp_path / "run" / "curves.parquet").exists()
        or pq.read_table(tmp_path / "run" / "curves.parquet").num_rows == 0
    )


def test_a_split_of_one_example_is_too_small(films: list[dict[str, Any]], stories: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'one' has 1 example"):
        curate.validate({"one": films[:1]}, eval=films, model=stories, output=tmp_path / "run")
