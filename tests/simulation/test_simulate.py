"""`curate simulate` end to end, on worlds so small that a run takes a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.data.files import manifest_in
from curate.errors import SettingError
from curate.simulation.settings import FACTS, with_options
from curate.simulation.simulate import Part, Simulation, find_experiment, made_in_processes, simulate, simulation_page
from curate.simulation.summary import Table

Curate = Callable[..., Any]

SETTINGS = {
    "subjects": 30,
    "relations": 3,
    "answers": 4,
    "width": 16,
    "heads": 2,
    "steps": (10,),
    "batch_size": 64,
    "finetuning_subjects": 8,
    "validation_subjects": 8,
    "finetuning_steps": 10,
}
TINY = [
    *("--subjects", 30, "--relations", 3, "--answers", 4, "--width", 16, "--heads", 2, "--steps", 10),
    *("--batch-size", 64, "--finetuning-subjects", 8, "--validation-subjects", 8, "--finetuning-steps", 10),
    *("--processes", 1),
]


def test_facts_leaves_results_a_summary_figures_and_a_report(curate: Curate, tmp_path: Path) -> None:
    result = curate("simulate", "facts", "-o", "out", *TINY, "--seeds", 2, "--json")
    assert result.exit_code == 0, result.stderr
    table = pq.read_table(tmp_path / "out" / "results.parquet")
    assert manifest_in(table.schema) == json.loads((tmp_path / "out" / "manifest.json").read_text())
    rows = table.to_pylist()
    assert {row["arm"] for row in rows} == {"top", "bottom", "random", "whole"}
    assert {row["seed"] for row in rows} == {0, 1}
    assert {"experiment", "alpha", "steps", "top_percent", "accuracy"} <= set(rows[0])
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert json.loads(result.stdout) == {"output": "out", **summary}
    assert (tmp_path / "out" / "figures" / "accuracy-by-popularity.png").read_bytes().startswith(b"\x89PNG")
    assert summary["verdict"] in (tmp_path / "out" / "report.html").read_text()


FRONT = ["experiment", "seed"]
SIZES = ["n_train", "best_step", "top_percent", "accuracy", "n", "accuracy_at_last"]
COLUMNS = {
    "facts": {
        "results": [*FRONT, "arm", "alpha", "steps", *SIZES],
        "pretraining": [*FRONT, "alpha", "steps", "memorisation", "bottom_exposures"],
    },
    "map": {
        "results": [*FRONT, "arm", "factor", "value", "alpha", "steps", *SIZES, "middle"],
        "pretraining": [*FRONT, "factor", "value", "alpha", "steps", "memorisation", "bottom_exposures", "middle"],
    },
    "one-layer": {
        "results": [*FRONT, "arm", "alpha", "steps", "n_train", "top_percent", "accuracy", "n"],
        "dynamics": [
            *(*FRONT, "alpha", "steps", "arm", "step"),
            *("subject_attention", "accuracy", "accuracy_among", "salience"),
        ],
        "pretraining": [*FRONT, "alpha", "steps", "memorisation", "answerable", "subject_attention", "salience"],
        "salience": [*FRONT, "alpha", "steps", "training", "count", "salience", "bound"],
        "theorems": [*FRONT, "theorem", "statement", "assumptions", "assumptions_met", "cases", "violations"],
    },
}


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_the_tables_have_these_columns_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("curate.simulation.one_layer.WORLDS", 1)
    monkeypatch.setattr("curate.simulation.one_layer.EPOCH_STATEMENTS", 50)
    monkeypatch.setattr("curate.simulation.synthetic.MULTIPLES", {"finetuning_steps": (2,)})
    monkeypatch.setattr("curate.simulation.synthetic.EXPONENTS", {})
    own = find_experiment(name).default.names()
    chosen = {setting: value for setting, value in SETTINGS.items() if setting in own}
    simulate(name, tmp_path / "out", seeds=1, processes=1, **chosen)
    found = {path.stem: pq.read_schema(path).names for path in (tmp_path / "out").glob("*.parquet")}
    assert found == COLUMNS[name]


@pytest.mark.parametrize(("name", "swept", "values"), [("zipf", "alpha", [0.5, 1.5]), ("steps", "steps", [10, 20])])
def test_a_sweep_says_how_the_gap_moves(
    curate: Curate, tmp_path: Path, name: str, swept: str, values: list[float]
) -> None:
    sweep = [f"--{swept}", ",".join(str(value) for value in values)]
    assert curate("simulate", name, "-o", "out", *TINY, *sweep, "--seeds", 2).exit_code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [setting[swept] for setting in summary["settings"]] == values
    assert -1 <= summary["trends"][swept]["low"] <= summary["trends"][swept]["high"] <= 1
    assert (tmp_path / "out" / "figures" / f"gap-by-{swept}.png").is_file()


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, ran = Part.run, []

    def stops_at_the_third(self: Part) -> Any:
        ran.append(self.seed)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return honest(self)

    whole = simulate("facts", tmp_path / "whole", seeds=3, processes=2, **SETTINGS)
    monkeypatch.setattr(Part, "run", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        simulate("facts", tmp_path / "stopped", seeds=3, processes=1, **SETTINGS)
    assert not (tmp_path / "stopped" / "manifest.json").exists()
    stopped = simulate("facts", tmp_path / "stopped", seeds=3, processes=1, **SETTINGS)
    assert ran == [0, 1, 2, 2], "two of the three runs were kept"
    assert stopped.summary == whole.summary
    for name in ("results.parquet", "summary.json", "report.html", "figures/accuracy-by-popularity.png"):
        same = (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert same, f"{name} depends on where the run stopped, or on the number of processes"


def test_what_goes_wrong_in_a_process_is_raised_here() -> None:
    parts = [Part("no such experiment", FACTS, seed) for seed in (0, 1)]
    with pytest.raises(SettingError, match="no such experiment"):
        list(made_in_processes(parts, 1))


def test_a_run_is_known_by_all_that_could_change_its_rows() -> None:
    part = Part("facts", FACTS, 0)
    others = [Part("zipf", FACTS, 0), Part("facts", FACTS.changed(width=32), 0), Part("facts", FACTS, 1)]
    assert part.key == Part("facts", FACTS.changed(), 0).key
    assert len({part.key, *(other.key for other in others)}) == 4


def test_a_checkpoint_is_the_same_as_a_pretraining_that_ends_there(tmp_path: Path) -> None:
    alone = simulate("steps", tmp_path / "alone", seeds=1, **SETTINGS)
    sweep = simulate("steps", tmp_path / "sweep", seeds=1, **{**SETTINGS, "steps": (5, 10)})
    for name, rows in alone.tables.items():
        assert [row for row in sweep.tables[name] if row["steps"] == 10] == rows


def test_a_dry_run_says_what_would_run_and_writes_nothing(curate: Curate, tmp_path: Path) -> None:
    result = curate("simulate", "zipf", "-o", "out", "--alpha", "0,1", "--seeds", 3, "--dry-run", "--json")
    content = json.loads(result.stdout)
    assert content["runs"] == 6
    assert content["settings"]["alpha"] == [0, 1]
    assert not list(tmp_path.iterdir())


WRONG = {
    "unknown experiment": ("simulate fact -o out", "no experiment 'fact'"),
    "no subjects left to test on": ("simulate facts -o out --subjects 50", "leave none to test on"),
    "heads that do not divide": ("simulate facts -o out --heads 5", "cannot be split into 5 heads"),
    "no steps": ("simulate facts -o out --steps 0", "--steps 0 is out of range"),
    "a value twice": ("simulate steps -o out --steps 10,10", "--steps has a value twice"),
    "an infinite number": ("simulate zipf -o out --alpha inf", "--alpha inf is out of range"),
    "a place off the map": ("simulate map -o out --subjects 160", "The map goes to --finetuning-subjects 140"),
    "a word for a number": ("simulate zipf -o out --alpha steep", "--alpha steep is not a number"),
    "a share above 1": ("simulate facts -o out --share 1.5", "--share 1.5 is out of range"),
    "somebody else's folder": ("simulate facts -o .", "did not make"),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_wrong_input_gets_one_message_and_nothing_is_written(curate: Curate, tmp_path: Path, what: str) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    line, message = WRONG[what]
    result = curate(*line.split())
    assert result.exit_code == 1
    assert message in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["mine.txt"]


def test_the_report_escapes_its_text() -> None:
    evil = replace(find_experiment("facts"), name="<e>", title="<b>title", tables=lambda _: [table])
    table = Table("<i>", ["<u>"], [["<s>"]])
    result = Simulation(evil, FACTS, [0], {}, {"verdict": "a < b"})
    page = simulation_page(result, {"a": b"png"}, {"settings": {"steps": "<q>"}})
    for text in ("<e>", "<b>", "a < b", "<i>", "<u>", "<s>", "<q>"):
        assert text not in page


def test_one_value_of_a_sweep_needs_no_list() -> None:
    for steps in (500, [500], (500,)):
        assert with_options(FACTS, {"steps": steps}, "facts").steps == (500,)
