"""What was answered is kept: across runs, for several processes, for as long as it is true."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from curate.errors import PageViewsError
from curate.wikipedia.options import parse_window
from curate.wikipedia.pages import Cache, Page, default_cache
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
from curate.wikipedia.pages import Cache, Page, default_cache
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
import mmap, sys, time
from pathlib import Path
from curate.wikipedia.pages import Cache, Page
folder, me = Path(sys.argv[1]), int(sys.argv[2])
with open(folder / "rounds", "r+b") as file:
    rounds = mmap.mmap(file.fileno(), 8)
try:
    for n in range(125):
        rounds[me] = n
        while min(rounds[:]) < n:  # all begin at once
            time.sleep(0)
        cache = Cache(folder / f"{n}.sqlite", time.time)
        cache.keep("scope", str(me), Page("ok", "x"))
        cache.close()
finally:
    rounds[me] = 255
"""


def test_several_processes_open_new_files_at_once(tmp_path: Path) -> None:
    """A thousand openings: each of eight processes opens each of 125 files."""
    (tmp_path / "rounds").write_bytes(bytes(8))
    openers = [subprocess.Popen([sys.executable, "-c", OPENER, str(tmp_path), str(n)]) for n in range(8)]
    assert [opener.wait() for opener in openers] == [0] * 8
    for n in range(125):
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


def test_offline_writes_nothing_and_makes_no_file(serve: Serve, world: World, tmp_path: Path) -> None:
    found = answers(open_views(serve(world), tmp_path / "none" / "c", offline=True), "AC/DC")
    assert found == {"AC/DC": ("not_cached", None)}
    assert not (tmp_path / "none").exists()
    answers(open_views(serve(world), tmp_path / "c"), "AC/DC")
    (tmp_path / "c-wal").unlink(missing_ok=True)
    before = (tmp_path / "c").read_bytes()
    cache = Cache(tmp_path / "c", lambda: NOON, offline=True)
    cache.keep("scope", "A", Page("ok", "B"))
    assert cache.found(Page, "scope", ["A"]) == {} and (tmp_path / "c").read_bytes() == before


READER = """
import logging, os, sys, time
from pathlib import Path
from curate.wikipedia.pages import Cache, Item, Page
logging.basicConfig()
os.setuid(65534)  # only now, since the packages may be root's alone
cache = Cache(Path(sys.argv[1]), time.time)
cache.keep("scope", "mine", Page("ok", "x"))
assert cache.found(Page, "scope", ["mine", "theirs"]) == {"theirs": Page("ok", "y")}
assert cache.found(Item, "scope", ["mine"]) == {}
"""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root may be somebody else")
def test_another_users_cache_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())  # where another user may look
    try:
        path = folder / "c.sqlite"
        cache = Cache(path, time.time)
        cache.keep("scope", "theirs", Page("ok", "y"))
        cache.close()
        with sqlite3.connect(path) as db:
            db.execute("DROP TABLE items")  # as an earlier version left it
        db.close()
        for place, mode in ((folder, 0o755), (path, 0o644)):
            place.chmod(mode)
        before = path.read_bytes()
        done = subprocess.run([sys.executable, "-c", READER, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "c.sqlite may not be written, so that no answer is kept there" in done.stderr
        assert path.read_bytes() == before and [p.name for p in folder.iterdir()] == ["c.sqlite"]
    finally:
        shutil.rmtree(folder)


def test_a_user_without_a_home_has_a_cache_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("CURATE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert default_cache().parent.parent == tmp_path
    Cache(default_cache(), lambda: NOON)
    assert (default_cache().parent.stat().st_mode & 0o777) == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    (tmp_path / "curate-12345").mkdir()
    with pytest.raises(PageViewsError, match=r"is another user's(.|\n)*CURATE_CACHE"):
        default_cache()


def test_a_full_disk_asks_for_room_and_for_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*arguments: Any, **named: Any) -> sqlite3.Connection:
        db = connect(*arguments, **named)
        db.execute("PRAGMA max_page_count = 10")  # SQLite then says what it says of a full disk
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    cache = Cache(tmp_path / "c", lambda: NOON)
    with pytest.raises(PageViewsError, match="full") as raised:
        for n in range(10_000):
            cache.keep("scope", f"T{n}" * 20, Page("ok", "x" * 200))
    assert "make room" in str(raised.value) and "delete" not in str(raised.value)
    assert len(cache.found(Page, "scope", ["T0" * 20])) == 1, "what was kept is there"


def test_a_place_that_may_not_be_made_is_told_with_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PageViewsError, match=r"cannot be used(.|\n)*set CURATE_CACHE to another folder") as raised:
        Cache(tmp_path / "file" / "c", lambda: NOON)
    assert "delete" not in str(raised.value)
