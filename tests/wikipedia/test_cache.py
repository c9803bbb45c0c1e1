"""What was answered is kept: across runs, for several processes, for as long as it is true."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from curate.errors import PageViewsError
from curate.wikipedia.cache import Cache, Page
from curate.wikipedia.options import parse_window
from tests.wikimedia_server import Article, WikimediaServer, World
from tests.wikipedia.lookups import answers, open_views

Serve = Callable[..., WikimediaServer]
NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc).timestamp()
DAY = 24 * 3600


def test_a_second_run_asks_nothing(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    subjects = ["George Rankin", "R. Scott", "Unread", "Newly written", "Mercury", "Nobody", "Q42", "Q43"]
    first = answers(open_views(server, tmp_path / "c"), *subjects)
    asked = len(server.log)
    assert answers(open_views(server, tmp_path / "c"), *subjects) == first
    assert len(server.log) == asked


@pytest.mark.parametrize("other", [{"agent": "spider"}, {"access": "desktop"}, {"project": "de.wikipedia"}])
def test_another_question_is_another_answer(serve: Serve, world: World, tmp_path: Path, other: dict[str, str]) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c"), "AC/DC")
    answers(open_views(server, tmp_path / "c", **other), "AC/DC")
    assert server.asked()["AC/DC"] == 2
    answers(open_views(server, tmp_path / "c", window="2021-09", **other), "AC/DC")
    assert server.asked()["AC/DC"] == 3


def test_finished_months_never_expire_and_the_running_one_does(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    world.articles["AC/DC"] = Article({"2021-10": 5, "2026-11": 7})
    for window in ("2021-10", "2026-11"):
        answers(open_views(server, tmp_path / "c", window, now=lambda: NOON), "AC/DC")
    assert server.asked() == {"AC/DC": 2}
    for window in ("2021-10", "2026-11"):
        answers(open_views(server, tmp_path / "c", window, now=lambda: NOON + 2 * DAY), "AC/DC")
    assert server.asked() == {"AC/DC": 3}
    answers(open_views(server, tmp_path / "c", "2021-10", now=lambda: NOON + 3000 * DAY), "AC/DC")
    assert server.asked() == {"AC/DC": 3}


def test_a_month_asked_for_before_its_end_is_asked_again_after_it(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    world.articles["AC/DC"] = Article({"2026-11": 7})
    answers(open_views(server, tmp_path / "c", "2026-11", now=lambda: NOON), "AC/DC")
    world.articles["AC/DC"] = Article({"2026-11": 30})
    later = open_views(server, tmp_path / "c", "2026-11", now=lambda: NOON + 30 * DAY)
    assert answers(later, "AC/DC") == {"AC/DC": ("ok", 30.0)}


def test_refresh_asks_again(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c", now=lambda: NOON), "AC/DC")
    world.articles["AC/DC"] = Article({"2021-10": 1})
    fresh = open_views(server, tmp_path / "c", now=lambda: NOON + 1, since=NOON + 1)
    assert answers(fresh, "AC/DC") == {"AC/DC": ("ok", 1.0)}


def test_offline_uses_the_cache_however_old_and_says_what_is_missing(
    serve: Serve, world: World, tmp_path: Path
) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c", now=lambda: NOON), "AC/DC", "Nobody")
    asked = len(server.log)
    views = open_views(server, tmp_path / "c", now=lambda: NOON + 900 * DAY, offline=True)
    assert answers(views, "AC/DC", "Nobody", "Ridley Scott") == {
        "AC/DC": ("ok", 300_000.0),
        "Nobody": ("no_article", None),
        "Ridley Scott": ("not_cached", None),
    }
    assert views.stats.missing == ["Ridley Scott"]
    assert len(server.log) == asked


WRITER = """
import sys, time
from pathlib import Path
from curate.wikipedia.cache import Cache, Page
from curate.wikipedia.options import parse_window
from datetime import date
cache, window = Cache(Path(sys.argv[1]), time.time), parse_window("2021-10", date(2026, 11, 23))
for n in range(300):
    cache.keep_count("scope", window, f"{sys.argv[2]} {n}", n)
    cache.keep("scope", f"{sys.argv[2]} {n}", Page("ok", "x"))
"""


def test_several_processes_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "c" / "cache.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)]) for n in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    titles = [f"{writer} {n}" for writer in range(3) for n in range(300)]
    cache = Cache(path, lambda: NOON)
    counts = cache.counts("scope", parse_window("2021-10", datetime(2026, 11, 23).date()), titles)
    assert counts == {title: int(title.split()[1]) for title in titles}
    assert len(cache.found(Page, "scope", titles)) == 900


OPENER = """
import sys, time
from pathlib import Path
from curate.wikipedia.cache import Cache, Page
for n in range(100):
    cache = Cache(Path(sys.argv[1]) / f"{n}.sqlite", time.time)
    cache.keep("scope", sys.argv[2], Page("ok", "x"))
    cache.close()
"""


def test_several_processes_open_new_files_at_once(tmp_path: Path) -> None:
    openers = [subprocess.Popen([sys.executable, "-c", OPENER, str(tmp_path), str(n)]) for n in range(8)]
    assert [opener.wait() for opener in openers] == [0] * 8
    for n in range(100):
        assert len(Cache(tmp_path / f"{n}.sqlite", lambda: NOON).found(Page, "scope", list("01234567"))) == 8


def test_rows_that_cannot_be_are_as_good_as_absent(tmp_path: Path) -> None:
    window = parse_window("2021-10", datetime(2026, 11, 23).date())
    cache = Cache(tmp_path / "c", lambda: NOON)
    with sqlite3.connect(tmp_path / "c") as db:
        for n, row in enumerate(
            [("ok", -5), ("ok", 10**18), ("ok", "many"), ("ok", 1.5), ("ok", None), ("no_article", 3), ("odd", 3)]
        ):
            values = ("scope", f"T{n}", window.start, window.end, *row, NOON)
            db.execute("INSERT INTO views VALUES (?,?,?,?,?,?,?)", values)
        for n, at in enumerate((-1.0, 1e300, "now", None)):
            values = ("scope", f"A{n}", window.start, window.end, "ok", 3, at)
            db.execute("INSERT INTO views VALUES (?,?,?,?,?,?,?)", values)
        for n, row in enumerate([("ok", None), ("ok", b"\xff"), ("no_article", "X"), ("odd", "X")]):
            db.execute("INSERT INTO titles VALUES (?,?,?,?,?)", ("scope", f"T{n}", *row, NOON))
    asked = [f"{kind}{n}" for kind in "TA" for n in range(7)]
    assert cache.counts("scope", window, asked) == {}
    assert cache.found(Page, "scope", asked) == {}
    cache.keep_count("scope", window, "T0", 5)
    cache.keep_count("scope", window, "T1", None)
    assert cache.counts("scope", window, asked) == {"T0": 5, "T1": None}


def test_titles_are_resolved_anew_after_a_month(tmp_path: Path) -> None:
    now = [NOON]
    cache = Cache(tmp_path / "c", lambda: now[0])
    cache.keep("scope", "A", Page("ok", "B"))
    now[0] += 29 * DAY
    assert cache.found(Page, "scope", ["A"]) == {"A": Page("ok", "B")}
    now[0] += 2 * DAY
    assert cache.found(Page, "scope", ["A"]) == {}


def test_a_damaged_cache_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"no database at all, " * 100)
    with pytest.raises(PageViewsError, match=r"cache\.sqlite cannot be used(.|\n)*delete that file"):
        Cache(path, lambda: NOON)
