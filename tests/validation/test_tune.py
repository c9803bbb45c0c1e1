from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
from curate import settings as tune
from curate.errors import SettingError
from curate.settings import FinetuneConfig, grid

CONFIG = FinetuneConfig(max_steps=2, batch_size=4, held_out=0.3)


def test_paper_is_table_4() -> None:
    settings = grid("paper", CONFIG)
    assert len(settings) == len(set(settings)) == 3 * 5 * 4 + 3 * 5
    assert {(s.lora_rank, s.lora_alpha) for s in settings if s.method == "lora"} == {
        (8, 16), (16, 32), (32, 64), (64, 128)
    }  # fmt: skip
    assert {s.method for s in grid("paper", replace(CONFIG, method="qlora"))} == {"qlora"}


def test_off_tries_nothing_and_nothing_can_be_tuned_without_a_held_out_part() -> None:
    assert grid("off", CONFIG) == [CONFIG]
    with pytest.raises(SettingError, match="Nothing is held out"):
        grid("quick", replace(CONFIG, held_out=0))
    with pytest.raises(SettingError, match="no --tune 'all'"):
        grid("all", CONFIG)


def test_every_arm_is_tuned_alike_and_trained_with_what_did_best(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    said: list[str] = []

    def run() -> None:
        curate.validate(
            {"a": films, "b": films[:5]},
            eval=films,
            model=tiny_model("llama"),
            output=tmp_path / "run",
            seeds=1,
            config=CONFIG,
            tune="quick",
            progress=said.append,
        )

    run()
    rows = pq.read_table(tmp_path / "run" / "trials.parquet").to_pylist()
    trials, evaluated = [r for r in rows if r["seed"] != 0], [r for r in rows if r["seed"] == 0]
    assert [(t["arm"], t["learning_rate"]) for t in trials] == [(arm, r) for arm in "ab" for r in (1e-5, 1e-4, 1e-3)]
    for arm, used in zip("ab", evaluated, strict=True):
        (chosen,) = [t for t in trials if t["arm"] == arm and t["chosen"]]
        assert used["learning_rate"] == chosen["learning_rate"]
        assert chosen["validation_accuracy"] == max(t["validation_accuracy"] for t in trials if t["arm"] == arm)
    assert sum("trial" in line for line in said) == 6
    said.clear()
    run()
    assert not any("trial" in line for line in said), "trials are kept"


def test_a_setting_with_which_training_diverges_is_not_taken_and_is_told(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "LEARNING_RATES", (1e38, 1e-3))
    model, output = tiny_model("llama"), tmp_path / "run"
    config = replace(CONFIG, max_steps=1)
    tried = curate.validate(
        {"a": films[:5]}, eval=films[:2], model=model, output=output, seeds=1, config=config, tune="quick"
    )
    assert [(t.config.learning_rate, t.chosen) for t in tried.trials] == [(1e38, False), (1e-3, True)]
    base, arm = tried.runs
    diverged = replace(tried, runs=[base, replace(arm, training=[{"held_out_loss": float("nan")}])])
    assert set(diverged.warnings()) - set(tried.warnings()) == {
        "Training on a with seed 0 diverged; try a lower --learning-rate."
    }
