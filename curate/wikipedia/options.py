"""Which views are counted: the window, and every option with its default filled in."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from curate.errors import EstimatorError, setting
from curate.settings import Settings, option

if TYPE_CHECKING:
    from curate.wikipedia.client import ArticleViews, MediaWiki, PoliteClient

DEFAULT_WINDOW = "12m"
POPQA = "popqa"
POPQA_MONTH = "2021-10"
FIRST_MONTH = (2015, 7)
"""Page views, as defined today, begin here."""

PUBLISHED_AFTER = timedelta(days=3)
"""A month's last numbers appear a little after its end; only then is the month taken for finished."""

MONTH = re.compile(r"^(\d{4})-(0[1-9]|1[0-2])$")
_LAST = re.compile(r"^([1-9]\d{0,2})m$")

Month = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """Whole months from `first` to `last`, both inside, each a (year, month)."""

    first: Month
    last: Month

    @property
    def months(self) -> int:
        """How many months the window has."""
        return _count(self.last) - _count(self.first) + 1

    @property
    def start(self) -> str:
        """The first day, as the REST API wants it: 2021100100."""
        return f"{self.first[0]:04d}{self.first[1]:02d}0100"

    @property
    def end(self) -> str:
        """The last day, likewise: 2021103100."""
        return f"{self.last[0]:04d}{self.last[1]:02d}{monthrange(*self.last)[1]:02d}00"

    def holds(self, timestamp: str) -> bool:
        """Whether the month of a timestamp (`2021100100`) lies in the window."""
        return self.start[:6] <= timestamp[:6] <= self.end[:6]

    def finished(self, asked: date) -> bool:
        """Whether an answer given on the day `asked` can no longer change."""
        return asked >= date(*self.last, monthrange(*self.last)[1]) + PUBLISHED_AFTER

    def __str__(self) -> str:
        first, last = (f"{year:04d}-{month:02d}" for year, month in (self.first, self.last))
        return first if first == last else f"{first}:{last}"


def parse_window(text: str, today: date) -> Window:
    """The window that `--window` names: `12m` (the last 12 full months), one month, two months with a colon, `popqa`.

    Raises EstimatorError for anything else, for months before July 2015, and for months that have not begun.
    """
    text = POPQA_MONTH if text == POPQA else text
    last_months = _LAST.match(text)
    if last_months:
        full = _count(_month_of(today - PUBLISHED_AFTER)) - 1
        window = Window(_month(full - int(last_months[1]) + 1), _month(full))
    else:
        first, _, last = text.partition(":")
        window = Window(_parse_month(first, text), _parse_month(last or first, text))
    if window.first > window.last:
        raise _bad(f"The window {text!r} ends before it begins.")
    if window.first < FIRST_MONTH:
        raise _bad(f"The window {text!r} begins before July 2015, the first month with page views.")
    if window.last > _month_of(today):
        raise _bad(f"The window {text!r} ends in a month that has not begun.")
    return window


def _parse_month(text: str, window: str) -> Month:
    match = MONTH.match(text)
    if not match:
        raise _bad(f"{window!r} is not a window.")
    return int(match[1]), int(match[2])


def _month_of(day: date) -> Month:
    return day.year, day.month


def _count(month: Month) -> int:
    return 12 * month[0] + month[1] - 1


def _month(count: int) -> Month:
    return count // 12, count % 12 + 1


def _bad(found: str) -> EstimatorError:
    return EstimatorError(
        found,
        expected="12m (the last 12 full months), one month (2021-10), from and to (2020-10:2021-09), or popqa",
        try_next="--window 12m",
    )


API = "api"
OFFICIAL_PAGEVIEWS = "https://wikimedia.org/api/rest_v1"
OFFICIAL_WIKIDATA = "https://www.wikidata.org"
OFFICIAL_RATE = 50.0
"""Requests a second, a quarter of what Wikimedia tolerates from one client."""

ACCESS = ("all-access", "desktop", "mobile-web", "mobile-app")
AGENTS = ("user", "all-agents", "spider", "automated")
_POPQA = {"project": "en.wikipedia", "access": "all-access", "agent": "all-agents"}


