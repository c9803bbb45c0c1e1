"""Questions that are asked more than once are counted, and dropped if asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.data.repeats import folded
from tests.selection.rows import Rows

QUESTIONS = st.lists(
    st.tuples(st.sampled_from(["Who wrote Emma?", "who  wrote emma?", " Who wrote EMMA? ", "Who wrote Dune?", "?"]),
              st.integers(0, 5)), min_size=1, max_size=20,
)  # fmt: skip


def asked(questions: list[tuple[str, int]]) -> Rows:
    return [
        {"question": question, "answer": "x", "curate_id": f"id-{i}", "score_x": float(score)}
        for i, (question, score) in enumerate(questions)
    ]


@given(questions=QUESTIONS)
def test_the_best_known_row_of_every_question_stays(questions: list[tuple[str, int]]) -> None:
    rows = asked(questions)
    kept = curate.select(rows, dedup="exact").kept
    best: dict[str, float] = {}
    for row in rows:
        best[folded(row["question"])] = max(best.get(folded(row["question"]), 0), row["score_x"])
    assert {folded(row["question"]): row["score_x"] for row in kept} == best
    assert len(kept) == len(best)
    again = curate.select(rows[::-1], dedup="exact").kept
    assert {row["curate_id"] for row in again} == {row["curate_id"] for row in kept}, "whatever the order of the rows"
    assert curate.select(rows, whole=True).summary().get("duplicates", 0) == len(rows) - len(best)


def test_the_repeats_that_are_left_out_have_no_score_to_lose() -> None:
    rows = [*asked([("a?", 3), ("A?", 1)]), {"question": "a?", "answer": "x", "curate_id": "none", "score_x": None}]
    chosen = curate.select(rows, dedup="exact")
    assert chosen.summary()["left_out"] == {"no score": 1, "asked more than once": 1}
    assert [row["curate_id"] for row in chosen.kept] == ["id-0"]


def test_choices_that_differ_make_other_questions() -> None:
    rows = [
        {"question": "Which one?", "choices": choices, "answer": choices[0], "score_x": 1.0}
        for choices in (["a", "b"], ["a", "b"], ["c", "d"])
    ]
    assert len(curate.select(rows, dedup="exact").kept) == 2


def test_near_duplicates_have_names_answer_and_nearly_all_letters_in_common() -> None:
    pytest.importorskip("rensa")
    questions = [
        ("What is the capital city of France?", "Paris"),
        ("What is the capital city of France", "Paris"),
        ("What's the capital city of France?", "Paris"),
        ("What is the capital city of Gabon?", "Paris"),
        ("What is the capital city of France?", "Lyon"),
        ("Name a city in France.", "Paris"),
        ("Who won the race in 1931?", "Smith"),
        ("Who won the race in 1932?", "Smith"),
    ]
    rows = [{"question": q, "answer": a, "score_x": float(i)} for i, (q, a) in enumerate(questions)]
    kept = {row["question"] for row in curate.select(rows, dedup="near").kept if row["answer"] == "Paris"}
    assert kept == {questions[2][0], questions[3][0], questions[5][0]}
    assert len(curate.select(rows, dedup="near").kept) == 6
    assert len(curate.select(rows, dedup="exact").kept) == 7


def test_near_without_its_library_says_what_to_install(
    curate: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rensa", None)
    rows = [{"question": q, "answer": "x", "score_x": 1.0} for q in ("Who is it?", "Who is it")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = curate("select", "rows.jsonl", "--dedup", "near", "-o", "out.parquet")
    assert done.exit_code == 1
    assert "pip install 'curate-qa[dedup]'" in done.stderr
    assert "There is no --dedup 'fuzzy'" in curate("select", "rows.jsonl", "--dedup", "fuzzy", "-o", "o.parquet").stderr


def test_the_command_counts_repeats(curate: Callable[..., Any], popqa: Path) -> None:
    counted = curate("select", popqa, "--by", "column:s_pop", "--whole", "-o", "w.parquet", "--json")
    again = json.loads(counted.stdout)["duplicates"]
    assert f"{again} examples ask again what another asks" in counted.stderr
    found = json.loads(
        curate("select", popqa, "--by", "column:s_pop", "--dedup", "exact", "-o", "d.parquet", "--json").stdout
    )
    assert found["left_out"] == {"asked more than once": again}
    assert "duplicates" not in found
