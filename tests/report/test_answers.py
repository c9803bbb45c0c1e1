from __future__ import annotations

import json
from typing import Any

from curate.report.page import answers_table
from tests.report.made_up import BAD


def said(id: str, arm: str, seed: int, prediction: str, correct: bool, question: str = "Who?") -> dict[str, Any]:
    return {
        "id": id,
        "arm": arm,
        "seed": seed,
        "question": question,
        "answers": ["Ann", "A."],
        "prediction": prediction,
        "correct": correct,
        "popularity_percentile": 12.4,
        "relation": None,
        "subject": "Ann",
    }


def test_top_right_and_bottom_wrong_comes_first_over_all_seeds() -> None:
    marks = {  # top's two seeds, bottom's two seeds
        "both right": (1, 1, 1, 1),
        "bottom right": (0, 0, 1, 1),
        "top right": (1, 1, 0, 0),
        "half": (1, 0, 0, 0),
        "differ": (1, 0, 0, 1),
    }
    rows = [
        said(id, arm, seed, "x", bool(mark[2 * (arm == "bottom") + seed]), question=id)
        for id, mark in marks.items()
        for arm in ("top", "bottom")
        for seed in (0, 1)
    ]
    table = json.loads(answers_table(rows, ["top", "bottom"]).json)
    assert [row[0] for row in table["rows"]] == ["top right", "half", "both right", "differ", "bottom right"]


def test_answers_that_several_seeds_gave_are_told_once_with_their_number() -> None:
    rows = [said("1", "top", seed, text, "Ann" in text) for seed, text in enumerate(["Ann", "Bob", "Ann", " Ann"])]
    table = json.loads(answers_table(rows, ["top"]).json)
    assert table["arms"] == [{"label": "FT-Top", "seeds": 4, "first": 0, "untouched": 0}]
    assert table["rows"] == [["Who?", ["Ann", "A."], 12, None, "Ann", [[["Ann", 1, 3], ["Bob", 0, 1]]], 0, 0]]


def test_text_cannot_end_the_element_it_stands_in_and_comes_back_whole() -> None:
    table = answers_table([said("1", "top", 0, BAD, True, question=BAD)], ["top"])
    assert "<" not in table.json
    assert json.loads(table.json)["rows"][0][0] == BAD


def test_what_the_page_has_no_room_for_is_counted() -> None:
    rows = [said(str(n), "top", 0, "Ann", True, question="Who? " * 50) for n in range(100)]
    table = answers_table(rows, ["top"], budget=10_000)
    assert (len(table.json) < 11_000, table.shown + table.left_out) == (True, 100)
    assert 10 < table.shown < 100
