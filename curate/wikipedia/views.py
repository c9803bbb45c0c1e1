"""Subjects: what names them; what is known of their articles and items; page views, of an API or a local table."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import pyarrow as pa

from curate.data.answers import answer_text
from curate.data.columns import BLANK, ENTITY_QUESTIONS, match_template, split_templates
from curate.data.files import manifest_in
from curate.data.stores import file_fingerprint, open_parquet_file
from curate.errors import PageViewsError, setting
from curate.records import FAILED, OK, Example
from curate.wikipedia.client import GaveUpError, PoliteClient, RateLimiter, Wikimedia, batches
from curate.wikipedia.dumps import in_duckdb
from curate.wikipedia.options import (
    API,
    PageviewSettings,
    ResolvedSettings,
    WikiSettings,
    Window,
    check_contact,
    parse_window,
)
from curate.wikipedia.pages import NO_ARTICLE, A, Cache, Item, Page, default_cache, normalise, qid

ZERO_VIEWS = "zero_views"
NOT_CACHED = "not_cached"
NOT_IN_TABLE = "not_in_table"
MEASURED = (OK, ZERO_VIEWS)
"""The statuses that come with a number."""

CONCURRENCY = 16
"""Requests for views in flight; titles are resolved one batch after the other, as MediaWiki asks of its clients."""


TITLE_COLUMNS = ("s_wiki_title",)
QID_COLUMNS = ("s_uri", "wikidata_id")


class Reference(NamedTuple):  # a tuple, since a million of them are keys of dictionaries
    """What names the article of a subject: a title (or a name that may be one), or a Wikidata item."""

    kind: Literal["title", "qid"]
    text: str


class SubjectFinder:
    """Finds the reference of each example; the first of these that the row has decides.

    A title column, a QID column (before it if `items_first`), the subject column, the subject that a template recovers
    from the question.
    """

    def __init__(
        self,
        title_columns: Sequence[str] = (),
        qid_columns: Sequence[str] = (),
        templates: Iterable[str] = ENTITY_QUESTIONS,
        items_first: bool = False,
    ) -> None:
        self.title_columns = tuple(title_columns)
        self.qid_columns = tuple(qid_columns)
        self.templates = tuple(templates)
        self._finders = (self._item, self._title) if items_first else (self._title, self._item)
        self._parts = split_templates(self.templates)

    @property
    def columns(self) -> tuple[str, ...]:
        """The input columns it reads."""
        return (*self.title_columns, *self.qid_columns)

    def find(self, example: Example) -> Reference | None:
        """The reference of one example; None when nothing in it names a subject."""
        for find in self._finders:
            if reference := find(example):
                return reference
        subject = example.subject or match_template(example.question, self._parts)[1]
        return Reference("title", subject) if subject else None

    def _title(self, example: Example) -> Reference | None:
        texts = (answer_text(example.extra[column]) for column in self.title_columns)
        return next((Reference("title", text) for text in texts if text), None)

    def _item(self, example: Example) -> Reference | None:
        items = (qid(answer_text(example.extra[column])) for column in self.qid_columns)
        return next((Reference("qid", item) for item in items if item), None)


def read_templates(given: str | Sequence[str]) -> list[str]:
    """Templates as typed after `--subject-template`: each a template, or the name of a file with one a line."""
    templates: list[str] = []
    for text in [given] if isinstance(given, str) else given:
        if BLANK not in text and Path(text).is_file():
            lines = Path(text).read_text(encoding="utf-8").splitlines()
            templates += [line for line in lines if line.strip() and not line.startswith("#")]
        else:
            templates.append(text)
    split_templates(templates)
    return templates


class Views(NamedTuple):
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
    reasons: Counter[str] = field(default_factory=Counter)
    """Why requests failed."""


class Resolver:
    """Finds the article of every reference, or its item: in the cache, else through `wikimedia`, None if offline."""

    def __init__(self, settings: ResolvedSettings, cache: Cache, wikimedia: Wikimedia | None) -> None:
        self.settings, self.cache, self.wikimedia = settings, cache, wikimedia
        self.reasons: Counter[str] = Counter()
        self._project = settings.project
        self._titles = f"{settings.mediawiki_url} {settings.project} {'followed' if settings.redirects else 'as it is'}"
        self._items = f"{settings.wikidata_url} {settings.project}"

    def resolve(self, references: Sequence[Reference]) -> dict[Reference, Page]:
        """The article, or why there is none, for each reference."""
        items = [r.text for r in references if r.kind == "qid"]
        linked = self._kept_or_asked(Page, self._items, items, Wikimedia.sitelinks)
        titles: dict[Reference, str] = {}
        pages: dict[Reference, Page] = {}
        for reference in references:
            link = linked[reference.text] if reference.kind == "qid" else Page(OK, reference.text)
            title = normalise(link.title or "", self._project) if link.status == OK else None
            if title is None:
                pages[reference] = Page(NO_ARTICLE) if link.status == OK else link
            else:
                titles[reference] = title
        found = self._kept_or_asked(Page, self._titles, list(dict.fromkeys(titles.values())), Wikimedia.resolve)
        return pages | {reference: found[title] for reference, title in titles.items()}

    def items(self, references: Sequence[Reference]) -> dict[Reference, Item]:
        """The item of each reference and its sitelinks, or why they are not known; that of a title is its article's."""
        named = [r.text for r in references if r.kind == "qid"]
        by_id = self._kept_or_asked(Item, self.settings.wikidata_url, named, Wikimedia.items)
        pages = self.resolve([r for r in references if r.kind == "title"])
        titles = list(dict.fromkeys(page.title for page in pages.values() if page.status == OK and page.title))
        by_title = self._kept_or_asked(Item, self._items, titles, Wikimedia.items_of_articles)
        articles = {
            r: by_title[page.title or ""] if page.status == OK else Item(page.status) for r, page in pages.items()
        }
        return articles | {Reference("qid", name): item for name, item in by_id.items()}

    def _kept_or_asked(
        self, kind: type[A], scope: str, asked: Sequence[str], ask: Callable[[Wikimedia, list[str]], dict[str, A]]
    ) -> dict[str, A]:
        found = self.cache.found(kind, scope, asked)
        unknown = [text for text in asked if text not in found]
        if self.wikimedia is None:
            return found | dict.fromkeys(unknown, kind(NOT_CACHED))
        for batch in batches(unknown):
            try:
                answers = ask(self.wikimedia, batch)
            except GaveUpError as error:
                answers = {}
                self.reasons[str(error)] += len(batch)
            else:
                if left_out := len(set(batch) - set(answers)):
                    self.reasons["an answer that leaves out what was asked for"] += left_out
            for text, answer in answers.items():
                self.cache.keep(scope, text, answer)
            found |= {text: answers.get(text, kind(FAILED)) for text in batch}
        return found


