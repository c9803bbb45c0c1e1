"""Recorded real answers of the APIs parse as they are."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from curate.wikipedia.cache import Page
from curate.wikipedia.client import parse_entities, parse_query, total_views
from curate.wikipedia.options import parse_window


@pytest.fixture
def recorded(shared: Path) -> Path:
    return shared / "data" / "wikimedia_api"


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("purpleberry", Page("no_article")),
        ("Menlo Park, New Jersey", Page("ok", "Edison, New Jersey")),
        ("communist Party", Page("ok", "Communist party")),
        ("Dodge Ram (disambiguation)", Page("ambiguous", "Dodge Ram (disambiguation)")),
        ("butterfly", Page("ok", "Butterfly")),
        ("Celtuce", Page("ok", "Celtuce")),
    ],
)
def test_answers_of_format_version_1(recorded: Path, asked: str, page: Page) -> None:
    exchanges = load(recorded / "goldsmith_wikipedia_mock_requests.json")
    answers = [e["response"] for e in exchanges if e["params"].get("titles") == asked and "ppprop" in e["params"]]
    assert parse_query([asked], answers) == {asked: page}


def test_answers_of_format_version_2(recorded: Path) -> None:
    redirect = load(recorded / "wptools_redirect.json")["response"]
    assert parse_query(["Adams, Douglas"], [redirect]) == {"Adams, Douglas": Page("ok", "Douglas Adams")}
    ambiguous = load(recorded / "wptools_disambiguation.json")["response"]
    title = "Douglas Adams (disambiguation)"
    assert parse_query([title], [ambiguous]) == {title: Page("ambiguous", title)}


def test_sitelinks_of_an_item_and_of_one_that_was_deleted(recorded: Path) -> None:
    item = load(recorded / "wptools_wikidata.json")["response"]
    assert parse_entities(["Q42"], [item], "enwiki") == {"Q42": "Douglas Adams"}
    assert parse_entities(["Q42"], [item], "nowhere") == {"Q42": None}
    deleted = load(recorded / "wptools_wikidata_deleted.json")["response"]
    assert parse_entities(["Q10908976"], [deleted], "enwiki") == {"Q10908976": None}


def test_an_item_that_was_merged_into_another_is_found_under_its_old_name() -> None:
    merged = {
        "id": "Q42",
        "redirects": {"from": "Q9", "to": "Q42"},
        "sitelinks": {"enwiki": {"title": "Douglas Adams"}},
    }
    assert parse_entities(["Q9"], [{"entities": {"Q42": merged}}], "enwiki") == {"Q9": "Douglas Adams"}


def test_views_of_an_article(shared: Path) -> None:
    answer = load(shared / "data" / "pageviews" / "raw_per_article_monthly_Dan_Castellaneta.json")
    today = date(2026, 11, 23)
    assert total_views(answer, parse_window("2020-02", today)) == 44_984
    assert total_views(answer, parse_window("2020-01:2020-12", today)) == 468_291
    assert total_views(answer, parse_window("2021-10", today)) == 0
