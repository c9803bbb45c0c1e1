"""Where page views come from: the API or a local table."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from curate.data.columns import ENTITY_QUESTIONS
from curate.data.files import METADATA_KEY
from curate.errors import EstimatorError, PageViewsError
from curate.records import OK
from curate.wikipedia.cache import Cache, Count, Page, default_cache
from curate.wikipedia.client import NO_ARTICLE, GaveUpError, MediaWiki, PoliteClient, batches
from curate.wikipedia.options import (
    AGENTS,
    API,
    MONTH,
    PageviewSettings,
    ResolvedOptions,
    Window,
    check_choice,
    check_contact,
    http_base,
    parse_window,
    user_agent,
)
from curate.wikipedia.titles import (
    QID_COLUMNS,
    TITLE_COLUMNS,
    Reference,
    SubjectFinder,
    has_capitals,
    normalise,
    read_templates,
)

if TYPE_CHECKING:
    import httpx

ZERO_VIEWS = "zero_views"
FAILED = "failed"
NOT_CACHED = "not_cached"
NOT_IN_TABLE = "not_in_table"
MEASURED = (OK, ZERO_VIEWS)
"""The statuses that come with a number."""


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
    asked: int = 0
    kept: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)


class ViewSource(Protocol):
    """Something that knows how often articles were viewed."""

    stats: LookupStats
    in_bulk: bool
    """Whether one lookup of all subjects is cheaper than many of some."""

    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change its numbers."""

    def look_up(self, references: Iterable[Reference]) -> Mapping[Reference, Views]:
        """The views of every reference; each is answered, if only with a status."""


def views_of_count(title: str, total: int, months: int) -> Views:
    """The monthly mean of an article that exists; zero is a measurement like any other, with a status of its own."""
    return Views(OK if total > 0 else ZERO_VIEWS, title, total / months)


CONCURRENCY = 16
"""Requests for views in flight; titles are resolved one batch after the other, as MediaWiki asks of its clients."""


class Resolver:
    """Finds the article of every reference, through MediaWiki or from what was kept; `wiki` None is offline."""

    def __init__(self, wiki: MediaWiki | None, cache: Cache, options: ResolvedOptions) -> None:
        self._wiki, self._cache = wiki, cache
        self._capital = has_capitals(options.project)
        self._scope = f"{options.mediawiki_url} {options.project} {'followed' if options.redirects else 'as it is'}"
        self._items_scope = f"{options.wikidata_url} {options.project}"

    def resolve(self, references: Sequence[Reference]) -> dict[Reference, Page]:
        """The article, or why there is none, for each reference."""
        items = [r.text for r in references if r.kind == "qid"]
        linked = self._known_or_asked(self._items_scope, items, self._ask_items)
        titles: dict[Reference, str] = {}
        pages: dict[Reference, Page] = {}
        for reference in references:
            link = linked[reference.text] if reference.kind == "qid" else Page(OK, reference.text)
            title = normalise(link.title or "", self._capital) if link.status == OK else None
            if title is None:
                pages[reference] = Page(NO_ARTICLE) if link.status == OK else link
            else:
                titles[reference] = title
        found = self._known_or_asked(self._scope, list(dict.fromkeys(titles.values())), self._ask_titles)
        return pages | {reference: found[title] for reference, title in titles.items()}

    def _known_or_asked(
        self, scope: str, asked: Sequence[str], ask: Callable[[MediaWiki, list[str]], dict[str, Page]]
    ) -> dict[str, Page]:
        pages = self._cache.pages(scope, asked)
        unknown = [text for text in asked if text not in pages]
        if self._wiki is None:
            return pages | {text: Page(NOT_CACHED) for text in unknown}
        for batch in batches(unknown):
            try:
                answers = ask(self._wiki, batch)
            except GaveUpError:
                answers = {}
            for text, page in answers.items():
                self._cache.keep_page(scope, text, page)
            pages |= {text: answers.get(text, Page(FAILED)) for text in batch}
        return pages

    @staticmethod
    def _ask_titles(wiki: MediaWiki, titles: list[str]) -> dict[str, Page]:
        return wiki.resolve(titles)

    @staticmethod
    def _ask_items(wiki: MediaWiki, items: list[str]) -> dict[str, Page]:
        return {item: Page(OK, link) if link else Page(NO_ARTICLE) for item, link in wiki.sitelinks(items).items()}


