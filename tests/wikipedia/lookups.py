"""A lookup against the test server, with little patience between attempts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from curate.wikipedia.client import DEADLINE, PoliteClient, RateLimiter, Retry, Wikimedia
from curate.wikipedia.options import PageviewSettings, parse_window
from curate.wikipedia.pages import Cache
from curate.wikipedia.views import ApiViews, Reference, Resolver
from tests.wikimedia_server import WikimediaServer

QUICK = Retry(attempts=20, base=0.001, longest=0.01)


def open_views(
    server: WikimediaServer,
    cache: Path,
    window: str = "2021-10",
    now: Callable[[], float] = time.time,
    timeout: float = 5.0,
    deadline: float = DEADLINE,
    retry: Retry = QUICK,
    since: float = 0.0,
    **options: Any,
) -> ApiViews:
    """The source of `--views-from api`, asking `server`; `now` is the clock."""
    given = PageviewSettings(window=window, pageviews_url=server.url, mediawiki_url=server.url, **options)
    settings = given.resolved()
    client = PoliteClient(given.contact, RateLimiter(None), retry, timeout, deadline)
    today = datetime.fromtimestamp(now(), timezone.utc).date()
    kept = Cache(cache, now, since, offline=given.offline)
    resolver = Resolver(settings, kept, None if given.offline else Wikimedia(client, settings))
    return ApiViews(resolver, parse_window(window, today))


def answers(views: ApiViews, *subjects: str) -> dict[str, tuple[str, float | None]]:
    """Status and views of each subject; Q42 and its like are items."""
    references = [Reference("qid" if s[:1] == "Q" and s[1:].isdigit() else "title", s) for s in subjects]
    found = views.look_up(references)
    return {r.text: (found[r].status, found[r].views) for r in references}
