"""What is read off the rows: gaps, intervals, trends, and the sentence."""

from __future__ import annotations

import numpy as np
import pytest

from curate.simulation.settings import Tables
from curate.simulation.summary import mean_interval, summarise_sweep, trend


def made_up(gap_by_seed: dict[float, list[float]]) -> Tables:
    """Rows in which top beats bottom by the given shares, for every alpha and seed."""
    tables: Tables = {"results": [], "pretraining": []}
    for alpha, by_seed in gap_by_seed.items():
        for seed, gap in enumerate(by_seed):
            front = {"seed": seed, "alpha": alpha, "steps": 100}
            tables["pretraining"].append({**front, "memorisation": 0.97})
            for arm, accuracy in {"top": 0.5, "bottom": 0.5 - gap, "random": 0.45, "whole": 0.6}.items():
                of_all = {"top_percent": 100, "accuracy": accuracy, "accuracy_at_last": accuracy / 2}
                of_few = {"top_percent": 5, "accuracy": 1.0, "accuracy_at_last": 1.0}
                tables["results"] += [{**front, "arm": arm, **row} for row in (of_few, of_all)]
    return tables


def test_a_summary_has_these_names_in_this_order() -> None:
    summary = summarise_sweep(made_up({0.5: [0.05, 0.06], 1.0: [0.07, 0.08]}))
    assert list(summary) == ["verdict", "settings", "trends"]
    front = ["alpha", "steps", "seeds", "memorisation", "arms"]
    assert list(summary["settings"][0]) == [*front, "differences", "gap_at_last", "gap_by_popularity"]
    assert list(summary["trends"]["alpha"]) == ["spearman", "low", "high", "p"]
    assert [row["arm"] for row in summary["settings"][0]["arms"]] == ["top", "random", "bottom", "whole"]


def test_the_interval_is_students() -> None:
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx({"mean": 2, "low": 2 - 2.484, "high": 2 + 2.484}, abs=1e-3)
    assert mean_interval([1.0], "share") == {"share": 1.0, "low": None, "high": None}


def test_the_gap_is_of_all_test_facts_and_positive_where_top_is_better() -> None:
    (setting,) = summarise_sweep(made_up({1.0: [0.05, 0.06, 0.07]}))["settings"]
    differences = {(row["a"], row["b"]): row["difference"] for row in setting["differences"]}
    assert differences == pytest.approx({("top", "random"): 0.05, ("top", "bottom"): 0.06, ("top", "whole"): -0.1})
    assert setting["memorisation"]["share"] == pytest.approx(0.97)
    assert {row["top_percent"]: row["difference"] for row in setting["gap_by_popularity"]} == pytest.approx(
        {5: 0, 100: 0.06}
    )
    assert setting["gap_at_last"]["difference"] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ({1.0: [0.05, 0.06, 0.07]}, "by +6.0 points (95% interval +3.5 to +8.5);"),
        ({1.0: [0.05, -0.04, 0.01]}, "no clear difference"),
        ({1.0: [0.05]}, "no interval from one seed"),
        ({0: [0.0, 0.01], 0.5: [0.01, 0.02], 1: [0.03, 0.05], 1.5: [0.04, 0.06]}, "grows with alpha (Spearman +1.00"),
        ({0: [0.1, 0.1], 0.5: [0.03, 0.02], 1: [0.01, 0.01], 1.5: [0.0, 0.0]}, "shrinks with alpha (Spearman -1.00"),
        ({0: [0.0, 0.1], 0.5: [0.03, 0.02], 1: [0.01, 0.01], 1.5: [0.2, 0.2]}, "does not clearly move with alpha"),
        ({0.5: [0.01, 0.02], 1.0: [0.03, 0.05]}, "does not clearly move with alpha"),
        (
            {0: [0.0], 0.5: [0.01], 1: [0.03]},
            "does not clearly move with alpha (Spearman +1.00, one seed, no interval)",
        ),
    ],
)
def test_the_verdict_says_what_the_intervals_allow(gaps: dict[float, list[float]], said: str) -> None:
    assert said in summarise_sweep(made_up(gaps))["verdict"]


def test_a_trend_is_taken_inside_each_seed() -> None:
    x = np.array([1.0, 2.0, 3.0])
    assert trend(x, np.array([[0.1, 0.2, 0.3], [5.0, 6.0, 7.0]]))["spearman"] == pytest.approx(1)
    assert trend(x, np.array([[0.1, 0.1, 0.1], [0.3, 0.2, 0.1]]))["spearman"] == pytest.approx(-0.5)


def test_the_p_of_a_trend_is_the_share_of_orders_as_strong() -> None:
    x = np.array([1.0, 2.0, 3.0])
    one_seed = np.array([[0.1, 0.2, 0.3]])
    assert trend(x, one_seed)["p"] == pytest.approx(2 / 6, abs=0.02)
    assert trend(x, np.tile(one_seed, (2, 1)))["p"] == pytest.approx(2 / 36, abs=0.01)
    assert trend(x, np.array([[0.1, 0.3, 0.1]]))["p"] == pytest.approx(1, abs=0.01)
