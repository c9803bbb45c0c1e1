"""Where page views come from: the API or a local table."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.data.columns import ENTITY_QUESTIONS
from curate.data.files import METADATA_KEY
from curate.data.stores import file_fingerprint
from curate.errors import PageViewsError, setting
from curate.records import OK
from curate.wikipedia.cache import Cache, Count, Page, default_cache
from curate.wikipedia.client import NO_ARTICLE, GaveUpError, PoliteClient, Wikimedia, batches
from curate.wikipedia.options import (
    API,
    PageviewSettings,
    ResolvedSettings,
    Window,
    check_contact,
    parse_window,
)
from curate.wikipedia.titles import (
    QID_COLUMNS,
    TITLE_COLUMNS,
    Reference,
    SubjectFinder,
    normalise,
    read_templates,
)

ZERO_VIEWS = "zero_views"
FAILED = "failed"
NOT_CACHED = "not_cached"
NOT_IN_TABLE = "not_in_table"
MEASURED = (OK, ZERO_VIEWS)
"""The statuses that come with a number."""

CONCURRENCY = 16
"""Requests for views in flight; titles are resolved one batch after the other, as MediaWiki asks of its clients."""


@dataclass(frozen=True, slots=True)
class Views:
    """Monthly views of one article (their mean over the window), or why they are not known."""

    status: str
    title: str | None = None
    views: float | None = None


@dataclass
class LookupStats:
    """What a run of lookups came to, for the user to read: none of it goes into a file."""

    subjects: int = 0
    kept: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)


class ViewSource(ABC):
    """Something that knows how often articles were viewed: in all, over `months` months."""

    in_bulk: bool
    """Whether one lookup of all subjects is cheaper than many of some."""

    def __init__(self, months: int) -> None:
        self.stats = LookupStats()
        self._months = months
        self._answers: dict[Reference, Views] = {}

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change its numbers."""

    @abstractmethod
    def _pages(self, references: Sequence[Reference]) -> Mapping[Reference, Page]:
        """The article of every reference, or why there is none."""

    @abstractmethod
    def _counts(self, titles: Sequence[str]) -> Mapping[str, Count]:
        """The views of every article, or why they are not known."""

    def look_up(self, references: Iterable[Reference]) -> Mapping[Reference, Views]:
        """The monthly mean of every reference's article, or a status: those of now, and all that were asked before."""
        started = time.perf_counter()
        new = [r for r in dict.fromkeys(references) if r not in self._answers]
        pages = self._pages(new)
        counts = self._counts(list(dict.fromkeys(p.title for p in pages.values() if p.status == OK and p.title)))
        for reference, page in pages.items():
            count = counts[page.title] if page.status == OK and page.title else Count(page.status)
            self._answers[reference] = self._mean(page.title, count)
        self.stats.subjects += len(new)
        self.stats.seconds += time.perf_counter() - started
        self.stats.missing += [r.text for r in new if self._answers[r].status in (NOT_CACHED, FAILED)]
        return self._answers

    def _mean(self, title: str | None, count: Count) -> Views:
        """Zero is a measurement like any other, with a status of its own."""
        if count.status != OK or count.views is None:
            return Views(count.status, title)
        return Views(OK if count.views > 0 else ZERO_VIEWS, title, count.views / self._months)


class Resolver:
    """Finds the article of every reference: in the cache, else through `wikimedia`, which is None offline."""

    def __init__(self, wikimedia: Wikimedia | None, cache: Cache, settings: ResolvedSettings) -> None:
        self._wikimedia, self._cache = wikimedia, cache
        self._project = settings.project
        self._titles = f"{settings.mediawiki_url} {settings.project} {'followed' if settings.redirects else 'as it is'}"
        self._items = f"{settings.wikidata_url} {settings.project}"

    def resolve(self, references: Sequence[Reference]) -> dict[Reference, Page]:
        """The article, or why there is none, for each reference."""
        items = [r.text for r in references if r.kind == "qid"]
        linked = self._kept_or_asked(self._items, items, _linked)
        titles: dict[Reference, str] = {}
        pages: dict[Reference, Page] = {}
        for reference in references:
            link = linked[reference.text] if reference.kind == "qid" else Page(OK, reference.text)
            title = normalise(link.title or "", self._project) if link.status == OK else None
            if title is None:
                pages[reference] = Page(NO_ARTICLE) if link.status == OK else link
            else:
                titles[reference] = title
        found = self._kept_or_asked(self._titles, list(dict.fromkeys(titles.values())), Wikimedia.resolve)
        return pages | {reference: found[title] for reference, title in titles.items()}

    def _kept_or_asked(
        self, scope: str, asked: Sequence[str], ask: Callable[[Wikimedia, list[str]], dict[str, Page]]
    ) -> dict[str, Page]:
        pages = self._cache.pages(scope, asked)
        unknown = [text for text in asked if text not in pages]
        if self._wikimedia is None:
            return pages | {text: Page(NOT_CACHED) for text in unknown}
        for batch in batches(unknown):
            try:
                answers = ask(self._wikimedia, batch)
            except GaveUpError:
                answers = {}
            for text, page in answers.items():
                self._cache.keep_page(scope, text, page)
            pages |= {text: answers.get(text, Page(FAILED)) for text in batch}
        return pages


