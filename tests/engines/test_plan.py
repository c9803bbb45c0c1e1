"""The plan for 100 million examples follows from what it assumes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.test_docs import ROOT, load

scaling = load("scaling")
PLAN = scaling.Plan(examples=2e6, gpus=4, load_seconds=0)


def test_the_tables_on_the_page_are_what_comes_out_now() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    assert text == scaling.page(text), "python docs/tables/scaling.py writes them anew"


def test_workers_are_busy_until_the_driver_is_the_slowest() -> None:
    ideal = PLAN.examples / PLAN.rate / PLAN.gpus / 3600
    assert scaling.simulate(PLAN)["hours"] == pytest.approx(ideal, rel=0.02)
    slow = replace(PLAN, driver_seconds=1e-3)
    assert scaling.simulate(slow)["hours"] == pytest.approx(PLAN.examples * 1e-3 / 3600, rel=0.02)


def test_failures_cost_time() -> None:
    failing = replace(PLAN, mean_time_between_failures=60.0, load_seconds=30.0)
    assert scaling.simulate(failing)["busy"] < 0.8 < scaling.simulate(PLAN)["busy"]
