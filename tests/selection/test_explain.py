"""What a selection changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curate
from curate.data import stores
from curate.selection import explain as explaining
from curate.selection.explain import mix
from curate.selection.groups import Groups
from tests.selection.rows import Rows


def test_the_mix_tells_what_moved() -> None:
    groups = Groups(np.array([0, 0, 0, 1, -1], dtype=np.int32), ["actor", "poet"])
    everything, half = np.ones(5, dtype=bool), np.array([True, False, False, True, False])
    told = mix(groups, everything, {"top": half})
    assert told["most_frequent"] == [{"value": "actor", "share": 0.75}, {"value": "poet", "share": 0.25}]
    assert told["splits"]["top"]["moved"] == 0.25
    assert told["splits"]["top"]["shifts"][0] == {"value": "actor", "before": 0.75, "after": 0.5}


def test_the_pool_of_the_explanation_is_the_one_before_evaluation_sets(scored: Rows) -> None:
    chosen = curate.select(scored, controlled_by="relation", max_score=8)
    assert chosen.explanation["quantiles"]["pool"]["1"] == 8
    expected = curate.select(scored, whole=True, max_score=8).explanation["relation"]["most_frequent"]
    assert chosen.explanation["relation"]["most_frequent"] == expected


def test_quantiles_of_a_large_table_have_its_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "EXPLAINED", 10)
    rows = [{"question": str(i), "answer": "a", "score_x": float(i)} for i in range(95)]
    found = curate.select(rows, top=60, bottom=2).explanation["quantiles"]
    assert (found["pool"]["0"], found["pool"]["1"]) == (0, 94)
    assert (found["top"]["0"], found["top"]["1"]) == (35, 94)
    assert set(found["bottom"].values()) == {0, 1}


def test_the_explanation_counts_what_moved_and_what_is_shared(scored: Rows) -> None:
    told = curate.select(scored, top=0.3, whole=True).explanation
    assert told["overlap"] == [{"a": "top", "b": "whole", "rows": 3}]
    assert told["relation"]["splits"]["whole"]["moved"] == 0
    assert told["relation"]["splits"]["top"]["moved"] == pytest.approx(2 / 3 - 4 / 11)
    assert told["answers"]["most_frequent"][0] == {"value": "poet", "share": pytest.approx(4 / 11)}
    assert told["quantiles"]["top"]["0"] == 7


def test_a_large_table_is_explained_by_every_nth_row(scored: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "EXPLAINED", 5)
    told = curate.select(scored, whole=True).explanation
    assert told["counted"] == "1 row in 3"
    assert told["relation"]["most_frequent"] == [{"value": "city", "share": 0.5}, {"value": "job", "share": 0.5}]


def test_every_nth_row_is_the_same_however_the_rows_lie_in_batches(
    scored: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "EXPLAINED", 5)
    told = curate.select(scored, top=0.5, whole=True).explanation
    monkeypatch.setattr(stores, "BATCH", 5)
    assert curate.select(scored, top=0.5, whole=True).explanation == told


def test_writing_gathers_the_same_explanation_as_asking(file: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"top": 0.5, "bottom": 0.5}
    written = curate.select(file, **options, output=tmp_path / "splits")
    assert "explanation" in vars(written)
    assert written.explanation == curate.select(file, **options).explanation


def test_an_error_while_explaining_leaves_no_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr("curate.selection.explain.mix", fail)
    with pytest.raises(ArithmeticError):
        curate.select(file, top=3, output=tmp_path / "top.parquet")
    assert not (tmp_path / "top.parquet").exists()
