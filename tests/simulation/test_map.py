"""The map: one factor at a time around the default, pretrained once where only finetuning differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.simulation import synthetic
from curate.simulation.settings import EXPOSURES_KEPT, FACTS, SyntheticSettings, Tables
from curate.simulation.summary import summarise_map
from curate.simulation.synthetic import MIDDLE, places_around, regions, run_region, run_sweep

SMALL = FACTS.changed(
    subjects=30,
    relations=4,
    answers=4,
    width=16,
    steps=(10,),
    batch_size=64,
    finetuning_subjects=10,
    validation_subjects=4,
    finetuning_steps=10,
)


def test_every_place_differs_from_the_middle_in_its_factor_only() -> None:
    for place in places_around(FACTS):
        changed = {name for name, value in asdict(place.settings).items() if value != asdict(FACTS)[name]}
        allowed = {MIDDLE: set(), EXPOSURES_KEPT: {"relations", "steps"}}.get(place.factor, {place.factor})
        assert changed == allowed, place


def test_exposures_are_kept_where_it_says_so() -> None:
    kept = [place.settings for place in places_around(SMALL) if place.factor == EXPOSURES_KEPT]
    assert [(s.relations, s.steps) for s in kept] == [(1, (2,)), (2, (5,)), (8, (20,))]


def test_no_place_is_the_middle_again_or_another_twice() -> None:
    found = places_around(SMALL.changed(alpha=(0.5,), relations=1))
    assert len({place.settings for place in found if place.factor != EXPOSURES_KEPT}) == sum(
        place.factor != EXPOSURES_KEPT for place in found
    )
    assert [place.value for place in found if place.factor == "alpha"] == [0, 1.5]
    assert [place.value for place in found if place.factor == "relations"] == [2]


def test_places_are_pretrained_together_where_only_finetuning_differs() -> None:
    found = regions(FACTS)
    together = next(region.places for region in found if region.places[0].factor == MIDDLE)
    assert {place.factor for place in together} >= {"steps", "share", "finetuning_steps", "finetuning_learning_rate"}
    assert sum(len(region.places) for region in found) == len(places_around(FACTS))
    assert all(len({place.settings.width for place in region.places}) == 1 for region in found)


def test_the_middle_of_the_map_is_the_experiment_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "MULTIPLES", {"steps": (2,), "share": (2,)})
    monkeypatch.setattr(synthetic, "EXPONENTS", {})
    (region,) = regions(SMALL)
    tables = run_region(region, seed=0)
    for name, rows in run_sweep(SMALL, seed=0).items():
        for factor in ("steps", "share"):
            middle = [row for row in tables[name] if row["middle"] and row["factor"] == factor]
            assert [{k: v for k, v in row.items() if k not in ("factor", "value", "middle")} for row in middle] == rows
    assert {(row["factor"], row["value"]) for row in tables["results"] if not row["middle"]} == {
        ("steps", 20),
        ("share", 0.4),
    }


def made_up(gap: dict[float, list[float]]) -> Tables:
    """Rows of a factor, width, whose middle is 64, with a gap a seed for every value."""
    tables: Tables = {"results": [], "pretraining": []}
    for value, by_seed in gap.items():
        for seed, points in enumerate(by_seed):
            front = {"factor": "width", "value": value, "middle": value == 64, "seed": seed}
            tables["pretraining"].append({**front, "memorisation": 0.96, "bottom_exposures": 12.0})
            for arm, accuracy in {"top": 0.7, "bottom": 0.7 - points, "random": 0.68, "whole": 0.9}.items():
                row = {"arm": arm, "top_percent": 100, "accuracy": accuracy, "accuracy_at_last": accuracy}
                tables["results"].append({**front, **row})
    return tables


def test_a_place_is_compared_with_the_middle_inside_each_seed() -> None:
    (factor,) = summarise_map(made_up({64: [0.1, 0.3], 128: [0.15, 0.35], 32: [0.05, 0.25]}))["factors"]
    assert [place["value"] for place in factor["places"]] == [32, 64, 128]
    assert [place["change"]["difference"] for place in factor["places"]] == pytest.approx([-0.05, 0, 0.05])
    wider = factor["places"][2]
    assert wider["change"]["low"] == pytest.approx(0.05), "the seeds differ, their changes do not"
    assert wider["gap"]["low"] < 0
    assert factor["trend"]["spearman"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        ({16: [0, 0], 32: [0.1, 0.1], 64: [0.2, 0.3], 128: [0.4, 0.4]}, "The gap grows with width."),
        ({16: [0.4, 0.3], 32: [0.2, 0.2], 64: [0.1, 0.1], 128: [0, 0]}, "The gap shrinks with width."),
        ({32: [0.2, 0.1], 64: [0.1, 0.2]}, "The gap does not clearly move with width."),
        ({32: [0.1], 64: [0.2]}, "does not clearly move with width."),
    ],
)
def test_the_verdict_names_what_moves_the_gap(gap: dict[float, list[float]], said: str) -> None:
    assert summarise_map(made_up(gap))["verdict"].endswith(said)


def test_the_command_leaves_a_whole_line_for_every_factor(
    curate: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "MULTIPLES", {"width": (2,), "finetuning_steps": (2,)})
    monkeypatch.setattr(synthetic, "EXPONENTS", {"alpha": (0.0,)})
    given = {name: value for name, value in asdict(SMALL).items() if value != getattr(SyntheticSettings(), name)}
    options = [
        part for k, v in given.items() for part in (f"--{k.replace('_', '-')}", v[0] if isinstance(v, tuple) else v)
    ]
    result = curate("simulate", "map", "-o", "out", *options, "--seeds", 2, "--processes", 1, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    lines = {f["factor"]: [place["value"] for place in f["places"]] for f in summary["factors"]}
    assert lines == {"alpha": [0, 1], "width": [16, 32], "finetuning_steps": [10, 20]}
    assert {"factor", "value", "seed", "arm", "accuracy"} <= set(pq.read_schema(tmp_path / "out/results.parquet").names)
    for figure in ("gap-by-factor", "gap-by-memorisation", "gap-by-exposures"):
        assert (tmp_path / "out" / "figures" / f"{figure}.png").is_file()
    assert summary["verdict"] in " ".join(curate("show", "out").stdout.split()), "curate show reads it again"


def test_several_values_in_the_middle_are_refused(curate: Callable[..., Any], tmp_path: Path) -> None:
    result = curate("simulate", "map", "-o", "out", "--alpha", "0.5,1")
    assert result.exit_code == 1
    assert "--alpha has several values" in result.stderr
    assert "curate simulate zipf" in result.stderr
    assert not list(tmp_path.iterdir())