def _linked(wikimedia: Wikimedia, items: list[str]) -> dict[str, Page]:
    """The title that each Wikidata item has in the project."""
    return {item: Page(OK, title) if title else Page(NO_ARTICLE) for item, title in wikimedia.sitelinks(items).items()}


class ApiViews(ViewSource):
    """Views of articles over a window, by the API. What was once answered is never asked again.

    `wikimedia` None is offline: only the cache is used, and what it lacks has the status `not_cached`.
    """

    in_bulk = False

    def __init__(self, settings: ResolvedSettings, window: Window, cache: Cache, wikimedia: Wikimedia | None) -> None:
        super().__init__(window.months)
        self._settings, self._window, self._cache, self._wikimedia = settings, window, cache, wikimedia
        self._resolver = Resolver(wikimedia, cache, settings)
        self._scope = " ".join((settings.pageviews_url, settings.project, settings.access, settings.agent))

    def fingerprint(self) -> Mapping[str, Any]:
        settings = self._settings
        return {
            "views_from": "api",
            "project": settings.project,
            "access": settings.access,
            "agent": settings.agent,
            "window": str(self._window),
            "redirects": "followed" if settings.redirects else "not followed",
            "pageviews_url": settings.pageviews_url,
            "mediawiki_url": settings.mediawiki_url,
        }

    def _pages(self, references: Sequence[Reference]) -> Mapping[Reference, Page]:
        return self._resolver.resolve(references)

    def _counts(self, titles: Sequence[str]) -> Mapping[str, Count]:
        counts = self._cache.counts(self._scope, self._window, titles)
        unknown = [title for title in titles if title not in counts]
        self.stats.kept += len(counts)
        if self._wikimedia is None:
            return counts | {title: Count(NOT_CACHED) for title in unknown}
        client = self._wikimedia.client
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            futures = {pool.submit(self._ask, self._wikimedia, title): title for title in unknown}
            try:
                counts |= {futures[future]: future.result() for future in as_completed(futures)}
            except BaseException:  # Ctrl-C, or a server that refuses: nobody waits for what is no longer wanted
                client.limiter.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self.stats.requests, self.stats.retries = client.requests, client.retries
        return counts

    def _ask(self, wikimedia: Wikimedia, title: str) -> Count:
        try:
            views = wikimedia.views(title, self._window)
            created = wikimedia.created(title) if views is None else None
        except GaveUpError:
            return Count(FAILED)
        # No data is zero views, unless the article was written only after the window.
        unwritten = created is not None and created > self._window.last_day
        count = Count(NO_ARTICLE) if unwritten else Count(OK, views or 0)
        self._cache.keep_count(self._scope, self._window, title, count)
        return count


# Titles may be written with underscores, as in the dumps; a title found twice (both ways) counts once, summed.
_JOIN = """
SELECT wanted.title AS title, CAST(sum(views) AS BIGINT) AS views
FROM wanted JOIN read_parquet(?) AS known ON replace(known.title, '_', ' ') = wanted.title
WHERE views IS NOT NULL
GROUP BY wanted.title
"""


