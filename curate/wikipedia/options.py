"""Which views are counted and whom to ask: the window, and every setting of page views and of dumps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from curate.errors import EstimatorError, setting
from curate.settings import Settings, option

DEFAULT_WINDOW = "12m"
POPQA = "popqa"
POPQA_MONTH = "2021-10"
FIRST_MONTH = np.datetime64("2015-07")
"""Page views, as defined today, begin here."""

PUBLISHED_AFTER = timedelta(days=3)
"""A month's last numbers appear a little after its end; only then is the month taken for finished."""

MONTH = re.compile("[0-9]{4}-(0[1-9]|1[0-2])")
_LAST = re.compile("([1-9][0-9]{0,2})m")


@dataclass(frozen=True, slots=True)
class Window:
    """Whole months from `first` to `last`, both inside; NumPy's months, `datetime64[M]`."""

    first: np.datetime64
    last: np.datetime64

    @property
    def months(self) -> int:
        """How many months the window has."""
        return int((self.last - self.first).astype(int)) + 1

    @property
    def last_day(self) -> date:
        """The last day of the last month."""
        after: date = (self.last + 1).astype(object)
        return after - timedelta(days=1)

    @property
    def start(self) -> str:
        """The first day, as the REST API wants it: 2021100100."""
        return f"{self.first.item():%Y%m%d}00"

    @property
    def end(self) -> str:
        """The last day, likewise: 2021103100."""
        return f"{self.last_day:%Y%m%d}00"

    def holds(self, timestamp: str) -> bool:
        """Whether the month of a timestamp (`2021100100`) lies in the window."""
        return self.start[:6] <= timestamp[:6] <= self.end[:6]

    def finished(self, asked: date) -> bool:
        """Whether an answer given on the day `asked` can no longer change."""
        return asked >= self.last_day + PUBLISHED_AFTER

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}:{self.last}"


def parse_window(text: str, today: date) -> Window:
    """The window that a text names: `12m` (the last 12 full months), one month, two months with a colon, `popqa`.

    Raises EstimatorError for anything else, for months before July 2015, and for months that have not begun.
    """
    text = POPQA_MONTH if text == POPQA else text
    first, _, last = text.partition(":")
    if last_months := _LAST.fullmatch(text):
        full = np.datetime64(today - PUBLISHED_AFTER, "M") - 1
        window = Window(full - int(last_months[1]) + 1, full)
    elif MONTH.fullmatch(first) and MONTH.fullmatch(last or first):
        window = Window(np.datetime64(first), np.datetime64(last or first))
    else:
        raise _bad(f"{text!r} is not a window.")
    if window.first > window.last:
        raise _bad(f"The window {text!r} ends before it begins.")
    if window.first < FIRST_MONTH:
        raise _bad(f"The window {text!r} begins before July 2015, the first month with page views.")
    if window.last > np.datetime64(today, "M"):
        raise _bad(f"The window {text!r} ends in a month that has not begun.")
    return window


def _bad(found: str) -> EstimatorError:
    return EstimatorError(
        found,
        expected="12m (the last 12 full months), one month (2021-10), from and to (2020-10:2021-09), or popqa",
        try_next=setting("window", "12m"),
    )


API = "api"
OFFICIAL_PAGEVIEWS = "https://wikimedia.org/api/rest_v1"
OFFICIAL_WIKIDATA = "https://www.wikidata.org"
OFFICIAL_RATE = 50.0
"""Requests a second, a quarter of what Wikimedia tolerates from one client."""

ACCESS = ("all-access", "desktop", "mobile-web", "mobile-app")
AGENTS = ("user", "all-agents", "spider", "automated")
_USUAL = {"project": "en.wikipedia", "access": "all-access", "agent": "user"}
_POPQA = _USUAL | {"agent": "all-agents"}


@dataclass(frozen=True)
class WikiSettings(Settings):
    """Which wiki is asked about subjects, as whom, and what names them; None where the default depends on others."""

    panel = "Page views"

    project: str | None = option(None, "For pageviews and sitelinks: the wiki.", shown_default=_USUAL["project"])
    contact: str | None = option(
        None, "For pageviews and sitelinks: your e-mail address or page, which Wikimedia asks clients for."
    )
    mediawiki_url: str | None = option(
        None, "For pageviews and sitelinks: another server with /w/api.php. With a table: resolve titles there first."
    )
    wikidata_url: str | None = option(
        None,
        "For pageviews and sitelinks: another server with /w/api.php that knows items.",
        shown_default="--mediawiki-url, else Wikidata",
    )
    title_column: str | None = option(None, "For pageviews and sitelinks: the column that holds the article's title.")
    qid_column: str | None = option(None, "For pageviews and sitelinks: the column that holds the Wikidata item.")
    subject_template: str | tuple[str, ...] = option(
        (),
        'For pageviews and sitelinks: "Who wrote [X]?" finds the subject in the question; or a file with one a line.',
    )
    rate: float | None = option(
        None,
        "For pageviews and sitelinks: requests a second; 0: no limit.",
        least=0,
        expected="requests a second, or 0 for no limit",
        shown_default="50 at Wikimedia, else no limit",
    )
    refresh: bool = option(False, "For pageviews and sitelinks: ask again for what is in the cache.")
    offline: bool = option(False, "For pageviews and sitelinks: use the cache only.")

    def resolved(self) -> ResolvedSettings:
        """Every default filled in; EstimatorError for what contradicts itself, and for a server that is no URL."""
        project = (self.project or _USUAL["project"]).removesuffix(".org")
        own_wiki = http_base("mediawiki_url", self.mediawiki_url) if self.mediawiki_url else None
        own_items = http_base("wikidata_url", self.wikidata_url) if self.wikidata_url else own_wiki
        return ResolvedSettings(
            given=self,
            project=project,
            mediawiki_url=own_wiki or f"https://{project}.org",
            wikidata_url=own_items or OFFICIAL_WIKIDATA,
            official=own_wiki is None or own_items == OFFICIAL_WIKIDATA,
        )


