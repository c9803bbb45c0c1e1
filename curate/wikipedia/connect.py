"""From options to a source of views: the one place where the client, the clock and the cache come together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from curate.datasets.templates import ENTITY_QUESTIONS
from curate.errors import EstimatorError
from curate.wikipedia.cache import Cache, default_cache
from curate.wikipedia.lookup import ViewSource
from curate.wikipedia.options import (
    AGENTS,
    API,
    PageviewOptions,
    ResolvedOptions,
    check_choice,
    check_contact,
    http_base,
    user_agent,
)
from curate.wikipedia.subjects import QID_COLUMNS, TITLE_COLUMNS, SubjectFinder, read_templates
from curate.wikipedia.titles import has_capitals
from curate.wikipedia.windows import MONTH, parse_window

if TYPE_CHECKING:
    import httpx

    from curate.wikipedia.polite import PoliteClient

CONNECTIONS = 32
TIMEOUT = 30.0
"""Seconds without a byte after which a request is given up and tried again."""


def open_source(options: PageviewOptions) -> ViewSource:
    """The source that `--views-from` names: the API (through the cache), or a table."""
    settings = options.resolved()
    if options.views_from != API:
        return _open_table(settings)
    from curate.wikipedia.api import ApiViews

    settings.check_contact()
    window = parse_window(options.window, datetime.now(timezone.utc).date())
    return ApiViews(settings, window, open_cache(settings), open_client(settings))


def make_finder(options: PageviewOptions, columns: Sequence[str]) -> SubjectFinder:
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
    from curate.wikipedia.polite import Pace, PoliteClient

    stopped = threading.Event()
    return PoliteClient(_http(settings.user_agent()), Pace(settings.rate, sleep=stopped.wait), stopped=stopped)


def open_download(
    months: Sequence[str], agent: str, contact: str | None, dumps_url: str | None
) -> tuple[str, httpx.Client, tuple[str, ...]]:
    """For `curate views fetch`: the base of the dumps, a client, and the agents whose files are wanted."""
    from curate.wikipedia.download import OFFICIAL_DUMPS

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
    from curate.wikipedia.table import TableViews

    resolver = None
    if _resolves(settings.given):
        from curate.wikipedia.api import Resolver

        client = open_client(settings)
        resolver = Resolver(settings.wiki(client) if client else None, open_cache(settings), settings)
    return TableViews(Path(settings.given.views_from), has_capitals(settings.project), resolver)


def _resolves(options: PageviewOptions) -> bool:
    """With a table, MediaWiki is asked only by a user who said whom or as whom to ask."""
    return bool(options.contact or options.mediawiki_url)


def _present(usual: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in usual if name in columns)
