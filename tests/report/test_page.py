from __future__ import annotations

import re

import pytest

from curate.report.figures import ladders, sizes_figure
from curate.report.page import RunTables, draw_figures, flat, report_page
from tests.report.made_up import made_up_run


def test_every_part_of_a_run_has_its_section(page: str) -> None:
    assert re.findall(r'<section id="(\w+)">', page) == [
        "answers",
        "accuracy",
        "differences",
        "mix",
        "knowledge",
        "popularity",
        "relations",
        "attention",
        "training",
        "leakage",
        "configuration",
    ]


def test_nothing_is_fetched_and_only_the_pages_own_script_may_run(page: str) -> None:
    assert not re.search(r"https?:|@import|url\((?!#)|(src|href)=\"(?!#|data:)", page)
    assert "default-src 'none'" in page
    assert page.count("<script") == 2  # the table's data, and the script whose hash the policy names
    assert "window.broken = true</script>" not in page


def test_figures_take_the_colour_of_the_page_and_show_no_formulas(page: str) -> None:
    assert page.count("currentColor") > 100
    assert "#1b2026" not in re.sub(r"<style>.*</style>", "", page, flags=re.S)
    assert "$x_1$" in page


def test_twenty_thousand_predictions_stay_under_three_megabytes(page: str) -> None:
    """One seed: as many questions as there can be. The figures' size does not depend on the number."""
    run = made_up_run(4000, seeds=1)
    assert len(run.predictions) == 20_000
    figures = page.count("<svg") and sum(len(svg) for svg in re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert len(report_page(run, {}).encode()) + figures < 3_000_000


def test_a_run_with_one_arm_and_nothing_known_of_its_questions_has_a_page() -> None:
    run = made_up_run(10)
    plain = RunTables(
        {
            "verdict": "There is only one arm.",
            "arms": [row for row in run.summary["arms"] if row["arm"] in ("base", "top")],
            "differences": [],
            "warnings": [],
            "leakage": {},
            "config": {"model": {"name": "m"}, "bootstrap": "none"},
        },
        {},
        [
            {**row, "relation": None, "subject": None, "popularity_percentile": None}
            for row in run.predictions
            if row["arm"] in ("base", "top")
        ],
    )
    figures = draw_figures(plain)
    assert list(figures) == ["accuracy"]
    assert re.findall(r'<section id="(\w+)">', report_page(plain, figures)) == ["answers", "accuracy", "configuration"]


def test_settings_are_told_by_their_full_name() -> None:
    assert list(flat({"finetune": {"learning_rate": 0.1}, "seeds": [0, 1], "limit": None, "note": "x"})) == [
        ("finetune.learning_rate", "0.1"),
        ("seeds", "[0, 1]"),
        ("limit", "null"),
        ("note", "x"),
    ]


@pytest.mark.filterwarnings("error")
def test_drawing_is_the_same_every_time_and_silent_about_scripts_it_has_no_letters_for() -> None:
    from curate.report.figures import relations_figure

    rows = [{"relation": "職業", "arm": "top", "n": 3, "accuracy": 0.5, "low": 0.4, "high": 0.6}]
    first, second = relations_figure(rows), relations_figure(rows)
    assert first.png() == second.png()
    assert first.svg() == second.svg()
    assert "職業" in first.svg()


def test_intervals_beyond_0_and_100_percent_leave_the_axis_as_it_is() -> None:
    from curate.report.figures import curves_figure, relations_figure

    few = {"arm": "top", "n": 2, "accuracy": 0.5, "low": -1.5, "high": 2.5}
    axes = curves_figure([{**few, "top_percent": x} for x in (50, 100)]).figure.axes[0]
    assert axes.get_ylim() == (-3, 103)
    assert relations_figure([{**few, "relation": "sport"}]).figure.axes[0].get_xlim() == (-3, 103)


def test_accuracy_is_drawn_against_size_where_there_are_ladders() -> None:
    names = {"base": 0, "top-60": 60, "top-240": 240, "top": 1500, "mix-60": 57, "random": 1500, "band-20-70": 700}
    arms = [{"arm": arm, "n_train": n, "accuracy": 0.5, "stderr": 0.01} for arm, n in names.items()]
    assert [(row["arm"], row["n_train"]) for row in ladders(arms)] == [("top", 60), ("top", 240), ("top", 1500)]
    assert ladders(arms[:2]) == []
    axes = sizes_figure(ladders(arms)).figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["60", "240", "1,500"]
