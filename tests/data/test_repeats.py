"""Questions with several answers, names of several things, what training and test share: told, and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import curate as library
from curate.data import repeats
from curate.data.repeats import Held, ambiguous, count_ambiguous
from curate.errors import SelectionError
from curate.validation.arms import read_inputs

Curate = Callable[..., Any]
Rows = list[dict[str, Any]]


def rows_of(*told: tuple[Any, ...]) -> Rows:
    names = ("question", "answers", "subject", "s_uri", "score_views")
    return [dict(zip(names, row, strict=False)) | {"score_views": float(n)} for n, row in enumerate(told)]


FILMS = rows_of(
    ("Who directed Alien?", ["Ridley Scott"], "Alien", "http://www.wikidata.org/entity/Q1"),
    ("who  directed ALIEN? ", ["Ridley Scott", "Scott"], "Alien", "http://www.wikidata.org/entity/Q1"),
    ("Who directed Crash?", ["David Cronenberg"], "Crash", "http://www.wikidata.org/entity/Q2"),
    ("Who directed Crash?", ["Paul Haggis"], "crash", "http://www.wikidata.org/entity/Q3"),
    ("When was Crash made?", ["2004"], "Crash", "http://www.wikidata.org/entity/Q3"),
    ("Who directed Heat?", ["Michael Mann", "Mann"], "Heat", "http://www.wikidata.org/entity/Q4"),
    ("Who directed Heat?", ["Mann", "Michael Mann"], "Heat", "http://www.wikidata.org/entity/Q4"),
    ("", ["nothing"], "", None),
    ("", ["something"], "", None),
)


def test_a_question_is_ambiguous_where_others_answer_it_differently() -> None:
    found = ambiguous(library.read(FILMS))
    assert np.flatnonzero(found["question"]).tolist() == [2, 3]
    assert np.flatnonzero(found["subject"]).tolist() == [2, 3, 4]


@pytest.mark.parametrize("column", ["s_uri", "entity_item"])
def test_items_are_found_by_the_name_of_their_column_or_by_what_is_in_it(column: str) -> None:
    rows = [{**{k: v for k, v in row.items() if k != "s_uri"}, "obj_item": "Q9", column: row["s_uri"]} for row in FILMS]
    assert count_ambiguous(library.read(rows)) == {"question": 2, "subject": 3}


def test_the_same_question_of_other_choices_is_another_question() -> None:
    rows = [
        {"question": "Which is true?", "choices": choices, "answer": answer}
        for choices, answer in [(["a", "b"], 0), (["c", "d"], 1), (["c", "d"], 0), (["e", "f"], 0)]
    ]
    assert np.flatnonzero(ambiguous(library.read(rows))["question"]).tolist() == [1, 2]


def test_of_very_many_rows_nothing_is_counted_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "COUNTED", 8)
    data = library.read(FILMS)
    assert count_ambiguous(data) is None
    assert "ambiguous" not in library.select(data, top=0.5).summary()
    kept = library.select(data, whole=True, where="ambiguous=no").kept
    assert len(kept) == 6, "asked for, they are counted all the same"


def test_where_leaves_out_what_is_ambiguous() -> None:
    def kept(where: str) -> list[float]:
        return [row["score_views"] for row in library.select(FILMS, whole=True, where=where).kept]

    assert kept("ambiguous=no") == [0, 1, 5, 6, 7, 8]
    assert kept("ambiguous=question") == [2, 3]
    assert kept("ambiguous=no,subject") == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(SelectionError, match="ambiguous is never 'yes'"):
        kept("ambiguous=yes")


def test_a_column_of_that_name_is_the_users_own() -> None:
    rows = [{**row, "ambiguous": "yes" if n else "no"} for n, row in enumerate(FILMS)]
    assert len(library.select(rows, whole=True, where="ambiguous=no").kept) == 1


def test_where_leaves_out_what_a_test_set_shares(tmp_path: Path) -> None:
    test = rows_of(
        ("When was Alien made?", ["1979"], "alien"), ("Who wrote Emma?", ["Jane Austen", "paul haggis"], "Emma")
    )
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in test))

    def kept(values: str) -> list[float]:
        return [row["score_views"] for row in library.select(FILMS, whole=True, where=f"shared:{path}={values}").kept]

    assert kept("no") == [2, 3, 4, 5, 6, 7, 8]
    assert kept("subject") == [0, 1]
    assert Held(library.read(FILMS).examples()).count(library.read(test).examples()) == {
        "question": 0,
        "subject": 1,
        "answer": 1,
    }
    path.write_text(json.dumps({"question": "Who made Ran?", "answers": ["Paul Haggis"], "subject": "Ran"}) + "\n")
    assert kept("answer") == [3]
    assert kept("no,subject") == [0, 1, 2, 4, 5, 6, 7, 8]


def test_score_select_and_validate_say_what_is_ambiguous(curate: Curate, tmp_path: Path, stories: Path) -> None:
    import pyarrow.parquet as pq

    plain = [{k: v for k, v in row.items() if k != "score_views"} | {"views": row["score_views"]} for row in FILMS[:7]]
    pq.write_table(pa.Table.from_pylist(plain), tmp_path / "films.parquet")
    scored = curate("score", "films.parquet", "--by", "column:views", "-o", "scored.parquet", "--json")
    assert json.loads(scored.stdout)["ambiguous"] == {"question": 2, "subject": 3}
    assert "2 examples ask a question that others answer differently." in scored.stderr
    assert "3 examples name a subject that stands for several items." in scored.stderr
    chosen = curate("select", "scored.parquet", "--whole", "--holdout", "2", "-o", "splits/", "--json")
    summary = json.loads(chosen.stdout)
    assert summary["ambiguous"] == {"question": 2, "subject": 3}
    (shared,) = summary["shared"]
    assert (shared["test"], shared["split"], shared["subject"]) == ("holdout", "whole", 0)
    options = ("--eval", "films.parquet", "--model", stories, "--dry-run", "-o", "run")
    planned = curate("validate", "scored.parquet", *options)
    assert "3 examples of scored name a subject that stands for several items." in planned.stderr
    assert "2 examples of the test set ask a question that others answer differently." in planned.stderr
    assert "7 test examples have an answer that scored trains on." in planned.stderr


def test_a_run_tells_the_answers_that_its_arms_and_its_test_share(films: Rows) -> None:
    found = read_inputs({"top": films[:3]}, films[3:])
    assert found.leakage == {"top": {"question": 0, "subject": 1, "answer": 0}}
    again = read_inputs({"top": films[:3]}, [{**films[4], "answers": ["Michael Mann"]}, films[3]])
    said = "1 test examples have an answer that top trains on."
    assert said in again.warnings()


@pytest.mark.parametrize("told", ["a column", "files"])
def test_scoring_counts_what_the_parts_of_a_dataset_share(curate: Curate, tmp_path: Path, told: str) -> None:
    train = [{"question": "Who directed Alien?", "answer": "Ridley Scott", "subject": "Alien", "views": 1}]
    test = [
        {"question": "When was Alien made?", "answer": "1979", "subject": "alien", "views": 2},
        {"question": "Who directed Legend?", "answer": "Ridley Scott", "subject": "Legend", "views": 3},
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    if told == "files":
        parts = {"facts.train.jsonl": train, "facts.test.jsonl": test}
    else:
        parts = {"all.jsonl": [row | {"split": "train"} for row in train] + [row | {"split": "test"} for row in test]}
    for name, rows in parts.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = curate("score", folder, "--by", "column:views", "-o", "s.parquet", "--json")
    assert json.loads(done.stdout)["shared"] == [
        {"test": "test", "split": "train", "question": 0, "subject": 1, "answer": 1}
    ]
    assert "train shares with test: the subject of 1, the answer of 1 examples." in done.stderr
