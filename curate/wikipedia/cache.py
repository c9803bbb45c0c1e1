"""Answers of Wikimedia's servers, kept on disk."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timezone
from pathlib import Path
from typing import NamedTuple, TypeVar

from curate.errors import PageViewsError
from curate.records import OK
from curate.wikipedia.options import Window

AMBIGUOUS = "ambiguous"
NO_ARTICLE = "no_article"
NO_ITEM = "no_item"

RUNNING_MONTH_LASTS = 24 * 3600
TITLES_LAST = 30 * 24 * 3600
"""Seconds: views of a month that still runs, and what a title or item leads to, are asked for again after that."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS titles (
    scope TEXT, asked TEXT, status TEXT, title TEXT, at REAL, PRIMARY KEY (scope, asked)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS views (
    scope TEXT, title TEXT, first TEXT, last TEXT, status TEXT, views INTEGER, at REAL,
    PRIMARY KEY (scope, title, first, last)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    scope TEXT, asked TEXT, status TEXT, item TEXT, sitelinks INTEGER, at REAL, PRIMARY KEY (scope, asked)
) WITHOUT ROWID;
"""
_BATCH = 500

MOST_VIEWS = 10**12
"""Of an article in a month: what says more is no count of views."""
MOST_SITELINKS = 10_000
"""Of an item: there are a thousand wikis."""


class Page(NamedTuple):
    """What a title or item led to: `ok` and the article's title, or why there is none."""

    status: str
    title: str | None = None


class Item(NamedTuple):
    """What is known of an item: `ok`, its id and how many wikis have an article about it; or why that is not known."""

    status: str
    item: str | None = None
    sitelinks: int | None = None


A = TypeVar("A", Page, Item)


# A row that nobody here can have written, or not from what a server may answer, is as good as absent.
_SOUND = "typeof(at) = 'real' AND at BETWEEN 0 AND 1e11"
_PAGES = f"""
SELECT asked, status, title, at FROM titles WHERE {_SOUND}
AND (status = '{NO_ARTICLE}' AND title IS NULL OR status IN ('{OK}', '{AMBIGUOUS}') AND typeof(title) = 'text')
AND scope = ? AND asked IN"""
_ITEMS = f"""
SELECT asked, status, item, sitelinks, at FROM items WHERE {_SOUND}
AND (status = '{NO_ITEM}' AND item IS NULL AND sitelinks IS NULL OR status = '{OK}' AND typeof(item) = 'text'
     AND typeof(sitelinks) = 'integer' AND sitelinks BETWEEN 0 AND {MOST_SITELINKS})
AND scope = ? AND asked IN"""
_VIEWS = f"""
SELECT title, views, at FROM views WHERE {_SOUND}
AND (status = '{NO_ARTICLE}' AND views IS NULL
     OR status = '{OK}' AND typeof(views) = 'integer' AND views BETWEEN 0 AND {1000 * MOST_VIEWS})
AND scope = ? AND first = ? AND last = ? AND title IN"""

BUSY_TIMEOUT = 60.0
"""Seconds to wait for other processes that hold the file."""


def default_cache() -> Path:
    """Where answers are kept: $CURATE_CACHE, or `curate/` in the user's cache folder."""
    own = os.environ.get("CURATE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(own) if own else base / "curate") / "wikipedia.sqlite"


class Cache:
    """Reads and writes answers; `clock` gives seconds since 1970, and answers older than `since` do not count.

    `scope` names what else an answer depends on (the server, the project, access, agent).
    """

    def __init__(self, path: Path, clock: Callable[[], float], since: float = 0, any_age: bool = False) -> None:
        self.path = path
        self._clock = clock
        self._since = since
        self._any_age = any_age
        self._lock = threading.Lock()
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            _use_wal(self._db)
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)

    def __reduce__(self) -> tuple[type[Cache], tuple[Path, Callable[[], float], float, bool]]:
        """A copy in another process opens the file itself."""
        return Cache, (self.path, self._clock, self._since, self._any_age)

    def found(self, kind: type[A], scope: str, asked: Sequence[str]) -> dict[str, A]:
        """The pages, or items, that these titles or items led to; those it knows nothing about are left out."""
        rows = self._select(_PAGES if kind is Page else _ITEMS, [scope], asked)
        return {key: kind(*answer) for key, *answer, at in rows if self._fresh(at, TITLES_LAST)}

    def keep(self, scope: str, asked: str, answer: Page | Item) -> None:
        """Remember what a title or item led to."""
        table = "titles" if isinstance(answer, Page) else "items"
        marks = ",".join("?" * (3 + len(answer)))
        self._insert(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (scope, asked, *answer))

    def counts(self, scope: str, window: Window, titles: Sequence[str]) -> dict[str, int | None]:
        """The known views of these articles in a window (their sum), None where there was no article yet.

        Those it knows nothing about are left out.
        """
        return {
            title: views
            for title, views, at in self._select(_VIEWS, [scope, window.start, window.end], titles)
            if self._fresh(at, None if window.finished(_day(at)) else RUNNING_MONTH_LASTS)
        }

    def keep_count(self, scope: str, window: Window, title: str, views: int | None) -> None:
        """Remember the views of an article in a window, None for an article that was not there yet."""
        values = (scope, title, window.start, window.end, NO_ARTICLE if views is None else OK, views)
        self._insert("INSERT OR REPLACE INTO views VALUES (?,?,?,?,?,?,?)", values)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _fresh(self, at: float, lasts: float | None) -> bool:
        if self._any_age:
            return True
        return at >= self._since and (lasts is None or self._clock() - at < lasts)

    def _select(self, query: str, fixed: list[str], keys: Sequence[str]) -> Iterator[tuple]:
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            with self._explained(), self._lock:
                rows = self._db.execute(f"{query} ({','.join('?' * len(batch))})", [*fixed, *batch]).fetchall()
            yield from rows

    def _insert(self, statement: str, values: tuple) -> None:
        with self._explained(), self._lock:
            self._db.execute(statement, (*values, self._clock()))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise PageViewsError(
                f"The cache of page views {self.path} cannot be used: {error}.",
                expected="an SQLite file that you may write to, or no file there yet",
                try_next="delete that file, or set CURATE_CACHE to another folder",
            ) from error


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch the file to WAL unless another process has; SQLite fails at once where two switch, so this waits."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    pause = 0.001
    while True:
        try:
            if db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, timezone.utc).date()
