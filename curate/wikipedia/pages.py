"""Titles of articles as MediaWiki writes them; what they lead to, as its servers answered, kept on disk."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import tempfile
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timezone
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from curate.errors import PageViewsError
from curate.records import OK
from curate.wikipedia.options import Window

log = logging.getLogger(__name__)

LONGEST_TITLE = 255
"""Bytes of UTF-8 that MediaWiki allows in a title."""

# What MediaWiki takes for a blank, and the marks of writing direction that it drops.
_BLANKS = re.compile("[ _\t\n\r\u00a0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_DIRECTION_MARKS = re.compile("[\u200e\u200f\u202a-\u202e]")
# "#" would cut "C#" down to the letter C, and "%41" or "&amp;" would be read as something else than written.
_IMPOSSIBLE = re.compile(
    "[\x00-\x1f\x7f<>\\[\\]{}|#\ufffd\ud800-\udfff]|%[0-9A-Fa-f]{2}|&[0-9A-Za-z]+;|&#[0-9A-Za-z]+;|~~~"
)
_PLAIN = re.compile("[A-Z0-9][A-Za-z0-9'(),.-]*(?: [A-Za-z0-9'(),.-]+)*")

DOTTED = ("tr", "az", "kaa")
"""Languages whose small i has a large one with a dot."""

_QID = re.compile(r"(?:^|[/:])([Qq][1-9]\d*)$")


def normalise(title: str, project: str = "en.wikipedia") -> str | None:
    """The title as MediaWiki writes it in a project: single spaces, NFC, the first letter as there is the rule.

    None if no article can have this title. `normalise` of a normalised title changes nothing.
    """
    if _PLAIN.fullmatch(title) and len(title) <= LONGEST_TITLE:
        return title  # most titles of a table of millions
    text = unicodedata.normalize("NFC", _DIRECTION_MARKS.sub("", title))
    text = _BLANKS.sub(" ", text).strip(" ").removeprefix(":").strip(" ")  # one colon in front says: an article
    if not text or _IMPOSSIBLE.search(text) or text in (".", "..") or text.startswith(("./", "../", ":")):
        return None
    if len(text.encode()) > LONGEST_TITLE:
        return None
    return first_letter(text[0], project) + text[1:]


@cache
def first_letter(letter: str, project: str) -> str:
    """The letter as a title of the project begins with it: large, except in the Wiktionaries and in Lojban.

    Only a small letter that has a large one in its own alphabet changes: not ß, nor the Georgian ones, nor ⅷ.

    >>> first_letter("é", "fr.wikipedia"), first_letter("ა", "ka.wikipedia"), first_letter("i", "tr.wikipedia")
    ('É', 'ა', 'İ')
    """
    language, _, family = project.partition(".")
    if family == "wiktionary" or language == "jbo" or unicodedata.category(letter) != "Ll":
        return letter
    if letter == "i" and language in DOTTED:
        return "İ"
    large = letter.title()  # which is how Georgian stays as it is, and ǆ becomes ǅ
    return large if len(large) == 1 else letter


def encode(title: str) -> str:
    """The title as one segment of a URL path: underscores for spaces, every reserved character escaped.

    >>> encode("AC/DC: Who's 100%?")
    'AC%2FDC%3A_Who%27s_100%25%3F'
    """
    return quote(title.replace(" ", "_"), safe="")


def qid(text: str) -> str | None:
    """The Wikidata item that a cell names, as an id or a URL; None for anything else.

    >>> qid("http://www.wikidata.org/entity/Q42")
    'Q42'
    """
    match = _QID.search(text.strip())
    return match[1].upper() if match else None


def site_id(project: str) -> str:
    """What Wikidata calls a project in its sitelinks.

    >>> site_id("en.wikipedia"), site_id("zh-min-nan.wikipedia"), site_id("de.wiktionary")
    ('enwiki', 'zh_min_nanwiki', 'dewiktionary')
    """
    language, _, family = project.partition(".")
    return language.replace("-", "_") + ("wiki" if family in ("wikipedia", "wikimedia") else family)


# What titles and items lead to, and how often articles are read, as the servers answered; kept on disk.

AMBIGUOUS = "ambiguous"
NO_ARTICLE = "no_article"
NO_ITEM = "no_item"

RUNNING_MONTH_LASTS = 24 * 3600
TITLES_LAST = 30 * 24 * 3600
"""Seconds: views of a month that still runs, and what a title or item leads to, are asked for again after that."""

_TABLES = {
    "titles": "scope TEXT, asked TEXT, status TEXT, title TEXT, at REAL, PRIMARY KEY (scope, asked)",
    "views": "scope TEXT, title TEXT, first TEXT, last TEXT, status TEXT, views INTEGER, at REAL, "
    "PRIMARY KEY (scope, title, first, last)",
    "items": "scope TEXT, asked TEXT, status TEXT, item TEXT, sitelinks INTEGER, at REAL, PRIMARY KEY (scope, asked)",
}
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

FILE = "wikipedia.sqlite"

BUSY_TIMEOUT = 60.0
"""Seconds to wait for other processes that hold the file."""


def default_cache() -> Path:
    """Where answers are kept: $CURATE_CACHE, or `curate/` in the user's cache folder.

    A user without a home, as in many containers, has one among the temporary files.
    """
    if own := os.environ.get("CURATE_CACHE"):
        return Path(own) / FILE
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "curate" / FILE
    try:
        return Path.home() / ".cache" / "curate" / FILE
    except RuntimeError:
        folder = Path(tempfile.gettempdir()) / f"curate-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PageViewsError(f"{folder} is another user's.", try_next="set CURATE_CACHE to a folder of yours")
    return folder / FILE


class Cache:
    """Reads and writes answers; `clock` gives seconds since 1970, and answers older than `since` do not count.

    `scope` names what else an answer depends on (the server, the project, access, agent). `offline`, answers of any age
    count, and nothing is written. A file that may not be written, another user's, is read only.
    """

    def __init__(self, path: Path, clock: Callable[[], float], since: float = 0, offline: bool = False) -> None:
        self.path = path
        self._clock = clock
        self._since = since
        self._offline = offline
        self._lock = threading.Lock()
        with self._explained():
            self._read_only = offline or _is_anothers(path)
            self._db = _open_to_read(path) if self._read_only else _open(path)
        if self._read_only and not offline:
            log.warning("%s may not be written, so that no answer is kept there.", path)

    def __reduce__(self) -> tuple[type[Cache], tuple[Path, Callable[[], float], float, bool]]:
        """A copy in another process opens the file itself."""
        return Cache, (self.path, self._clock, self._since, self._offline)

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
        if self._offline:
            return True
        return at >= self._since and (lasts is None or self._clock() - at < lasts)

    def _select(self, query: str, fixed: list[str], keys: Sequence[str]) -> Iterator[tuple]:
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            with self._explained(), self._lock:
                rows = self._db.execute(f"{query} ({','.join('?' * len(batch))})", [*fixed, *batch]).fetchall()
            yield from rows

    def _insert(self, statement: str, values: tuple) -> None:
        if not self._read_only:
            with self._explained(), self._lock:
                self._db.execute(statement, (*values, self._clock()))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            # What is wrong with the file itself is no OperationalError; with the disk, or who may write, it is.
            damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
            raise PageViewsError(
                f"The cache of page views {self.path} cannot be used: {error}.",
                expected="an SQLite file, or no file there yet"
                if damaged
                else "a file that may be read, and room on the disk",
                try_next=f"{'delete that file' if damaged else 'make room'}, or set CURATE_CACHE to another folder",
            ) from error


def _is_anothers(path: Path) -> bool:
    """Whether there is a file that may not be written: SQLite writes beside it too."""
    return path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    _use_wal(db)
    db.execute("PRAGMA synchronous=NORMAL")
    for name, columns in _TABLES.items():
        db.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns}) WITHOUT ROWID")
    return db


def _open_to_read(path: Path) -> sqlite3.Connection:
    """The file as it is, or nothing where there is none; a table that it lacks is an empty one in memory."""
    where = path.absolute().as_uri() if path.exists() else "file::memory:"
    # To read what others write just now SQLite makes a file beside it; where it may not, the rest is read.
    for how in ("mode=ro", "immutable=1") if path.exists() else ("mode=memory",):
        db = sqlite3.connect(f"{where}?{how}", timeout=BUSY_TIMEOUT, uri=True, check_same_thread=False)
        try:
            there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            break
        except sqlite3.OperationalError:
            if how == "immutable=1":
                raise
    for name, columns in _TABLES.items():
        if name not in there:
            db.execute(f"CREATE TEMP TABLE {name} ({columns}) WITHOUT ROWID")
    return db


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