class TableViews(ViewSource):
    """Views of articles from a table that `curate views build` made, or any Parquet with title and views.

    A table built from several months holds their sum, and gives the mean. A `resolver` follows redirects and turns
    items into titles first; without one, titles are taken as they stand. A title that the table lacks has the status
    `not_in_table`: it may have no views or no article.
    """

    in_bulk = True

    def __init__(self, path: Path, project: str = "en.wikipedia", resolver: Resolver | None = None) -> None:
        self._path, self._project, self._resolver = path, project, resolver
        self._month_names = _months(path)
        super().__init__(max(1, len(self._month_names)))

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "views_from": self._path.name,
            "sha256": file_fingerprint([self._path]),
            "months": self._month_names,
            "redirects": "followed" if self._resolver else "not followed",
        }

    def _pages(self, references: Sequence[Reference]) -> Mapping[Reference, Page]:
        if self._resolver:
            return self._resolver.resolve(references)
        titles = {r: normalise(r.text, self._project) if r.kind == "title" else None for r in references}
        return {r: Page(OK, title) if title else Page(NO_ARTICLE) for r, title in titles.items()}

    def _counts(self, titles: Sequence[str]) -> Mapping[str, Count]:
        import duckdb

        with duckdb.connect() as db:
            db.sql("SET enable_progress_bar = false")  # it would be drawn on stdout, which is for results
            db.register("wanted", pa.table({"title": pa.array(titles, pa.string())}))
            found: pa.Table = db.sql(_JOIN, params=[str(self._path)]).to_arrow_table()
        views = zip(found["title"].to_pylist(), found["views"].to_pylist(), strict=True)
        return dict.fromkeys(titles, Count(NOT_IN_TABLE)) | {title: Count(OK, total) for title, total in views}


def _months(path: Path) -> list[str]:
    """The months a table sums over, as its builder wrote them; none if nobody did. PageViewsError if it is no table."""
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise PageViewsError(
            f"There is no table of views {path}.",
            expected=f"{setting('views_from', API)}, column:NAME, or a Parquet file",
            try_next="curate views build dumps/*.bz2 -o views.parquet, to make one",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise PageViewsError(
            f"{path} is not a table of views ({str(error).splitlines()[0]}).",
            expected="a Parquet file with the columns title and views",
        ) from error
    types = {name: schema.field(name).type for name in ("title", "views") if name in schema.names}
    text = "title" in types and (pa.types.is_string(types["title"]) or pa.types.is_large_string(types["title"]))
    if not text or "views" not in types or not (pa.types.is_integer(t := types["views"]) or pa.types.is_floating(t)):
        raise PageViewsError(
            f"{path} is not a table of views: its columns are {', '.join(schema.names)}.",
            expected="title (text) and views (a number)",
            try_next="curate views build dumps/*.bz2 -o views.parquet, to make one",
        )
    months: list[str] = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}")).get("months", [])
    return months


def open_source(given: PageviewSettings) -> ViewSource:
    """The source that `views_from` names: the API (through the cache), or a table."""
    settings = given.resolved()
    if given.views_from == API:
        if settings.official and not given.offline:
            check_contact(given.contact)
        window = parse_window(given.window, datetime.now(timezone.utc).date())
        return ApiViews(settings, window, open_cache(settings), open_wikimedia(settings))
    resolver = Resolver(open_wikimedia(settings), open_cache(settings), settings) if _resolves(given) else None
    return TableViews(Path(given.views_from), settings.project, resolver)


def make_finder(given: PageviewSettings, columns: Sequence[str]) -> SubjectFinder:
    """Where the subjects of a dataset with these columns come from: as the user says, else the usual columns."""
    titles = (given.title_column,) if given.title_column else _present(TITLE_COLUMNS, columns)
    items = (given.qid_column,) if given.qid_column else _present(QID_COLUMNS, columns)
    if given.title_column is None and given.qid_column is not None:
        titles = ()  # what the user names comes before what is usual
    if given.views_from != API and not _resolves(given):
        items = ()  # a table knows titles only
    return SubjectFinder(titles, items, (*read_templates(given.subject_template), *ENTITY_QUESTIONS))


def open_cache(settings: ResolvedSettings, path: Path | None = None) -> Cache:
    """The cache on disk; to refresh is to let nothing count that it held before."""
    since = time.time() if settings.given.refresh else 0.0
    return Cache(path or default_cache(), time.time, since, any_age=settings.given.offline)


def open_wikimedia(settings: ResolvedSettings) -> Wikimedia | None:
    """Whom to ask, politely; None when offline."""
    given = settings.given
    return None if given.offline else Wikimedia(PoliteClient.opened(given.contact, settings.rate), settings)


def _resolves(given: PageviewSettings) -> bool:
    """With a table, MediaWiki is asked only by a user who said whom or as whom to ask."""
    return bool(given.contact or given.mediawiki_url)


def _present(usual: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in usual if name in columns)
