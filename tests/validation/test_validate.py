from __future__ import annotations

import errno
import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import DataError, OutputError, SettingError
from curate.settings import FinetuneConfig
from curate.validation.results import Validation

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
        "attention.parquet",
        "attention_maps.parquet",
        "trials.parquet",
        "figures/accuracy.png",
        "figures/curves.png",
        "figures/attention.png",
        "figures/heatmap-1.png",
        "adapters/top/seed-1/adapter_model.safetensors",
    } <= left


def test_pictures_of_an_earlier_run_go_when_the_next_one_has_none_of_their_kind(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    for name in ("heatmap-1", "curves", "mine"):
        (tmp_path / "run" / "figures").mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / "figures" / f"{name}.png").write_bytes(b"")
    (tmp_path / "run" / ".parts").mkdir()
    nameless = [{key: row[key] for key in ("question", "answers")} for row in films]
    curate.validate(
        {"top": nameless}, eval=nameless, model=tiny_model("llama"), output=tmp_path / "run", seeds=1, config=CONFIG
    )
    left = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert left == {"accuracy", "training-loss", "held-out-accuracy", "mine"}


def test_accuracy_along_training_is_that_of_the_model_as_it_is_by_then_and_changes_nothing(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    to_the_end = FinetuneConfig(learning_rate=2e-2, epochs=3, batch_size=4, held_out=0)
    results = [
        curate.validate(
            {"top": films}, eval=films, model=tiny_model("llama"), output=tmp_path / str(k), config=to_the_end, along=k
        )
        for k in (0, 1000)
    ]
    without, along = [[run for run in result.runs if run.arm == "top"] for result in results]
    assert [run.predictions for run in along] == [run.predictions for run in without]
    assert all(row["test_accuracy"] is None for run in without for row in run.training)
    for run in along:
        right = sum(p.correct for p in run.predictions) / len(films)
        assert [row["epoch"] for row in run.training] == [1, 2, 3]
        assert run.training[-1]["test_accuracy"] == right
    (row,) = results[1].along_rows()
    assert row["kept"] == row["last"] == results[1].arm_rows()[1]["accuracy"]
    assert "test-accuracy" in {path.stem for path in (tmp_path / "1000" / "figures").iterdir()}


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
        assert arm["accuracy"] == sum(marks) / len(marks)
        assert len(marks) == arm["n_eval"] * arm["seeds"]
    for point in pq.read_table(folder / "curves.parquet").to_pylist():
        marks = [
            row["correct"]
            for row in by_arm[point["arm"]]
            if row["seed"] == point["seed"] and row["popularity_percentile"] < point["top_percent"]
        ]
        assert (point["n"], point["accuracy"]) == (len(marks), sum(marks) / len(marks))


def test_intervals_follow_from_the_predictions(run: tuple[Path, Validation]) -> None:
    """Ten lines that share no code with the package: every difference, its interval and its p."""
    folder, _ = run
    frame = pd.read_parquet(folder / "predictions.parquet")
    names = list(dict.fromkeys(frame["subject"]))
    for d in json.loads((folder / "summary.json").read_text())["differences"]:
        a, b = (frame[frame.arm == d[x]].pivot(index="seed", columns="id", values="correct") for x in "ab")
        cluster = [names.index(s) for s in frame.drop_duplicates("id").set_index("id").loc[a.columns, "subject"]]
        delta = a.to_numpy(float) - b.to_numpy(float)[: len(a) if len(b) > 1 else 1]
        seeds, n = delta.shape
        sums = np.array([[row[np.array(cluster) == c].sum() for row in delta] for c in range(len(names))])
        drawn = np.random.default_rng(0).integers(len(names), size=(10_000, len(names)))
        means = sums.mean(axis=1)[drawn].sum(axis=1) / np.bincount(cluster)[drawn].sum(axis=1)
        off = (sums - sums.mean(1, keepdims=True)) - np.bincount(cluster)[:, None] * (delta.mean(1) - delta.mean())
        spread = max(0, delta.mean(1).var(ddof=1) - 0.5 * (off**2).sum() / (seeds - 1) / n**2) / seeds
        means += spread**0.5 * np.random.default_rng(1).standard_t(seeds - 1, 10_000)
        assert (d["difference"], d["low"], d["high"]) == pytest.approx(
            (delta.mean(), *np.percentile(means, [2.5, 97.5])), abs=1e-12
        )


def test_relations_quintiles_and_curves_are_in_the_summary_with_intervals(run: tuple[Path, Validation]) -> None:
    folder, _ = run
    summary = json.loads((folder / "summary.json").read_text())
    assert {row["quintile"] for row in summary["quintiles"]} == {1, 2, 3, 4, 5}
    last = {row["arm"]: row for row in summary["curves"] if row["top_percent"] == 100}
    for arm in summary["arms"]:
        assert last[arm["arm"]]["accuracy"] == pytest.approx(arm["accuracy"])
        assert last[arm["arm"]]["low"] <= arm["accuracy"] <= last[arm["arm"]]["high"]
    assert summary["relations"] == [], "these examples have no relation"
    assert {(row["arm"], row["seed"]) for row in summary["training"]} == {
        (arm, seed) for arm in ("top", "bottom", "whole") for seed in (0, 1)
    }
    assert all(row["train_loss"] > 0 and 0 <= row["held_out_accuracy"] <= 1 for row in summary["training"])


def test_attention_to_the_subject_is_there_for_every_arm_seed_and_layer(run: tuple[Path, Validation]) -> None:
    folder, result = run
    rows = pq.read_table(folder / "attention.parquet").to_pylist()
    assert {(r["arm"], r["seed"], r["layer"]) for r in rows} == {
        (r.arm, r.seed, layer) for r in result.runs for layer in (1, 2)
    }
    assert all(0 < r["subject_attention"] < 1 for r in rows)
    by_arm = {(r["arm"], r["seed"]): r["subject_attention"] for r in rows if r["layer"] == 1}
    assert len(set(by_arm.values())) == len(by_arm)  # every finetuned model was looked at with its own adapter
    assert result.summary()["attention"]["examples"] == 12


def test_popularity_of_the_arms_is_told_in_common_bins(run: tuple[Path, Validation]) -> None:
    shares = run[1].summary()["popularity"]["shares"]
    assert shares["top"][:12] == [0] * 12
    assert shares["bottom"][12:] == [0] * 12
    assert sum(shares["test"]) == pytest.approx(1)


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


def test_data_without_a_name_is_no_arm(films: list[dict[str, Any]], tmp_path: Path) -> None:
    for splits in (films, pd.DataFrame(films), [pd.DataFrame(films)]):
        with pytest.raises(DataError, match="what its arms are called"):
            curate.validate(splits, eval=films, model="not asked for", output=tmp_path / "run")


def test_a_split_of_one_example_is_too_small(films: list[dict[str, Any]], stories: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'one' has 1 example"):
        curate.validate({"one": films[:1]}, eval=films, model=stories, output=tmp_path / "run")


def test_a_full_disk_is_told_and_loses_nothing(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for what the untouched model answered, not for what the arm did."""
    said: list[str] = []

    def run() -> Validation:
        config = FinetuneConfig(learning_rate=1e-2, max_steps=2, batch_size=4)
        model = tiny_model("llama")
        return curate.validate(
            {"films": films}, eval=films, model=model, output=tmp_path, seeds=1, config=config, progress=said.append
        )

    calls: list[int] = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("curate.data.files.os.fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            run()
    assert len(list((tmp_path / ".parts").glob("*.json"))) == 1
    assert list((tmp_path / ".parts").glob("*/checkpoint-*")), "its training is kept too"
    assert not list(tmp_path.rglob("*.tmp"))
    said.clear()
    assert len(run().runs) == 2
    assert not any(line.startswith("base:") for line in said)


def test_a_logger_that_is_not_here_is_told_before_anything_is_trained(
    films: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="no logger 'tensorbored' here"):
        curate.validate({"a": films}, eval=films, model="none", output=tmp_path / "run", report_to="tensorbored")
