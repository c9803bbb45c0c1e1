"""`curate score --by pageviews`, from the command line to the file, and what `curate show` says about it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate as library
from curate.errors import CurateError
from curate.summary import rank_correlation
from tests.wikimedia_server import STUMBLES, TRICKS, Article, WikimediaServer, World

Curate = Callable[..., Any]
Serve = Callable[..., WikimediaServer]
OCTOBER = ("--window", "2021-10")
LIES = [trick for trick in STUMBLES if trick != "slow"] + ["bomb", "packed", "loop", "nowhere", "elsewhere", *TRICKS]


@pytest.fixture
def questions(tmp_path: Path) -> str:
    """Rows with every kind of evidence for their subject, and one with none."""
    rows = [
        {"question": "a?", "answer": "x", "s_wiki_title": "George Rankin", "s_uri": "Q42", "subj": "wrong"},
        {"question": "b?", "answer": "x", "s_uri": "http://www.wikidata.org/entity/Q42", "subj": "wrong"},
        {"question": "c?", "answer": "x", "subj": "AC/DC"},
        {"question": "Where was  Mercury born?", "answer": "x"},
        {"question": "Who is the author of Unread?", "answer": "x"},
        {"question": "Who wrote Nobody?", "answer": "x"},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "questions.jsonl"


def columns(path: Path, *names: str) -> list[tuple[Any, ...]]:
    table = pq.read_table(path)
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def test_scores_and_evidence_of_every_kind_of_row(
    curate: Curate, serve: Serve, world: World, questions: str, tmp_path: Path
) -> None:
    run = curate("score", questions, "--by", "pageviews", *OCTOBER, *serve(world).options, "-o", "s.parquet")
    assert run.exit_code == 0, run.stderr
    found = columns(
        tmp_path / "s.parquet", "pageviews_subject", "pageviews_title", "pageviews_views", "pageviews_status"
    )
    assert found == [
        ("George Rankin", "George Rankin", 142.0, "ok"),
        ("Q42", "Ridley Scott", 100_000.0, "ok"),
        ("AC/DC", "AC/DC", 300_000.0, "ok"),
        ("Mercury", "Mercury", None, "ambiguous"),
        ("Unread", "Unread", 0.0, "zero_views"),
        (None, None, None, "no_subject"),
    ]
    scores = [score for (score,) in columns(tmp_path / "s.parquet", "score_pageviews")]
    assert scores[3] is None and scores[4] == 0.0 and scores[5] is None
    assert scores[:3] == pytest.approx([math.log10(143), math.log10(100_001), math.log10(300_001)])
    assert "5 subjects looked up" in run.stderr and "lookups/s" in run.stderr
    assert list(tmp_path.glob(".s.parquet*")) == []


def test_the_manifest_tells_the_definition(
    curate: Curate, serve: Serve, world: World, questions: str, tmp_path: Path
) -> None:
    curate("score", questions, "--by", "pageviews", "--window", "popqa", *serve(world).options, "-o", "s.parquet")
    manifest = json.loads((tmp_path / "s.parquet.manifest.json").read_text())
    estimator = manifest["estimators"][0]
    told = [estimator[key] for key in ("project", "access", "agent", "window", "redirects")]
    assert told == ["en.wikipedia", "all-access", "all-agents", "2021-10", "not followed"]


def test_columns_and_templates_of_the_users_own(
    curate: Curate, serve: Serve, world: World, questions: str, tmp_path: Path
) -> None:
    world.articles["Nobody"] = Article({"2021-10": 8})
    options = ["--title-column", "subj", "--subject-template", "Who wrote [X]?", *serve(world).options]
    curate("score", questions, "--by", "pageviews", *OCTOBER, *options, "-o", "s.parquet")
    found = columns(tmp_path / "s.parquet", "pageviews_subject", "pageviews_status")
    assert found[0] == ("wrong", "no_article")
    assert found[1] == ("wrong", "no_article")
    assert found[5] == ("Nobody", "ok")


def test_each_title_is_asked_once_however_many_chunks(
    serve: Serve, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 3)
    server = serve(world)
    rows = [{"question": f"{n}?", "answer": "x", "subject": ["AC/DC", "R. Scott", "Unread"][n % 3]} for n in range(30)]
    scored = library.score(rows, by="pageviews", window="2021-10", pageviews_url=server.url, mediawiki_url=server.url)
    assert [row["pageviews_views"] for row in scored] == [300_000.0, 100_000.0, 0.0] * 10
    assert server.asked() == {"AC/DC": 1, "Ridley Scott": 1, "Unread": 1}


def test_where_every_lookup_fails_the_reason_is_told(
    curate: Curate, serve: Serve, world: World, questions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.wikipedia.client.Retry.delay", lambda *_: 0.0)
    world.failing, world.stumbles = 1.0, ["other"]
    run = curate("score", questions, "--by", "pageviews", *OCTOBER, *serve(world).options, "-o", "a.parquet")
    assert run.exit_code == 1
    assert re.search(r"failed \d+ \(pageviews\).*, most often: an answer .*\. Nothing is written", run.stderr)


@pytest.mark.parametrize("seed", range(4))
def test_no_lie_of_a_server_becomes_a_number_and_the_same_command_repairs_every_row(
    curate: Curate,
    serve: Serve,
    world: World,
    questions: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr("curate.wikipedia.client.Retry.delay", lambda *_: 0.0)
    server = serve(world, seed)
    command = ["score", questions, "--by", "pageviews", *OCTOBER, *server.options, "-o"]
    assert curate(*command, "honest.parquet").exit_code == 0
    honest = pq.read_table(tmp_path / "honest.parquet").to_pylist()

    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "another cache"))
    world.failing, world.stumbles = 0.5, LIES
    assert curate(*command, "lied.parquet", "--max-missing", "9").exit_code == 0
    for told, true in zip(pq.read_table(tmp_path / "lied.parquet").to_pylist(), honest, strict=True):
        failed = told["score_pageviews"] is None and told["pageviews_status"] == "failed"
        assert failed or told == true
    world.failing = 0.0
    assert curate(*command, "lied.parquet").exit_code == 0
    assert (tmp_path / "lied.parquet").read_bytes() == (tmp_path / "honest.parquet").read_bytes()


def test_the_commonest_reason_stands_beside_the_counts_of_a_run_of_shards_and_of_what_is_merged(
    curate: Curate, serve: Serve, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.wikipedia.client.Retry.delay", lambda *_: 0.0)
    monkeypatch.setattr("curate.scoring.CHUNK", 2)
    subjects = ["AC/DC", "Ridley Scott", "Unread", "George Rankin", "Mercury"]
    rows = [{"question": f"{n}?", "answer": "x", "subject": subject, "n": n} for n, subject in enumerate(subjects)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    server = serve(world)
    command = ["score", "rows.jsonl", "--by", "column:n", "--by", "pageviews", *OCTOBER, *server.options]
    world.failing, world.stumbles = 1.0, ["list"]
    reason = f"an answer that is not an object, 12 times, from {server.url}"
    told = f"pageviews failed on 5 examples, most often: {reason}\n"

    assert told in curate(*command, "-o", "whole.parquet").stdout
    for part, count in (("1/2", 2), ("2/2", 3)):
        run = curate(*command, "--shard", part, "-o", "shards/")
        assert told.replace("5", str(count), 1) in run.stdout
    assert told in curate("merge", "shards/", "-o", "merged.parquet").stdout
    content = json.loads(curate("merge", "shards/", "-o", "merged.parquet", "--json").stdout)
    assert content["reasons"] == {"pageviews": {reason: 5}}
    assert told in curate("show", "merged.parquet").stdout
    for name in ("parquet", "parquet.manifest.json"):
        assert (tmp_path / f"merged.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()

    world.failing = 0.0
    assert "failed" not in curate(*command, "-o", "whole.parquet").stdout, "the same command asks again"
    assert "reasons" not in json.loads((tmp_path / "whole.parquet.manifest.json").read_text())


def test_offline_then_online_then_offline(
    curate: Curate, serve: Serve, world: World, questions: str, tmp_path: Path
) -> None:
    server = serve(world)
    command = ["score", questions, "--by", "pageviews", *OCTOBER, *server.options]
    run = curate(*command, "--offline", "-o", "a.parquet")
    assert run.exit_code == 1
    assert "No example could be scored: not_cached" in run.stderr
    assert not (tmp_path / "a.parquet").exists()
    run = curate(*command, "--offline", "-o", "a.parquet", "--max-missing", "0")
    assert run.exit_code == 3
    assert {status for (status,) in columns(tmp_path / "a.parquet", "pageviews_status")} == {"not_cached", "no_subject"}
    assert "5 subjects got no answer: George Rankin, Q42, AC/DC, Mercury, Unread" in run.stderr
    assert server.log == []
    curate(*command, "-o", "b.parquet")
    asked = len(server.log)
    curate(*command, "--offline", "-o", "c.parquet")
    assert len(server.log) == asked
    assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "c.parquet").read_bytes()
    curate(*command, "-o", "a.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes(), "what failed is tried again"


def test_refresh_asks_for_what_is_known(
    curate: Curate, serve: Serve, world: World, questions: str, tmp_path: Path
) -> None:
    command = ["score", questions, "--by", "pageviews", *OCTOBER, *serve(world).options]
    curate(*command, "-o", "a.parquet")
    world.articles["AC/DC"] = Article({"2021-10": 1})
    curate(*command, "-o", "b.parquet")
    curate(*command, "--refresh", "-o", "c.parquet")
    views = [columns(tmp_path / name, "pageviews_views")[2] for name in ("a.parquet", "b.parquet", "c.parquet")]
    assert views == [(300_000.0,), (300_000.0,), (1.0,)]


def test_more_unmeasured_than_allowed_ends_in_3(curate: Curate, serve: Serve, world: World, questions: str) -> None:
    command = ["score", questions, "--by", "pageviews", *OCTOBER, *serve(world).options, "-o", "s.parquet"]
    assert curate(*command, "--max-missing", "1").exit_code == 3
    assert curate(*command, "--max-missing", "2").exit_code == 0


def test_a_dry_run_tells_the_cost_and_asks_nobody(curate: Curate, serve: Serve, world: World, questions: str) -> None:
    server = serve(world)
    run = curate("score", questions, "--by", "pageviews", *server.options, "-o", "s.parquet", "--dry-run", "--json")
    assert json.loads(run.stdout)["pageviews"] == {"subjects": 5, "without_subject": 1, "requests_at_most": 6}
    assert server.log == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no contact was given"),
        (["--contact", " "], "no contact was given"),
        (["--pageviews-url", "http://localhost:1"], "no contact was given"),
        (["--views-from", "nowhere.parquet"], "There is no table of views"),
        (["--contact", "me", "--window", "sometime"], "'sometime' is not a window"),
        (["--contact", "me", "--window", "popqa", "--agent", "user"], "--window popqa means --agent all-agents"),
        (["--contact", "me", "--access", "telepathy"], "There is no --access 'telepathy'"),
        (["--pageviews-url", "localhost", "--contact", "me"], "is not a URL"),
        (["--contact", "me", "--subject-template", "Who?"], "does not say where the subject stands"),
        (["--contact", "me", "--title-column", "nope"], "has no column 'nope'"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_asked(
    curate: Curate, questions: str, tmp_path: Path, options: list[str], message: str
) -> None:
    run = curate("score", questions, "--by", "pageviews", *options, "-o", "s.parquet")
    assert run.exit_code == 1
    assert message in run.stderr
    assert not (tmp_path / "s.parquet").exists()


def test_views_that_the_data_already_has() -> None:
    rows = [{"question": "q?", "answer": "a", "s_pop": views} for views in (99, 0, None, 9)]
    scored = library.score(rows, by="pageviews", views_from="column:s_pop")
    assert [(row["score_pageviews"], row["pageviews_status"]) for row in scored] == [
        (2.0, "ok"),
        (0.0, "zero_views"),
        (None, "missing"),
        (1.0, "ok"),
    ]
    with pytest.raises(CurateError, match="does not hold views"):
        library.score([{"question": "q?", "answer": "a", "s_pop": -1}], by="pageviews", views_from="column:s_pop")


def test_a_table_is_joined_once_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 2)
    pq.write_table(pa.table({"title": ["AC/DC", "Ada"], "views": [999, 9]}), tmp_path / "v.parquet")
    rows = [{"question": f"{n}?", "answer": "x", "subject": s} for n, s in enumerate(["AC/DC", "Ada", "Bob"] * 3)]
    scored = library.score(rows, by="pageviews", views_from=str(tmp_path / "v.parquet"))
    assert [row["score_pageviews"] for row in scored] == [3.0, 1.0, None] * 3
    assert scored[2]["pageviews_status"] == "not_in_table"


def test_subject_templates_may_be_a_list_of_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["Heat", "Alien"], "views": [999, 9]}), tmp_path / "v.parquet")
    rows = [{"question": "Who directed Heat?", "answer": "x"}, {"question": "Did you see Alien?", "answer": "x"}]
    scored = library.score(
        rows,
        by="pageviews",
        views_from=str(tmp_path / "v.parquet"),
        subject_template=["Who directed [X]?", "Did you see [X]?"],
    )
    assert [row["pageviews_subject"] for row in scored] == ["Heat", "Alien"]


def test_a_table_can_follow_redirects_and_items(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    pq.write_table(pa.table({"title": ["Ridley Scott"], "views": [999]}), tmp_path / "v.parquet")
    rows = [{"question": "?", "answer": "x", "subject": "R. Scott"}, {"question": "?", "answer": "x", "s_uri": "Q42"}]
    scored = library.score(rows, by="pageviews", views_from=str(tmp_path / "v.parquet"), mediawiki_url=server.url)
    assert [row["pageviews_views"] for row in scored] == [999.0, 999.0]


def test_show_tells_coverage_extremes_and_agreement(curate: Curate, tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": "x", "subject": f"S{n}", "s_pop": n, "views": n**2} for n in range(50)]
    rows.append({"question": "unknown?", "answer": "x", "subject": "U", "s_pop": 3, "views": None})
    library.score(rows, by="pageviews", views_from="column:views")
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    curate("score", "q.jsonl", "--by", "pageviews", "--views-from", "column:views", "-o", "s.parquet")
    report = json.loads(curate("show", "s.parquet", "--json").stdout)["pageviews"]
    assert report["statuses"] == {"ok": 49, "zero_views": 1, "missing": 1}
    assert report["most"][0] == ["S49", 2401.0] and len(report["most"]) == 20
    assert report["least"][0] == ["S0", 0.0] and len(report["least"]) == 20
    assert report["unanswered"] == {"missing": ["U"]}
    assert report["agreement"] == {"column": "s_pop", "examples": 50, "rank_correlation": pytest.approx(1.0)}
    text = curate("show", "s.parquet").stdout
    assert "Most viewed" in text and "rank correlation with s_pop: 1.000 over 50 examples" in text


# ── real data ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def films(shared: Path) -> Iterator[dict[str, dict[str, int]]]:
    """Real monthly views of 1,352 articles, by month."""
    content = json.loads((shared / "data/pageviews/academy_monthly_cumulative_201507-202312.json").read_text())
    yield {title: {f"{m[:4]}-{m[4:]}": v for m, v in months.items()} for title, months in content.items()}


def test_october_2021_ranks_the_films_of_popqa_as_popqa_does(
    serve: Serve, films: dict[str, dict[str, int]], popqa: Path, tmp_path: Path
) -> None:
    server = serve(World(articles={title: Article(months) for title, months in films.items()}))
    rows = [row for row in library.read(popqa).table.to_pylist() if row["s_wiki_title"] in films]
    assert len({row["s_wiki_title"] for row in rows}) == 25
    scored = library.score(rows, by="pageviews", window="popqa", pageviews_url=server.url, mediawiki_url=server.url)
    once = {row["s_wiki_title"]: row for row in scored}
    ours = np.array([row["score_pageviews"] for row in once.values()], float)
    theirs = np.array([row["s_pop"] for row in once.values()], float)
    assert not np.isnan(ours).any()
    assert rank_correlation(ours, theirs) > 0.99


def test_every_entity_question_has_a_subject_in_the_file(shared: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["Nothing"], "views": [1]}), tmp_path / "v.parquet")
    folder = shared / "data" / "entityquestions" / "test"
    output = library.score(
        folder, by="pageviews", views_from=str(tmp_path / "v.parquet"), output=tmp_path / "s.parquet"
    )
    statuses = [status for (status,) in columns(output, "pageviews_status")]
    assert len(statuses) == 22_075
    assert statuses.count("no_subject") <= 0.005 * len(statuses)