Found = TypeVar("Found", Item, Views)
"""What a lookup ends in: a status, and what goes with it."""


class Source(ABC, Generic[Found]):
    """Something that knows a number of subjects; what was asked before is not asked again."""

    in_bulk = False
    """Whether one lookup of all subjects is cheaper than many of some."""

    takes_items: Literal["first", "last", "never"] = "last"
    """Whether a subject is known by its item before its title, after it, or by its title only."""

    def __init__(self, reasons: Counter[str] | None = None) -> None:
        self.stats = LookupStats(reasons=Counter() if reasons is None else reasons)
        self._answers: dict[Reference, Found] = {}

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change its numbers."""

    @abstractmethod
    def _ask(self, references: Sequence[Reference]) -> Mapping[Reference, Found]:
        """The answer for every reference, each of which comes once."""

    def look_up(self, references: Iterable[Reference]) -> Mapping[Reference, Found]:
        """The answer for every reference: for those of now, and all that were asked before."""
        started = time.perf_counter()
        new = [r for r in dict.fromkeys(references) if r not in self._answers]
        self._answers |= self._ask(new)
        self.stats.subjects += len(new)
        self.stats.seconds += time.perf_counter() - started
        self.stats.missing += [r.text for r in new if self._answers[r].status in (NOT_CACHED, FAILED)]
        return self._answers


class SitelinkSource(Source[Item]):
    """How many wikis have an article about a subject, by its Wikidata item."""

    takes_items = "first"

    def __init__(self, resolver: Resolver) -> None:
        super().__init__(resolver.reasons)
        self._resolver = resolver

    def fingerprint(self) -> Mapping[str, Any]:
        asked = self._resolver.settings
        return {name: getattr(asked, name) for name in ("project", "mediawiki_url", "wikidata_url")}

    def _ask(self, references: Sequence[Reference]) -> Mapping[Reference, Item]:
        found = self._resolver.items(references)
        if self._resolver.wikimedia is not None:
            client = self._resolver.wikimedia.client
            self.stats.requests, self.stats.retries = client.requests, client.retries
        return found


class ViewSource(Source[Views]):
    """Something that knows how often articles were viewed: in all, over `months` months."""

    def __init__(self, months: int, reasons: Counter[str] | None = None) -> None:
        super().__init__(reasons)
        self._months = months

    @abstractmethod
    def _pages(self, references: Sequence[Reference]) -> Mapping[Reference, Page]:
        """The article of every reference, or why there is none."""

    @abstractmethod
    def _counts(self, titles: Sequence[str]) -> Mapping[str, int | str]:
        """The views of every article, or a status that says why they are not known."""

    def _ask(self, references: Sequence[Reference]) -> Mapping[Reference, Views]:
        """The monthly mean of every reference's article, or a status."""
        pages = self._pages(references)
        counts = self._counts(list(dict.fromkeys(title for status, title in pages.values() if status == OK and title)))
        found = {}
        for reference, (status, title) in pages.items():
            count = counts[title] if status == OK and title else status
            if isinstance(count, str):
                found[reference] = Views(count, title)
            else:  # zero is a measurement like any other, with a status of its own
                found[reference] = Views(OK if count else ZERO_VIEWS, title, count / self._months)
        return found


