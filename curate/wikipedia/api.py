"""Views from the Wikimedia APIs: every subject resolved, every article asked once, every answer kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from typing import Any

from curate.records import OK
from curate.wikipedia.cache import Cache, Count, Page
from curate.wikipedia.lookup import FAILED, NOT_CACHED, LookupStats, Views, views_of_count
from curate.wikipedia.mediawiki import NO_ARTICLE, MediaWiki, batches
from curate.wikipedia.options import ResolvedOptions
from curate.wikipedia.polite import GaveUpError, PoliteClient
from curate.wikipedia.subjects import Reference
from curate.wikipedia.titles import has_capitals, normalise
from curate.wikipedia.windows import Window

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