class ApiViews:
    """Monthly views of articles over a window. What was once answered is never asked again.

    `client` None is offline: only the cache is used, and what it lacks has the status `not_cached`.
    """

    in_bulk = False

    def __init__(
        self,
        options: ResolvedOptions,
        window: Window,
        cache: Cache,
        client: PoliteClient | None,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._options, self._window, self._cache, self._client = options, window, cache, client
        self._concurrency = concurrency
        self._wiki = options.wiki(client) if client else None
        self._rest = options.article_views(client) if client else None
        self._resolver = Resolver(self._wiki, cache, options)
        self._scope = " ".join((options.pageviews_url, options.project, options.access, options.agent))
        self._answers: dict[Reference, Views] = {}
        self.stats = LookupStats()

    def fingerprint(self) -> Mapping[str, Any]:
        options = self._options
        return {
            "views_from": "api",
            "project": options.project,
            "access": options.access,
            "agent": options.agent,
            "window": str(self._window),
            "redirects": "followed" if options.redirects else "not followed",
            "pageviews_url": options.pageviews_url,
            "mediawiki_url": options.mediawiki_url,
        }

    def look_up(self, references: Iterable[Reference]) -> Mapping[Reference, Views]:
        """The monthly mean of every reference's article."""
        started = time.perf_counter()
        new = [r for r in dict.fromkeys(references) if r not in self._answers]
        pages = self._resolver.resolve(new)
        titles = list(dict.fromkeys(page.title for page in pages.values() if page.status == OK and page.title))
        counts = self._counts(titles)
        for reference, page in pages.items():
            count = counts.get(page.title or "") if page.status == OK else None
            self._answers[reference] = self._views(page, count)
        self._note(new, time.perf_counter() - started)
        return self._answers

    def _counts(self, titles: Sequence[str]) -> dict[str, Count]:
        counts = self._cache.counts(self._scope, self._window, titles)
        unknown = [title for title in titles if title not in counts]
        self.stats.kept += len(counts)
        if self._client is None:
            return counts | {title: Count(NOT_CACHED) for title in unknown}
        self.stats.asked += len(unknown)
        with ThreadPoolExecutor(self._concurrency) as pool:
            futures = {pool.submit(self._ask, title): title for title in unknown}
            try:
                return counts | {futures[future]: future.result() for future in as_completed(futures)}
            except BaseException:  # Ctrl-C, or a server that refuses: nobody waits for what is no longer wanted
                self._client.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, title: str) -> Count:
        assert self._rest is not None
        try:
            total = self._rest.ask(title, self._window)
            count = Count(OK, total) if total is not None else self._without_data(title)
        except GaveUpError:
            return Count(FAILED)
        self._cache.keep_count(self._scope, self._window, title, count)
        return count

    def _without_data(self, title: str) -> Count:
        """No data is zero views, unless the article was written only after the window."""
        assert self._wiki is not None
        created = self._wiki.created(title)
        return Count(NO_ARTICLE) if created is not None and created > _last_day(self._window) else Count(OK, 0)

    def _views(self, page: Page, count: Count | None) -> Views:
        if count is None:
            return Views(page.status, page.title)
        if count.status != OK or count.views is None:
            return Views(count.status, page.title)
        return views_of_count(page.title or "", count.views, self._window.months)

    def _note(self, new: Sequence[Reference], seconds: float) -> None:
        self.stats.subjects += len(new)
        self.stats.seconds += seconds
        self.stats.missing += [r.text for r in new if self._answers[r].status in (NOT_CACHED, FAILED)]
        if self._client is not None:
            self.stats.requests, self.stats.retries = self._client.requests, self._client.retries


def _last_day(window: Window) -> date:
    return date(int(window.end[:4]), int(window.end[4:6]), int(window.end[6:8]))


# Titles may be written with underscores, as in the dumps; a title found twice (both ways) counts once, summed.
_JOIN = """
SELECT wanted.title AS title, CAST(sum(views) AS BIGINT) AS views
FROM wanted JOIN read_parquet(?) AS known ON replace(known.title, '_', ' ') = wanted.title
WHERE views IS NOT NULL
GROUP BY wanted.title
"""


class TableViews:
    """Monthly views of articles from a table that `curate views build` made, or any Parquet with title and views.

    A table built from several months holds their sum, and gives the mean. A `resolver` follows redirects and turns
    items into titles first; without one, titles are taken as they stand. A title that the table lacks has the status
    `not_in_table`: it may have no views or no article.
    """

    in_bulk = True

    def __init__(self, path: Path, capital: bool = True, resolver: Resolver | None = None) -> None:
        self.path = path
        self.months = _months(path)
        self._capital, self._resolver = capital, resolver
        self._answers: dict[Reference, Views] = {}
        self.stats = LookupStats()

    def fingerprint(self) -> Mapping[str, Any]:
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
        return {
            "views_from": self.path.name,
            "sha256": digest.hexdigest(),
            "months": self.months,
            "redirects": "followed" if self._resolver else "not followed",
        }

    def look_up(self, references: Iterable[Reference]) -> Mapping[Reference, Views]:
        """The views of every reference's title, in one join."""
        started = time.perf_counter()
        new = [r for r in dict.fromkeys(references) if r not in self._answers]
        if new:
            self._answers |= self._resolved(new) if self._resolver else self._as_written(new)
        self.stats.subjects += len(new)
        self.stats.seconds += time.perf_counter() - started
        return self._answers

    def _as_written(self, references: Sequence[Reference]) -> dict[Reference, Views]:
        titles = {r: normalise(r.text, self._capital) if r.kind == "title" else None for r in references}
        found = self._join([title for title in titles.values() if title is not None])
        return {r: self._views(title, found) if title else Views(NO_ARTICLE) for r, title in titles.items()}

    def _resolved(self, references: Sequence[Reference]) -> dict[Reference, Views]:
        assert self._resolver is not None
        pages = self._resolver.resolve(references)
        found = self._join([page.title for page in pages.values() if page.status == OK and page.title])
        return {
            r: self._views(page.title or "", found) if page.status == OK else Views(page.status, page.title)
            for r, page in pages.items()
        }

    def _views(self, title: str, found: Mapping[str, int]) -> Views:
        if title not in found:
            return Views(NOT_IN_TABLE, title)
        return views_of_count(title, found[title], max(1, len(self.months)))

    def _join(self, titles: Sequence[str]) -> dict[str, int]:
        import duckdb

        wanted = pa.table({"title": pa.array(list(dict.fromkeys(titles)), pa.string())})
        with duckdb.connect() as db:
            db.sql("SET enable_progress_bar = false")  # it would be drawn on stdout, which is for results
            db.register("wanted", wanted)
            result: pa.Table = db.sql(_JOIN, params=[str(self.path)]).to_arrow_table()
        return dict(zip(result["title"].to_pylist(), result["views"].to_pylist(), strict=True))