class ApiViews(ViewSource):
    """Views of articles over a window, by the API. What was once answered is never asked again.

    Offline only the cache is used, and what it lacks has the status `not_cached`.
    """

    def __init__(self, resolver: Resolver, window: Window) -> None:
        super().__init__(window.months, resolver.reasons)
        self._resolver, self._window = resolver, window
        asked = resolver.settings
        self._scope = " ".join((asked.pageviews_url, asked.project, asked.access, asked.agent))

    def fingerprint(self) -> Mapping[str, Any]:
        asked = self._resolver.settings
        names = ["project", "access", "agent", "pageviews_url", "mediawiki_url"]
        names += ["wikidata_url"] if asked.given.wikidata_url else []  # else it follows from the others
        return {
            "views_from": "api",
            "window": str(self._window),
            "redirects": "followed" if asked.redirects else "not followed",
            **{name: getattr(asked, name) for name in names},
        }

    def _pages(self, references: Sequence[Reference]) -> Mapping[Reference, Page]:
        return self._resolver.resolve(references)

    def _counts(self, titles: Sequence[str]) -> Mapping[str, int | str]:
        kept = self._resolver.cache.counts(self._scope, self._window, titles)
        counts: dict[str, int | str] = {title: NO_ARTICLE if n is None else n for title, n in kept.items()}
        unknown = [title for title in titles if title not in counts]
        self.stats.kept += len(counts)
        wikimedia = self._resolver.wikimedia
        if wikimedia is None:
            return counts | dict.fromkeys(unknown, NOT_CACHED)
        client = wikimedia.client
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            futures = {pool.submit(self._views_of, wikimedia, title): title for title in unknown}
            try:
                for future in as_completed(futures):
                    try:
                        counts[futures[future]] = future.result()
                    except GaveUpError as error:
                        counts[futures[future]] = FAILED
                        self.stats.reasons[str(error)] += 1
            except BaseException:  # Ctrl-C, or a server that refuses: nobody waits for what is no longer wanted
                client.limiter.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self.stats.requests, self.stats.retries = client.requests, client.retries
        return counts

    def _views_of(self, wikimedia: Wikimedia, title: str) -> int | str:
        views = wikimedia.views(title, self._window)
        if views is None:
            # No data is zero views, unless the article was written only after the window.
            created = wikimedia.created(title)
            views = None if created is not None and created > self._window.last_day else 0
        self._resolver.cache.keep_count(self._scope, self._window, title, views)
        return NO_ARTICLE if views is None else views


