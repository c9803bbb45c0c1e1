from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import curate
from curate.validation.results import Validation
from tests.validation.made import SHORT


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
        {"top": nameless}, eval=nameless, model=tiny_model("llama"), output=tmp_path / "run", seeds=1, config=SHORT
    )
    left = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert left == {"accuracy", "by-answer", "fitted", "training-loss", "held-out-accuracy", "mine"}


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


def test_a_trial_run_says_so_and_decides_nothing(run: tuple[Path, Validation]) -> None:
    folder, _ = run
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["trial_run"] == ["8 steps"]
    assert summary["recommendation"].startswith("A trial run (8 steps) decides nothing")
    assert '<p class="trial">Trial run' in (folder / "report.html").read_text()


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


def test_every_metric_is_told_and_the_answers_on_which_they_differ_are_counted(run: tuple[Path, Validation]) -> None:
    folder, result = run
    frame = pd.read_parquet(folder / "predictions.parquet")
    for arm in result.arm_rows():
        rows = frame[frame.arm == arm["arm"]]
        assert arm["paper"] == pytest.approx(rows.paper.mean())
        assert arm["disputed"] == (rows[["correct", "exact_match", "contains", "paper"]].nunique(axis=1) > 1).sum()
        for row in rows.itertuples():
            said, accepted = row.prediction.lower(), [a.lower() for a in row.answers]
            assert row.paper == any(a in said for a in accepted)
            assert row.correct == row.contains == any(a in re.findall(r"\w+", said) for a in accepted)


def test_what_is_left_at_equal_answer_mix_follows_from_the_predictions(run: tuple[Path, Validation]) -> None:
    """Recomputed without the package: every answer of a relation counts as much as every other."""
    folder, result = run
    frame = pd.read_parquet(folder / "predictions.parquet")
    frame["answer"] = frame.answers.str[0].str.lower()
    means = frame.groupby(["arm", "answer"]).mark.mean().groupby("arm").mean()
    for d in json.loads((folder / "summary.json").read_text())["differences"]:
        assert d["equal_mix"] == pytest.approx(means[d["a"]] - means[d["b"]])
        assert d["equal_mix_low"] <= d["equal_mix"] <= d["equal_mix_high"]
    assert set(frame.answer_count) == {6}, "whole trains six times red and six times blue; halves of it add nothing"
    assert result.parts["by_answer"] == result.parts["by_answer_differences"] == []


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
    assert result.inputs.leakage["top"] == {"question": 6, "subject": 6, "answer": 12}
    assert any("also in the training set" in warning for warning in result.warnings())