def _months(path: Path) -> list[str]:
    """The months a table sums over, as its builder wrote them; none if nobody did. PageViewsError if it is no table."""
    import json

    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise PageViewsError(
            f"There is no table of views {path}.",
            expected="--views-from api, column:NAME, or a Parquet file",
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


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest


CONNECTIONS = 32
TIMEOUT = 30.0
"""Seconds without a byte after which a request is given up and tried again."""


def open_source(options: PageviewSettings) -> ViewSource:
    """The source that `--views-from` names: the API (through the cache), or a table."""
    settings = options.resolved()
    if options.views_from != API:
        return _open_table(settings)

    settings.check_contact()
    window = parse_window(options.window, datetime.now(timezone.utc).date())
    return ApiViews(settings, window, open_cache(settings), open_client(settings))


def make_finder(options: PageviewSettings, columns: Sequence[str]) -> SubjectFinder:
    """Where the subjects of a dataset with these columns come from: as the user says, else the usual columns."""
    titles = (options.title_column,) if options.title_column else _present(TITLE_COLUMNS, columns)
    items = (options.qid_column,) if options.qid_column else _present(QID_COLUMNS, columns)
    if options.title_column is None and options.qid_column is not None:
        titles = ()  # what the user names comes before what is usual
    if options.views_from != API and not _resolves(options):
        items = ()  # a table knows titles only
    return SubjectFinder(titles, items, (*read_templates(options.subject_template), *ENTITY_QUESTIONS))


def open_cache(settings: ResolvedOptions, path: Path | None = None) -> Cache:
    """The cache on disk; with `--refresh` what it held before counts for nothing."""
    since = time.time() if settings.given.refresh else 0.0
    return Cache(path or default_cache(), time.time, since, any_age=settings.given.offline)


def open_client(settings: ResolvedOptions) -> PoliteClient | None:
    """A client that says who asks and keeps to the rate; None when offline."""
    if settings.given.offline:
        return None
    from curate.wikipedia.client import Pace, PoliteClient

    stopped = threading.Event()
    return PoliteClient(_http(settings.user_agent()), Pace(settings.rate, sleep=stopped.wait), stopped=stopped)


def open_download(
    months: Sequence[str], agent: str, contact: str | None, dumps_url: str | None
) -> tuple[str, httpx.Client, tuple[str, ...]]:
    """For `curate views fetch`: the base of the dumps, a client, and the agents whose files are wanted."""
    from curate.wikipedia.dumps import OFFICIAL_DUMPS

    check_choice("agent", agent, AGENTS)
    for month in months:
        if not MONTH.match(month):
            raise EstimatorError(f"{month!r} is not a month.", expected="--month 2021-10, once for each month")
        parse_window(month, datetime.now(timezone.utc).date())
    if dumps_url is None:
        check_contact(contact)
    base = http_base("--dumps-url", dumps_url or OFFICIAL_DUMPS)
    return base, _http(user_agent(contact)), ("user", "spider", "automated") if agent == "all-agents" else (agent,)


def _http(agent: str) -> httpx.Client:
    import httpx

    return httpx.Client(
        headers={"User-Agent": agent},
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        timeout=TIMEOUT,
        follow_redirects=True,
    )


def _open_table(settings: ResolvedOptions) -> ViewSource:
    resolver = None
    if _resolves(settings.given):
        client = open_client(settings)
        resolver = Resolver(settings.wiki(client) if client else None, open_cache(settings), settings)
    return TableViews(Path(settings.given.views_from), has_capitals(settings.project), resolver)


def _resolves(options: PageviewSettings) -> bool:
    """With a table, MediaWiki is asked only by a user who said whom or as whom to ask."""
    return bool(options.contact or options.mediawiki_url)


def _present(usual: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in usual if name in columns)