# Titles may be written with underscores, as in the dumps; a title found twice (both ways) counts once, summed.
_JOIN = """
SELECT wanted.title AS title, CAST(sum(views) AS BIGINT) AS views
FROM wanted JOIN read_parquet(?) AS known ON replace(known.title, '_', ' ') = wanted.title
WHERE views >= 0
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
        self.takes_items = "last" if resolver else "never"
        self._month_names = _months(path)
        super().__init__(max(1, len(self._month_names)), resolver.reasons if resolver else None)

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
        titles = (normalise(text, self._project) if kind == "title" else None for kind, text in references)
        return {r: Page(OK if title else NO_ARTICLE, title) for r, title in zip(references, titles, strict=True)}

    def _counts(self, titles: Sequence[str]) -> Mapping[str, int | str]:
        try:
            with in_duckdb() as db:
                db.register("wanted", pa.table({"title": pa.array(titles, pa.string())}))
                found = db.sql(_JOIN, params=[str(self._path)]).to_arrow_table()
        except OSError as error:
            raise PageViewsError(
                f"{self._path} cannot be joined: {error}", expected="a whole table, and room on the disk"
            ) from error
        views = zip(found["title"].to_pylist(), found["views"].to_pylist(), strict=True)
        return dict.fromkeys(titles, NOT_IN_TABLE) | dict(views)


def _months(path: Path) -> list[str]:
    """The months a table sums over, as its builder wrote them; none if nobody did. PageViewsError if it is no table."""
    try:
        schema = open_parquet_file(path).schema_arrow
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
    months: list[str] = manifest_in(schema).get("months", [])
    return months


def open_source(given: PageviewSettings) -> ViewSource:
    """The source of views that `views_from` names: the API (through the cache), or a table."""
    settings = given.resolved()
    if given.views_from == API:
        if settings.official and not given.offline:
            check_contact(given.contact, f"; or {setting('views_from', 'TABLE.parquet')}, which asks nobody")
        window = parse_window(given.window, datetime.now(timezone.utc).date())
        return ApiViews(open_resolver(settings), window)
    # With a table, MediaWiki is asked only by a user who said whom or as whom to ask.
    resolver = open_resolver(settings) if given.contact or given.mediawiki_url else None
    return TableViews(Path(given.views_from), settings.project, resolver)


def open_sitelinks(given: WikiSettings) -> SitelinkSource:
    """Wikidata, or whom the settings name, through the cache."""
    settings = given.resolved()
    if settings.official and not given.offline:
        check_contact(given.contact)
    return SitelinkSource(open_resolver(settings))


def open_resolver(settings: ResolvedSettings, cache: Path | None = None) -> Resolver:
    """The cache on disk, and whom to ask for what it lacks; to refresh is to let nothing count that it held before."""
    given = settings.given
    since = time.time() if given.refresh else 0.0
    kept = Cache(cache or default_cache(), time.time, since, offline=given.offline)
    if given.offline:
        return Resolver(settings, kept, None)
    return Resolver(settings, kept, Wikimedia(PoliteClient(given.contact, RateLimiter(settings.rate)), settings))


def make_finder(given: WikiSettings, columns: Sequence[str], source: Source[Any]) -> SubjectFinder:
    """Where the subjects of a dataset with these columns come from: as the user says, else the usual columns."""
    titles = (given.title_column,) if given.title_column else _present(TITLE_COLUMNS, columns)
    items = (given.qid_column,) if given.qid_column else _present(QID_COLUMNS, columns)
    # What the user names comes before what is usual.
    if given.title_column is None and given.qid_column is not None:
        titles = ()
    if source.takes_items == "never" or (source.takes_items == "first" and given.title_column and not given.qid_column):
        items = ()
    templates = (*read_templates(given.subject_template), *ENTITY_QUESTIONS)
    return SubjectFinder(titles, items, templates, items_first=source.takes_items == "first")


def _present(usual: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in usual if name in columns)
