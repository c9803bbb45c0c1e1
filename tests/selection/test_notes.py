"""What a selection says of itself, in words."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import ColumnError
from curate.selection.explain import FITTED, GAIN, GAIN_ERROR, forecast, hint
from tests.selection.rows import Rows

RELATIONS = {"country": 6.0, "job": 3.0, "author": 0.0}


@pytest.fixture
def facts() -> Rows:
    """1,200 rows: relations differ in score; scores within one are spread widely; half of every relation is known."""
    return [
        {
            "question": f"What is the {relation} of S{i}?",
            "answer": f"{relation} {i % 300}",
            "subject": f"S{i}",
            "relation": relation,
            "score_x": base + (i * 37 % 400) / 40,
            "known_class": "MaybeKnown" if i * 37 % 400 >= 200 else "Unknown",
        }
        for relation, base in RELATIONS.items()
        for i in range(400)
    ]


def test_a_moved_mix_of_relations_is_said_with_what_holds_it(facts: Rows) -> None:
    chosen = curate.select(facts, top=0.5, random=0.5, whole=True)
    (note,) = [note for note in chosen.notes() if "relations" in note]
    assert note.startswith("top has another mix of relations than all rows: in top ")
    assert note.endswith("To hold it fixed: stratify_by='relation'.")
    assert not curate.select(facts, top=0.5, stratify_by="relation").notes()
    assert "stayed as it was" in curate.select(facts, random=0.5).told()


def test_chance_is_nothing_to_speak_of(facts: Rows) -> None:
    for seed in range(20):
        assert not curate.select(facts, random=40, seed=seed).notes()


def test_a_moved_mix_of_question_patterns_is_said_where_no_relation_is_known(facts: Rows) -> None:
    rows = [{name: row[name] for name in ("question", "answer", "score_x")} for row in facts]
    notes = curate.select(rows, top=0.5).notes()
    assert any("another mix of kinds of questions" in note and "stratify_by='pattern'" in note for note in notes)
    assert not any("kinds of questions" in n for n in curate.select(rows, top=0.5, stratify_by="pattern").notes())
    with pytest.raises(ColumnError, match=r"no column 'relation'.*\n.*\nTry: stratify_by='pattern'"):
        curate.select(rows, top=0.5, stratify_by="relation")


def test_commoner_answers_are_said(facts: Rows) -> None:
    for row in facts:
        row["answer"] = "common" if row["score_x"] - RELATIONS[row["relation"]] > 6 else row["answer"]
    notes = curate.select(facts, top=0.5, stratify_by="relation").notes()
    (note,) = [note for note in notes if "common and rare answers" in note]
    assert "stratify_by='relation,answer-frequency'" in note
    held = curate.select(facts, top=0.5, stratify_by="relation,answer-frequency")
    assert not any("common and rare" in note for note in held.notes())
    assert held.explanation["answer_frequency"]["splits"]["top"]["moved"] < 0.01


@pytest.mark.parametrize("what", ["relation", "answer_length"])
def test_what_explains_most_of_an_order_is_said(what: str, facts: Rows) -> None:
    for i, row in enumerate(facts):
        row["answer"] = " ".join(["word"] * (1 + i % 4)) + str(i)
        base = 100 * RELATIONS[row["relation"]] if what == "relation" else 100 * (i % 4)
        row["score_x"] = base + i * 37 % 400 / 40
    asked = {"relation": "relation", "answer_length": "relation,answer-length"}[what]
    (note,) = [note for note in curate.select(facts, top=0.5).notes() if "explains" in note]
    assert f"stratify_by='{asked}'" in note
    assert not any("explains" in note for note in curate.select(facts, top=0.5, stratify_by=asked).notes())
    assert not any("explains" in note for note in curate.select(facts, random=0.5).notes()), "nothing is ranked"


def test_relations_without_a_known_row_are_said(facts: Rows) -> None:
    notes = curate.select(facts, bottom=300).notes()
    (note,) = [note for note in notes if "no known row" in note]
    assert "bottom keeps no known row of a relation (bottom: " in note
    assert "min_known='relation=0.2'" in note
    guarded = curate.select(facts, bottom=300, min_known="relation=0.2")
    assert not any("no known row" in note for note in guarded.notes())
    for row in facts:
        row["known_class"] = "Unknown" if row["relation"] == "job" else row["known_class"]
    (note,) = [note for note in curate.select(facts, whole=True).notes() if "known at all" in note]
    assert note == "No row of job is known at all. To leave it out: where='relation!=job'."


def test_few_of_the_very_best_known_are_said(facts: Rows) -> None:
    (note,) = curate.select(facts, top=100, stratify_by="relation").notes()
    assert "fewer than 300 rows" in note
    assert note.endswith("band='20:70'.")
    assert not curate.select(facts, top=400, stratify_by="relation").notes()
    assert not curate.select(facts[:100], top=0.5).notes(), "half of all is nothing extreme"


def test_the_command_says_it_in_a_paragraph_and_tables_of_80_columns(
    curate: Callable[..., Any], facts: Rows, tmp_path: Path
) -> None:
    for row in facts:
        row["answer"] += " of a very long name that no table has room for"
    pq.write_table(pa.Table.from_pylist(facts), tmp_path / "scored.parquet")
    command = "select scored.parquet --top 0.5 --bottom 0.5 --mix maybe=1 --sizes 60,120 --known maybe --whole -o arms/"
    shown = curate(*command.split()).stdout
    assert max(map(len, shown.splitlines())) <= 80
    paragraph = " ".join(shown.split("split ")[0].split())
    assert paragraph.startswith("Of 1,200 rows, 1,200 of them ranked by x, are kept:")
    assert "To hold it fixed: --stratify-by relation." in paragraph
    content = json.loads(curate(*command.split(), "--json").stdout)
    assert any("--stratify-by relation" in note for note in content["notes"])


def expected(unknown: float, per_relation: int, relations: int = 5) -> dict[str, float] | None:
    """What is forecast of data with so many rows a relation, such a share of them not known."""
    rows = per_relation * relations
    classes = np.where(np.arange(rows) < unknown * rows, 3, 1)
    return forecast(classes, np.arange(rows, dtype=np.int32) % relations)


def test_a_forecast_grows_with_the_rows_of_a_relation_and_is_silent_outside_what_it_was_fitted_on() -> None:
    few, many = expected(0.4, 30), expected(0.4, 300)
    assert few and many and few["gain"] < many["gain"]
    assert expected(0.4, 5) is None and expected(0.4, 5_000) is None, "rows"
    assert expected(1.0, 100) is None, "classes"
    assert forecast(np.full(100, -1), np.zeros(100, dtype=np.int32)) is None, "nothing is known of the classes"
    assert forecast(np.full(100, 3), np.full(100, -1, dtype=np.int32)) is None, "nor of relations"


def test_a_forecast_that_is_less_than_its_error_says_that_it_cannot_tell() -> None:
    less = hint({"gain": 2.0, "error": 3.0})
    assert "cannot be told" in less and "Run curate search" in less
    assert "likely +1.0 to +7.0 points" in hint({"gain": 4.0, "error": 3.0})
    assert hint(None) == ""


def test_the_numbers_of_the_forecast_are_those_fitted_to_the_table_of_runs() -> None:
    fitting = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "forecast.py"))
    runs = fitting["read"]()
    found, error = fitting["fit"](runs, "per_relation")
    assert (*found.round(2), round(error, 1)) == (*GAIN, GAIN_ERROR)
    for name, (low, high) in FITTED.items():
        values = [float(run[name]) for run in runs]
        assert (min(values), max(values)) == (low, high)


def test_a_hint_stands_in_what_select_says_only_where_classes_and_relations_are_known(facts: Rows) -> None:
    for row in facts:
        row["relation"] = f"{row['relation']} {int(row['answer'].split()[1]) % 4}"  # 100 rows a relation
    chosen = curate.select(facts, top=0.5)
    assert chosen.told().endswith(hint(chosen.explanation["forecast"])) and "error ±" in chosen.told()
    for name in ("known_class", "relation"):
        less = [{key: value for key, value in row.items() if key != name} for row in facts]
        assert "error ±" not in curate.select(less, top=0.5).told()
