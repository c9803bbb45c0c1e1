"""From subjects to views, over real sockets or from a table, whatever the servers do and whoever kills the run."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import PageViewsError
from curate.wikipedia.client import Retry
from curate.wikipedia.dumps import build_table
from curate.wikipedia.options import BuildSettings
from curate.wikipedia.views import Reference, TableViews
from tests.wikimedia_server import STUMBLES, Article, WikimediaServer, World
from tests.wikipedia.lookups import answers, open_views

FULL = bool(os.environ.get("CURATE_FULL_TESTS"))

Serve = Callable[..., WikimediaServer]


def test_every_kind_of_subject_has_its_own_status(serve: Serve, world: World, tmp_path: Path) -> None:
    expected = {
        "George Rankin": ("ok", 142.0),
        "george_Rankin": ("ok", 142.0),
        "R. Scott": ("ok", 100_000.0),
        "AC/DC": ("ok", 300_000.0),
        "mercury": ("ambiguous", None),
        "Unread": ("zero_views", 0.0),
        "Newly written": ("no_article", None),
        "Nobody At All": ("no_article", None),
        "C#": ("no_article", None),
        "Round": ("no_article", None),
        "Q42": ("ok", 100_000.0),
        "Q43": ("no_article", None),
        "Q44": ("ok", 100_000.0),
        "Q45": ("no_article", None),
        "Q999999999999": ("no_article", None),
    }
    assert answers(open_views(serve(world), tmp_path / "c"), *expected) == expected


def test_each_title_is_asked_for_once_however_it_is_written(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    views = open_views(server, tmp_path / "c")
    answers(views, "Ridley Scott", "ridley_Scott", "R. Scott", "Sir Ridley", "Q42")
    answers(views, "Ridley Scott", "Q44", "AC/DC")
    assert server.asked() == {"Ridley Scott": 1, "AC/DC": 1}


def test_fifty_titles_are_resolved_in_one_request(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c"), *(f"Person {n}" for n in range(101)))
    assert sum(r.path.startswith("/w/api.php") for r in server.log) == 3


def test_long_titles_are_resolved_in_smaller_batches(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c"), *(f"{n} {'東' * 80}" for n in range(50)))
    assert max(len(r.path) for r in server.log) < 8000


def test_a_window_of_several_months_gives_their_mean(serve: Serve, world: World, tmp_path: Path) -> None:
    views = open_views(serve(world), tmp_path / "c", window="2021-07:2021-10")
    assert answers(views, "George Rankin") == {"George Rankin": ("ok", (90 + 142) / 4)}


def test_the_window_popqa_follows_no_redirect_and_counts_bots(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    world.articles["Sir Ridley"] = Article({"2021-10": 12})
    assert answers(open_views(server, tmp_path / "c", "popqa"), "Sir Ridley") == {"Sir Ridley": ("ok", 12.0)}
    assert "/en.wikipedia/all-access/all-agents/Sir_Ridley/monthly/2021100100/2021103100" in server.log[-1].path


def test_every_request_says_who_asks(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c", contact="me@example.org"), "AC/DC")
    assert {r.agent for r in server.log} == {"curate/0.1.0 (me@example.org)"}
    answers(open_views(server, tmp_path / "c", contact=" Zoë\n東  "), "Ridley Scott")
    assert server.log[-1].agent.encode("latin-1").decode() == "curate/0.1.0 (Zoë 東)"


@pytest.mark.parametrize("stumble", STUMBLES)
def test_a_stumble_of_any_kind_is_asked_again(serve: Serve, world: World, tmp_path: Path, stumble: str) -> None:
    world.failing, world.stumbles, world.slow = 0.7, [stumble], 0.2
    views = open_views(serve(world, seed=3), tmp_path / "c", timeout=0.1)
    assert answers(views, "R. Scott", "Unread") == {"R. Scott": ("ok", 100_000.0), "Unread": ("zero_views", 0.0)}
    assert views.stats.retries > 0


def test_a_server_that_always_fails_ends_the_run_with_advice(serve: Serve, world: World, tmp_path: Path) -> None:
    world.failing, world.stumbles = 1.0, ["500"]
    views = open_views(serve(world), tmp_path / "c")
    with pytest.raises(PageViewsError, match=r"fails every request(.|\n)*Try: the same command again later"):
        answers(views, *(f"Person {n}" for n in range(50 * 25)))


def test_one_title_that_always_fails_is_one_status(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    views = open_views(server, tmp_path / "c")
    answers(views, "AC/DC")
    world.failing, world.stumbles = 1.0, ["500"]
    assert answers(views, "AC/DC", "Ridley Scott") == {"AC/DC": ("ok", 300_000.0), "Ridley Scott": ("failed", None)}
    world.failing = 0.0
    assert answers(open_views(server, tmp_path / "c"), "Ridley Scott") == {"Ridley Scott": ("ok", 100_000.0)}


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        ("hang", "ReadTimeout: timed out, 2 times"),
        ("drip", "no whole answer in 0.3 seconds, 2 times"),
        ("drip headers", "no whole answer in 0.3 seconds, 2 times"),
        ("cut", "RemoteProtocolError"),
        ("bomb", "an answer of more than 16 MiB"),
        ("packed", "an answer packed in a way that nobody asked for"),
        ("loop", "a redirect that leads nowhere"),
        ("nowhere", "a redirect that leads nowhere"),
        ("elsewhere", "a redirect to another host, localhost"),
        ("html", "an answer that is not JSON, 2 times"),
        ("list", "an answer that is not an object, 2 times"),
        ("deep", "an answer of JSON nested too deep"),
        ("other", "an answer without usable"),
        ("negative", "an answer without usable views (a month of -5 views)"),
        ("huge", "an answer without usable views (a month of 100000000000000000000000000000 views)"),
        ("nan", "an answer without usable views (a month of nan views)"),
        ("text", "an answer without usable views (a month of many views)"),
        ("title", "an answer without usable pages"),
        ("endless", "an answer without an end"),
    ],
)
def test_whatever_a_server_answers_is_a_status_with_a_reason_and_asked_again(
    serve: Serve, world: World, tmp_path: Path, trick: str, reason: str
) -> None:
    server = serve(world)

    cache = tmp_path / "c"
    answers(open_views(server, cache, "2021-09"), "AC/DC")  # so that its title is known, and its views are asked for
    world.failing, world.stumbles, world.slow = 1.0, [trick], 10.0
    timeout, deadline = (0.2 if trick == "hang" else 20), (0.3 if "drip" in trick else 20)
    views = open_views(server, cache, timeout=timeout, deadline=deadline, retry=Retry(attempts=2, base=0.001))
    assert answers(views, "AC/DC", "Ridley Scott") == {"AC/DC": ("failed", None), "Ridley Scott": ("failed", None)}
    assert any(reason in found for found in views.stats.reasons), views.stats.reasons
    world.failing = 0.0
    found = answers(open_views(server, cache), "AC/DC", "Ridley Scott")
    assert found == {"AC/DC": ("ok", 300_000.0), "Ridley Scott": ("ok", 100_000.0)}


def test_a_server_that_is_not_there_is_named(serve: Serve, world: World, tmp_path: Path) -> None:
    server = WikimediaServer(world)
    with server:
        pass
    with pytest.raises(PageViewsError, match=f"{server.url} does not answer"):
        answers(open_views(server, tmp_path / "c"), "AC/DC")


def test_a_third_of_requests_may_fail_and_every_answer_is_right(serve: Serve, tmp_path: Path) -> None:
    """Ten thousand subjects with CURATE_FULL_TESTS, a thousand without."""
    size = 10_000 if FULL else 1_000
    world, expected = big_world(size)
    world.failing, world.slow = 0.3, 0.2
    server = serve(world)
    views = open_views(server, tmp_path / "c", timeout=0.1)
    assert answers(views, *expected) == expected
    stumbled = sum(r.met != "answered" for r in server.log) / len(server.log)
    assert 0.25 < stumbled < 0.35
    assert views.stats.missing == []


def big_world(size: int) -> tuple[World, dict[str, tuple[str, float | None]]]:
    """A wiki of so many subjects of every kind, and what is true of each."""
    world = World()
    expected: dict[str, tuple[str, float | None]] = {}
    for n in range(size):
        name = f"Person {n}/{n % 7}?"
        kind = n % 10
        if kind < 6:
            world.articles[name] = Article({"2021-10": n + 1})
            expected[name] = ("ok", float(n + 1))
        elif kind == 6:
            world.redirects[name] = f"Via {n}"
            world.redirects[f"Via {n}"] = f"Real {n}"
            world.articles[f"Real {n}"] = Article({"2021-10": n})
            expected[name] = ("ok", float(n))
        elif kind == 7:
            world.articles[name] = Article(created="2022-01-01" if n % 20 == 7 else "2004-01-01")
            expected[name] = ("no_article", None) if n % 20 == 7 else ("zero_views", 0.0)
        elif kind == 8:
            world.articles[name] = Article({"2021-10": 9}, disambiguation=True)
            expected[name] = ("ambiguous", None)
        else:
            expected[name] = ("no_article", None)
    return world, expected


# Looking subjects up in a table, with no network.


def table_of(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def found_in(views: TableViews, *subjects: str) -> dict[str, tuple[str, float | None]]:
    references = [Reference("title", subject) for subject in subjects]
    found = views.look_up(references)
    return {r.text: (found[r].status, found[r].views) for r in references}


def test_a_title_is_found_however_it_is_written(tmp_path: Path) -> None:
    path = table_of(tmp_path / "v.parquet", title=["AC/DC", "George_Rankin", "Unread"], views=[7, 142, 0])
    assert found_in(TableViews(path), "aC/DC", "george  Rankin", "Unread", "Nobody", "C#") == {
        "aC/DC": ("ok", 7.0),
        "george  Rankin": ("ok", 142.0),
        "Unread": ("zero_views", 0.0),
        "Nobody": ("not_in_table", None),
        "C#": ("no_article", None),
    }


def test_a_table_of_several_months_gives_the_mean(tmp_path: Path) -> None:
    for month, views in (("202110", 10), ("202111", 31)):
        (tmp_path / f"pageviews-{month}-user").write_text(f"en.wikipedia AC/DC 5 desktop {views} A{views}\n")
    build_table(list(tmp_path.glob("pageviews*")), tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert found_in(TableViews(tmp_path / "v.parquet"), "AC/DC") == {"AC/DC": ("ok", 20.5)}


def test_the_fingerprint_changes_with_the_table(tmp_path: Path) -> None:
    first = TableViews(table_of(tmp_path / "v.parquet", title=["A"], views=[1])).fingerprint()
    second = TableViews(table_of(tmp_path / "v.parquet", title=["A"], views=[2])).fingerprint()
    assert first != second


@pytest.mark.parametrize(
    "columns", [{"title": ["A"]}, {"views": [1]}, {"title": [1], "views": [1]}, {"title": ["A"], "views": ["many"]}]
)
def test_a_table_without_title_and_views_is_refused(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    with pytest.raises(PageViewsError, match=r"Expected: title \(text\) and views \(a number\)"):
        TableViews(table_of(tmp_path / "v.parquet", **columns))


def test_a_damaged_table_is_one_message(tmp_path: Path) -> None:
    path = table_of(tmp_path / "v.parquet", title=[f"A{n}" for n in range(1000)], views=list(range(1000)))
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(PageViewsError, match=r"v\.parquet cannot be joined"):
        found_in(TableViews(path), "A1")


def test_a_table_that_is_not_there_is_told_how_to_make(tmp_path: Path) -> None:
    with pytest.raises(PageViewsError, match=r"There is no table of views(.|\n)*curate views build"):
        TableViews(tmp_path / "v.parquet")


# Killed at a random moment and started again: the identical file, and nothing asked twice that was kept.


SUBJECTS, KILLS = (3_000, 20) if FULL else (250, 2)


def kept_titles(cache: Path) -> set[str]:
    """The articles whose views are on disk."""
    path = cache / "wikipedia.sqlite"
    if not path.exists():
        return set()
    with sqlite3.connect(path, timeout=30) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'views'").fetchone():
            return set()
        return {title for (title,) in db.execute("SELECT title FROM views")}


def start(server: WikimediaServer, folder: Path, output: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from curate.cli.app import main; main()", "score", "questions.jsonl"]
    options = ["--by", "pageviews", "--window", "2021-10", "--quiet", "--rate", "400", "-o", output, *server.options]
    environment = os.environ | {"CURATE_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [*command, *options], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def test_a_killed_run_goes_on_where_it_was(serve: Callable[..., WikimediaServer], tmp_path: Path) -> None:
    """Twenty kills with CURATE_FULL_TESTS, two without."""
    world, expected = big_world(SUBJECTS)
    world.failing, world.stumbles = 0.3, ["429", "500", "truncated", "dropped", "cut", "html", "maxlag"]
    rows = [{"question": f"Who is {name}?", "answer": "x", "subject": name} for name in expected]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rng = random.Random(7)
    server = serve(world)
    killed = 0
    while killed < KILLS:
        kept = kept_titles(tmp_path / "cache")
        before = len(server.log)
        process = start(server, tmp_path, "scored.parquet")
        while len(server.log) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.2 * SUBJECTS / 400 / KILLS * 2))
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.kill()
        process.wait()
        killed += 1
        assert not kept & _asked_since(server, before), "a title whose views were on disk was asked for again"
        assert not (tmp_path / "scored.parquet").exists()
    before, kept = len(server.log), kept_titles(tmp_path / "cache")
    assert start(server, tmp_path, "scored.parquet").wait() == 0
    assert not kept & _asked_since(server, before)
    assert killed >= KILLS // 2

    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "questions.jsonl").write_text((tmp_path / "questions.jsonl").read_text())
    world.failing = 0.0
    assert start(server, tmp_path / "whole", "scored.parquet").wait() == 0
    assert (tmp_path / "scored.parquet").read_bytes() == (tmp_path / "whole" / "scored.parquet").read_bytes()
    print(f"{killed} kills, {max(server.asked(None).values())} requests at most for one title")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_with_their_codes_and_keep_what_was_answered(
    sent: int, code: int, serve: Callable[..., WikimediaServer], tmp_path: Path
) -> None:
    world, expected = big_world(300)
    world.delay = 0.02
    rows = [{"question": f"Who is {name}?", "answer": "x", "subject": name} for name in expected]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    server = serve(world)
    process = start(server, tmp_path, "scored.parquet")
    while sum(server.asked().values()) < 40:
        time.sleep(0.01)
    world.failing, world.stumbles, world.retry_after = 1.0, ["429"], "500"  # everybody waits when the signal comes
    while not any(request.met == "429" for request in server.log):
        time.sleep(0.01)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert b"interrupted" in errors and b"Traceback" not in errors
    assert not (tmp_path / "scored.parquet").exists()
    assert len(kept_titles(tmp_path / "cache")) >= 20


def _asked_since(server: WikimediaServer, position: int) -> set[str]:
    from tests.wikimedia_server import article_in, is_views

    return {article_in(r.path) for r in server.log[position:] if is_views(r.path)}


def test_a_georgian_subject_has_the_views_of_its_article(curate: Callable[..., object], tmp_path: Path) -> None:
    dump = tmp_path / "pageviews-202110-user"
    dump.write_text("ka.wikipedia თბილისი 2 desktop 900 A900\nka.wikipedia Java 3 desktop 70 A70\n", encoding="utf-8")
    data = tmp_path / "data.csv"
    data.write_text(
        "question,answer,subject\nWhich river flows through it?,Kura,თბილისი\nIs it an island?,yes,Java\n",
        encoding="utf-8",
    )
    curate("views", "build", dump, "--project", "ka.wikipedia", "-o", "views.parquet")
    options = ("--by", "pageviews", "--views-from", "views.parquet", "--project", "ka.wikipedia")
    curate("score", data, *options, "-o", "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["pageviews_views"].to_pylist() == [900, 70]