@dataclass(frozen=True)
class PageviewSettings(Settings):
    """What `pageviews` counts and whom it asks; None where the default depends on something else."""

    views_from: str = option(API, "For pageviews: api, a TABLE.parquet of curate views build, or column:NAME.")
    window: str = option(
        DEFAULT_WINDOW, "For pageviews: 12m (the last 12 full months), 2021-10, 2020-10:2021-09, or popqa."
    )
    project: str | None = option(None, "For pageviews: the wiki.", shown_default="en.wikipedia")
    access: str | None = option(
        None, "For pageviews: all-access, desktop, mobile-web, mobile-app.", shown_default="all-access"
    )
    agent: str | None = option(None, "For pageviews: user, all-agents, spider, automated.", shown_default="user")
    contact: str | None = option(None, "For pageviews: your e-mail address or page, which Wikimedia asks clients for.")
    pageviews_url: str | None = option(None, "For pageviews: another server with /metrics/pageviews/….")
    mediawiki_url: str | None = option(
        None, "For pageviews: another server with /w/api.php. With a table: resolve titles there first."
    )
    title_column: str | None = option(None, "For pageviews: the column that holds the article's title.")
    qid_column: str | None = option(None, "For pageviews: the column that holds the Wikidata item.")
    subject_template: str | tuple[str, ...] = option(
        (), 'For pageviews: "Who wrote [X]?" finds the subject in the question; or a file with one a line.'
    )
    rate: float | None = option(
        None,
        "For pageviews: requests a second; 0: no limit.",
        shown_default="50 at Wikimedia, else no limit",
    )
    refresh: bool = option(False, "For pageviews: ask again for what is in the cache.")
    offline: bool = option(False, "For pageviews: use the cache only.")

    def resolved(self) -> ResolvedOptions:
        """Every default filled in; EstimatorError for what cannot be, or for a server that wants a contact."""
        definition = _definition(self)
        check_choice("access", definition["access"], ACCESS)
        check_choice("agent", definition["agent"], AGENTS)
        pageviews_url = http_base("--pageviews-url", self.pageviews_url or OFFICIAL_PAGEVIEWS)
        own_wiki = http_base("--mediawiki-url", self.mediawiki_url) if self.mediawiki_url else None
        official = pageviews_url == OFFICIAL_PAGEVIEWS or own_wiki is None
        if self.rate is not None and self.rate < 0:
            raise EstimatorError(f"--rate {self.rate} is below zero.", expected="requests a second, or 0 for no limit")
        return ResolvedOptions(
            given=self,
            project=definition["project"].removesuffix(".org"),
            access=definition["access"],
            agent=definition["agent"],
            redirects=self.window != POPQA,
            pageviews_url=pageviews_url,
            mediawiki_url=own_wiki or f"https://{definition['project'].removesuffix('.org')}.org",
            wikidata_url=own_wiki or OFFICIAL_WIKIDATA,
            official=official,
            rate=(OFFICIAL_RATE if official else None) if self.rate is None else self.rate or None,
        )


@dataclass(frozen=True)
class ResolvedOptions:
    """Options with nothing left open; `official` if any request would go to Wikimedia's own servers."""

    given: PageviewSettings
    project: str
    access: str
    agent: str
    redirects: bool
    pageviews_url: str
    mediawiki_url: str
    wikidata_url: str
    official: bool
    rate: float | None

    def check_contact(self) -> None:
        """EstimatorError if Wikimedia would be asked by somebody it cannot reach."""
        if self.official and not self.given.offline:
            check_contact(self.given.contact)

    def wiki(self, client: PoliteClient) -> MediaWiki:
        """The wiki that resolves titles."""
        from curate.wikipedia.client import MediaWiki

        return MediaWiki(client, self.mediawiki_url, self.wikidata_url, self.project, self.redirects)

    def article_views(self, client: PoliteClient) -> ArticleViews:
        """The API that counts views."""
        from curate.wikipedia.client import ArticleViews

        return ArticleViews(client, self.pageviews_url, self.project, self.access, self.agent)

    def user_agent(self) -> str:
        """Who asks: curate, its version, and the operator."""
        return user_agent(self.given.contact)


def check_contact(contact: str | None) -> None:
    """EstimatorError unless there is somebody to write to."""
    if not (contact or "").strip():
        raise EstimatorError(
            "Wikimedia's servers want to know whom to write to when a client misbehaves; no contact was given.",
            expected=f"{setting('contact')} with an e-mail address or a web page of yours; it goes into the User-Agent",
            try_next=f"{setting('contact', 'you@example.org')}; or {setting('views_from', 'TABLE.parquet')}, "
            "which asks nobody",
        )


def user_agent(contact: str | None) -> str:
    """Who asks: curate, its version, and the operator."""
    from curate import __version__

    words = " ".join((contact or "").split())
    return f"curate/{__version__} ({words})" if words else f"curate/{__version__}"


def http_base(option: str, url: str) -> str:
    """The URL without a slash at its end; EstimatorError if it is none."""
    if not url.startswith(("http://", "https://")):
        raise EstimatorError(f"{option} {url!r} is not a URL.", expected="http://… or https://…")
    return url.rstrip("/")


def _definition(options: PageviewSettings) -> dict[str, Any]:
    """Project, access and agent; the window `popqa` settles all three and contradicts anything else."""
    given = {"project": options.project, "access": options.access, "agent": options.agent}
    if options.window != POPQA:
        defaults = {"project": "en.wikipedia", "access": "all-access", "agent": "user"}
        return {name: value or defaults[name] for name, value in given.items()}
    for name, value in given.items():
        if value is not None and value.removesuffix(".org") != _POPQA[name]:
            raise EstimatorError(
                f"--window popqa means --{name} {_POPQA[name]}, and --{name} {value} was given.",
                expected="the definition of the paper, or one of your own",
                try_next=f"--window 2021-10 --{name} {value}",
            )
    return dict(_POPQA)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """EstimatorError unless `value` is one of those allowed for the option `--name`."""
    if value not in allowed:
        raise EstimatorError(f"There is no --{name} {value!r}.", expected=f"one of {', '.join(allowed)}")
