from __future__ import annotations

from typing import Any

from curate.estimators.registry import read_shots
from curate.prompts import DEFAULT
from curate.scoring import prepare


def test_solved_examples_may_be_a_list_of_rows_and_subject_templates_a_list_of_texts(
    films: list[dict[str, Any]],
) -> None:
    settings = {"shots": 2, "shots_from": films, "subject_template": ["Who directed {subject}?"]}
    options = prepare(films, "loss", None, None, settings).options
    assert read_shots(DEFAULT, options).count == 2
    assert options.pageviews.subject_template == ("Who directed {subject}?",)