@dataclass(frozen=True)
class PageviewSettings(WikiSettings):
    """What `pageviews` counts beside that, and where."""

    views_from: str = option(API, "For pageviews: api, a TABLE.parquet of curate views build, or column:NAME.")
    window: str = option(
        DEFAULT_WINDOW, "For pageviews: 12m (the last 12 full months), 2021-10, 2020-10:2021-09, or popqa."
    )
    access: str | None = option(
        None,
        "For pageviews: all-access, desktop, mobile-web, mobile-app.",
        choices=ACCESS,
        shown_default="all-access",
    )
    agent: str | None = option(
        None, "For pageviews: user, all-agents, spider, automated.", choices=AGENTS, shown_default="user"
    )
    pageviews_url: str | None = option(None, "For pageviews: another server with /metrics/pageviews/….")

    def resolved(self) -> ResolvedSettings:
        """The same, and which views are counted."""
        given = {name: value for name in _USUAL if (value := getattr(self, name))}
        if self.window == POPQA:
            _check_popqa(given)
        definition = {**(_POPQA if self.window == POPQA else _USUAL), **given}
        pageviews_url = http_base("pageviews_url", self.pageviews_url or OFFICIAL_PAGEVIEWS)
        wiki = super().resolved()
        return replace(
            wiki,
            official=wiki.official or pageviews_url == OFFICIAL_PAGEVIEWS,
            redirects=self.window != POPQA,
            access=definition["access"],
            agent=definition["agent"],
            pageviews_url=pageviews_url,
        )


@dataclass(frozen=True)
class ResolvedSettings:
    """Settings with nothing left open; those of views are empty where none are counted.

    `redirects`: whether they are followed. `official`: whether any request would go to Wikimedia's own servers.
    """

    given: WikiSettings
    project: str
    mediawiki_url: str
    wikidata_url: str
    official: bool
    redirects: bool = True
    access: str = ""
    agent: str = ""
    pageviews_url: str = ""

    @property
    def rate(self) -> float | None:
        """Requests a second, None for no limit."""
        asked = self.given.rate
        return (OFFICIAL_RATE if self.official else None) if asked is None else asked or None


@dataclass(frozen=True)
class FetchSettings(Settings):
    """Whose views the dumps count that are loaded, and from where."""

    agent: str = option("user", "user, spider or automated; all-agents for the three of them.", choices=AGENTS)
    contact: str | None = option(None, "Your e-mail address or page, which Wikimedia asks for.")
    dumps_url: str | None = option(None, "Another server, laid out like Wikimedia's.")


@dataclass(frozen=True)
class BuildSettings(Settings):
    """Which lines of the dumps count; with `titles`, as the dumps write them, those of these articles only."""

    project: str = option("en.wikipedia", "The wiki whose lines count.")
    access: str = option("all-access", "all-access, desktop, mobile-web or mobile-app.", choices=ACCESS)
    titles: frozenset[str] | None = option(None, on_command_line=False)

    @property
    def wiki(self) -> str:
        """The project as the dumps call it: without `.org`."""
        return self.project.removesuffix(".org")


def check_contact(contact: str | None, instead: str = "") -> None:
    """EstimatorError unless there is somebody to write to; `instead` is what else could be done."""
    if not (contact or "").strip():
        raise EstimatorError(
            "Wikimedia's servers want to know whom to write to when a client misbehaves; no contact was given.",
            expected=f"{setting('contact')} with an e-mail address or a web page of yours; it goes into the User-Agent",
            try_next=setting("contact", "you@example.org") + instead,
        )


def http_base(name: str, url: str) -> str:
    """The URL without a slash at its end; EstimatorError if the setting of that name is none."""
    if not url.startswith(("http://", "https://")):
        raise EstimatorError(f"{setting(name, repr(url))} is not a URL.", expected="http://… or https://…")
    return url.rstrip("/")


def _check_popqa(given: Mapping[str, str]) -> None:
    """The window `popqa` settles project, access and agent; EstimatorError for any other."""
    for name, value in given.items():
        if value.removesuffix(".org") != _POPQA[name]:
            raise EstimatorError(
                f"{setting('window', POPQA)} means {setting(name, _POPQA[name])}, "
                f"and {setting(name, value)} was given.",
                expected="the definition of the paper, or one of your own",
                try_next=f"{setting('window', POPQA_MONTH)} {setting(name, value)}",
            )
