"""`curate score --by sitelinks`, from the command line to the file, against a small Wikidata that may lie."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate as library
from curate.wikipedia.client import parse_items
from curate.wikipedia.pages import Cache, Item
from tests.wikimedia_server import TRICKS, WikimediaServer, World

Curate = Callable[..., Any]
Serve = Callable[..., WikimediaServer]


@pytest.fixture
def world(world: World) -> World:
    """Q42 is an article here and in 150 other wikis, Q43 in three others only, Q45 in none."""
    world.items |= {"Q45": "", "Q46": "AC/DC"}
    world.wikis = {"Q42": 150, "Q43": 3, "Q46": 99}
    return world


ROWS = [
    {"question": "a?", "answer": "x", "s_uri": "http://www.wikidata.org/entity/Q42", "s_wiki_title": "AC/DC"},
    {"question": "b?", "answer": "x", "s_uri": "Q43"},
    {"question": "c?", "answer": "x", "s_uri": "Q45"},
    {"question": "d?", "answer": "x", "s_uri": "Q404"},
    {"question": "e?", "answer": "x", "s_uri": "Q999999999999"},
    {"question": "f?", "answer": "x", "s_wiki_title": "AC/DC"},
    {"question": "g?", "answer": "x", "subj": "R. Scott"},
    {"question": "h?", "answer": "x", "subj": "Mercury"},
    {"question": "i?", "answer": "x", "subj": "Nobody at all"},
    {"question": "j?", "answer": "x", "subj": "Unread"},
    {"question": "Who wrote nothing?", "answer": "x"},
]
FOUND = [
    (151, "Q42", "ok"),
    (3, "Q43", "ok"),
    (0, "Q45", "ok"),
    (None, None, "no_item"),
    (None, None, "no_item"),
    (100, "Q46", "ok"),
    (151, "Q42", "ok"),
    (None, None, "ambiguous"),
    (None, None, "no_article"),
    (None, None, "no_item"),
    (None, None, "no_subject"),
]


@pytest.fixture
def questions(tmp_path: Path) -> str:
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return "questions.jsonl"


def found_in(path: Path) -> list[tuple[Any, ...]]:
    table = pq.read_table(path)
    columns = (table[f"sitelinks_{name}"].to_pylist() for name in ("count", "qid", "status"))
    return list(zip(*columns, strict=True))


def scored(server: WikimediaServer, *subjects: str, **options: Any) -> list[tuple[str, int | None]]:
    """Status and count of subjects; Q42 and its like are items."""
    rows = [{"question": "?", "answer": "x", "s_uri" if s[:1] == "Q" else "subj": s} for s in subjects]
    found = library.score(rows, by="sitelinks", mediawiki_url=server.url, **options)
    return [(row["sitelinks_status"], row["sitelinks_count"]) for row in found]


def test_items_and_articles_are_counted_and_every_gap_has_its_status(
    curate: Curate, serve: Serve, world: World, questions: str, tmp_path: Path
) -> None:
    run = curate("score", questions, "--by", "sitelinks", "--mediawiki-url", serve(world).url, "-o", "s.parquet")
    assert run.exit_code == 0, run.stderr
    assert found_in(tmp_path / "s.parquet") == FOUND
    scores = pq.read_table(tmp_path / "s.parquet")["score_sitelinks"].to_pylist()
    assert scores == [None if count is None else math.log10(1 + count) for count, *_ in FOUND]
    assert "no_item 3" in run.stdout and "10 subjects looked up" in run.stderr
    manifest = json.loads((tmp_path / "s.parquet.manifest.json").read_text())
    assert manifest["estimators"][0]["project"] == "en.wikipedia"


def test_the_item_comes_before_the_title_unless_the_user_names_the_title(serve: Serve, world: World) -> None:
    rows = [{**ROWS[0], "title": "AC/DC", "item": "Q43"}]
    for options, count in (({}, 151), ({"title_column": "title"}, 100), ({"qid_column": "item"}, 3)):
        (row,) = library.score(rows, by="sitelinks", mediawiki_url=serve(world).url, **options)
        assert row["sitelinks_count"] == count, options


def test_fifty_items_are_asked_for_in_one_request_and_each_once(serve: Serve, world: World) -> None:
    world.items |= {f"Q{n}": "" for n in range(1000, 1120)}
    server = serve(world)
    items = [f"Q{n}" for n in range(1000, 1120)]
    assert scored(server, *items, *items) == [("ok", 0)] * 240
    assert len(server.log) == 3
    assert scored(server, *items, offline=True) == [("ok", 0)] * 120
    assert len(server.log) == 3, "what was answered is kept"
    world.wikis["Q1000"] = 5
    assert scored(server, "Q1000", refresh=True) == [("ok", 5)]


def test_articles_are_resolved_fifty_at_a_time_too(serve: Serve, world: World) -> None:
    server = serve(world)
    assert scored(server, *["AC/DC", "ac/DC", "R. Scott"] * 20)[:3] == [("ok", 100), ("no_article", None), ("ok", 151)]
    assert len(server.log) == 2


def test_wikidata_may_be_elsewhere_than_the_wiki(serve: Serve, world: World) -> None:
    wiki, items = serve(world), serve(world)
    assert scored(wiki, "AC/DC", "Q42", wikidata_url=items.url) == [("ok", 100), ("ok", 151)]
    assert ["wbgetentities" in request.path for request in wiki.log] == [False]
    assert all("wbgetentities" in request.path for request in items.log) and len(items.log) == 2


def test_a_dry_run_tells_the_requests_and_asks_nobody(
    curate: Curate, serve: Serve, world: World, questions: str
) -> None:
    server = serve(world)
    run = curate(
        *["score", questions, "--by", "sitelinks", "--mediawiki-url", server.url, "-o", "s.parquet"],
        *["--dry-run", "--json"],
    )
    assert json.loads(run.stdout)["sitelinks"] == {"subjects": 10, "without_subject": 1, "requests_at_most": 3}
    assert server.log == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no contact was given"),
        (["--wikidata-url", "http://localhost:1"], "no contact was given"),
        (["--mediawiki-url", "localhost"], "--mediawiki-url 'localhost' is not a URL"),
        (["--contact", "me", "--wikidata-url", "localhost"], "--wikidata-url 'localhost' is not a URL"),
        (["--contact", "me", "--qid-column", "nope"], "has no column 'nope'"),
        (["--contact", "me", "--rate", "-1"], "--rate -1.0 is out of range"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_asked(
    curate: Curate, questions: str, tmp_path: Path, options: list[str], message: str
) -> None:
    run = curate("score", questions, "--by", "sitelinks", *options, "-o", "s.parquet")
    assert run.exit_code == 1 and message in run.stderr, run.stderr
    assert not (tmp_path / "s.parquet").exists()


def test_offline_says_what_was_never_asked_for(curate: Curate, serve: Serve, world: World, questions: str) -> None:
    command = ["score", questions, "--by", "sitelinks", "--mediawiki-url", serve(world).url, "-o", "s.parquet"]
    assert "No example could be scored: not_cached" in curate(*command, "--offline").stderr
    assert curate(*command).exit_code == 0
    assert curate(*command, "--offline", "--force").exit_code == 0


LIES = {
    "no count": '{"entities": {"Q42": {"id": "Q42", "sitelinks": 150}}}',
    "no links": '{"entities": {"Q42": {"id": "Q42", "sitelinks": ["enwiki"]}}}',
    "no id": '{"entities": {"Q42": {"id": "<script>", "sitelinks": {}}}}',
    "no text": '{"entities": {"Q42": {"id": 42, "sitelinks": {}}}}',
    "no items": '{"entities": [1, 2]}',
    "too many": json.dumps({"entities": {"Q42": {"id": "Q42", "sitelinks": {f"w{n}": 0 for n in range(10_001)}}}}),
    "silence": '{"entities": {}}',
}


@pytest.mark.parametrize("lie", [*LIES, "deep", "list", "other", "endless", "bomb", "loop", "elsewhere", "html"])
def test_whatever_wikidata_answers_is_a_status_and_asked_again(
    serve: Serve, world: World, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    monkeypatch.setitem(TRICKS, lie, LIES[lie]) if lie in LIES else None
    monkeypatch.setattr("curate.wikipedia.client.Retry.delay", lambda *given: 0.0)
    server = serve(world)
    world.failing, world.stumbles = 1.0, [lie]
    assert scored(server, "Q42") == [("failed", None)]
    world.failing = 0.0
    assert scored(server, "Q42") == [("ok", 151)], "nothing of it was kept"


def test_a_row_of_the_cache_that_cannot_be_is_as_good_as_absent(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", lambda: 1e9)
    rows = [
        ("ok", "Q1", -1),
        ("ok", "Q1", 10**6),
        ("ok", None, 3),
        ("ok", "Q1", "3x"),
        ("no_item", "Q1", 3),
        ("odd",) * 3,
    ]
    with sqlite3.connect(tmp_path / "c") as db:
        for n, row in enumerate(rows):
            db.execute("INSERT INTO items VALUES (?,?,?,?,?,?)", ("scope", f"T{n}", *row, 1e9))
    assert cache.found(Item, "scope", [f"T{n}" for n in range(9)]) == {}
    cache.keep("scope", "T0", Item("ok", "Q1", 3))
    cache.keep("scope", "T1", Item("no_item"))
    assert cache.found(Item, "scope", ["T0", "T1", "T2"]) == {"T0": Item("ok", "Q1", 3), "T1": Item("no_item")}


def test_a_cache_of_an_earlier_version_learns_of_items(serve: Serve, world: World, cache_folder: Path) -> None:
    cache_folder.mkdir()
    with sqlite3.connect(cache_folder / "wikipedia.sqlite") as db:
        db.execute(
            "CREATE TABLE titles (scope TEXT, asked TEXT, status TEXT, title TEXT, at REAL, PRIMARY KEY (scope, asked))"
        )
    assert scored(serve(world), "Q42") == [("ok", 151)]


def test_recorded_answers_of_wikidata(shared: Path) -> None:
    folder = shared / "data" / "wikimedia_api"
    item = json.loads((folder / "wptools_wikidata.json").read_text())["response"]
    count = len(item["entities"]["Q42"]["sitelinks"])
    assert count > 50
    assert parse_items(["Q42"], [item]) == {"Q42": Item("ok", "Q42", count)}
    assert parse_items(["Douglas Adams", "Elsewhere"], [item], "enwiki") == {"Douglas Adams": Item("ok", "Q42", count)}
    deleted = json.loads((folder / "wptools_wikidata_deleted.json").read_text())["response"]
    assert parse_items(["Q10908976"], [deleted]) == {"Q10908976": Item("no_item")}


def test_an_item_merged_into_another_is_counted_under_its_old_name() -> None:
    merged = {"id": "Q42", "redirects": {"from": "Q9", "to": "Q42"}, "sitelinks": {"enwiki": {"title": "A"}}}
    assert parse_items(["Q9"], [{"entities": {"Q42": merged}}]) == {"Q9": Item("ok", "Q42", 1)}


def test_page_views_and_sitelinks_of_one_file_share_titles(
    curate: Curate, serve: Serve, world: World, questions: str, tmp_path: Path
) -> None:
    server = serve(world)
    run = curate(
        *["score", questions, "--by", "sitelinks", "--by", "pageviews", "--window", "2021-10"],
        *[*server.options, "-o", "s.parquet"],
    )
    assert run.exit_code == 0, run.stderr
    assert found_in(tmp_path / "s.parquet") == FOUND
    assert curate("show", "--agreement", "s.parquet").exit_code == 0
