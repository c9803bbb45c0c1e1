"""A polite HTTP client, and what it asks: MediaWiki's API and the page-view API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from email.utils import parsedate_to_datetime
from random import random
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from curate.errors import PageViewsError
from curate.records import OK
from curate.wikipedia.cache import Page
from curate.wikipedia.options import Window
from curate.wikipedia.titles import encode, site_id

if TYPE_CHECKING:
    import httpx

LONGEST_WAIT = 600.0
"""Seconds: a server that asks for more patience than this ends the run; what it answered is kept."""


HOPELESS = 20
"""Requests in a row that were given up, after which the run ends: more of them would not go better."""


class GaveUpError(Exception):
    """One request that kept failing; the rest of the run goes on."""


class StoppedError(Exception):
    """The run was interrupted; whoever waits stops waiting."""


@dataclass(frozen=True)
class Patience:
    """How often to try, and how long to wait in between: up to `base` x 2^n seconds, never above `longest`."""

    attempts: int = 12
    base: float = 0.2
    longest: float = 30.0
    unreachable: int = 4
    """Attempts at a server that has never answered."""

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures; `chance` in [0, 1) spreads clients out."""
        return min(self.longest, self.base * 2.0**failures) * chance


@dataclass(frozen=True)
class _Retry:
    """Why an attempt has to be repeated, and after how many seconds if the server said."""

    reason: str
    after: float | None = None
    for_everyone: bool = False
    unreachable: bool = False


class Pace:
    """Lets at most `rate` requests a second begin, over all threads; None is no limit."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = float("-inf")

    def wait(self) -> None:
        """Return when the next request may begin."""
        while True:
            with self._lock:
                now = self._clock()
                delay = self._next - now
                if delay <= 0:
                    # A slot missed by less than one interval is made up for, or the rate would never be reached.
                    self._next = max(self._next, now - self._interval) + self._interval
                    return
            if self._sleep(delay):  # an event that was set, instead of a sleep that ended
                return

    def pause(self, seconds: float) -> None:
        """Let no request begin for so many seconds."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


class PoliteClient:
    """Gets JSON over `http`, however often the server stumbles; safe to use from several threads.

    Retried with growing, random delays: 429 and 5xx, time-outs, dropped connections, broken JSON. Retry-After is
    obeyed, and after a 429 by every thread. `sleep` waits so many seconds; `random` gives a number in [0, 1);
    `stopped`, once set, ends every wait.
    """

    def __init__(
        self,
        http: httpx.Client,
        pace: Pace,
        patience: Patience | None = None,
        sleep: Callable[[float], Any] | None = None,
        random: Callable[[], float] = random,
        stopped: threading.Event | None = None,
    ) -> None:
        self._http, self._pace, self._patience, self._random = http, pace, patience or Patience(), random
        self._stopped = stopped or threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._answered = False
        self._given_up = 0
        self.requests = 0
        self.retries = 0

    def stop(self) -> None:
        """Make every thread that waits or would ask again raise StoppedError."""
        self._stopped.set()

    def get(
        self, url: str, params: Mapping[str, str] | None = None, trouble: Callable[[Any], str | None] | None = None
    ) -> Any:
        """The JSON at `url`; None for 404. `trouble` gives a reason to ask again that lies in the answer itself.

        Raises GaveUpError when patience ends, and PageViewsError when no request can succeed.
        """
        failures = 0
        while True:
            self._pace.wait()
            if self._stopped.is_set():
                raise StoppedError
            outcome = self._attempt(url, params, trouble)
            if not isinstance(outcome, _Retry):
                self._given_up = 0
                return outcome
            failures += 1
            self._give_up_or_wait(outcome, failures, url)

    def _attempt(
        self, url: str, params: Mapping[str, str] | None, trouble: Callable[[Any], str | None] | None
    ) -> Any | _Retry:
        import httpx

        self.requests += 1
        try:
            response = self._http.get(url, params=params)
        except httpx.TransportError as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return _Retry(reason, unreachable=isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)))
        except httpx.DecodingError as error:
            return _Retry(f"a broken answer ({error})")
        status = response.status_code
        after = retry_after(response.headers.get("Retry-After"), datetime.now(timezone.utc))
        self._answered = True
        if status == 404:
            return None
        if status == 429 or status >= 500:
            return _Retry(f"HTTP {status}", after, for_everyone=status == 429)
        _check_allowed(response)
        if status != 200:
            raise GaveUpError(f"HTTP {status}")
        try:
            answer = response.json()
        except ValueError:
            return _Retry("an answer that is not JSON")
        found = trouble(answer) if trouble else None
        return answer if found is None else _Retry(found, after)

    def _give_up_or_wait(self, retry: _Retry, failures: int, url: str) -> None:
        if retry.unreachable and not self._answered and failures >= self._patience.unreachable:
            raise PageViewsError(
                f"{_base(url)} does not answer ({retry.reason}).",
                expected="a server that can be reached from here",
                try_next="check the network, --pageviews-url and --mediawiki-url; --offline uses kept answers only",
            )
        if retry.after is not None and retry.after > LONGEST_WAIT:
            raise PageViewsError(
                f"{_base(url)} asks to wait {retry.after:.0f} seconds ({retry.reason}).",
                expected=f"to wait {LONGEST_WAIT:.0f} seconds at most",
                try_next="the same command again after that time; answers so far are kept",
            )
        if failures >= self._patience.attempts:
            self._give_up(retry, url)
        self.retries += 1
        if retry.after is not None and retry.for_everyone:
            self._pace.pause(retry.after)
        elif retry.after is not None:
            self._sleep(retry.after)
        self._sleep(self._patience.delay(failures - 1, self._random()))

    def _give_up(self, retry: _Retry, url: str) -> NoReturn:
        self._given_up += 1
        if self._given_up >= HOPELESS:
            raise PageViewsError(
                f"{_base(url)} fails every request ({retry.reason}; {HOPELESS} in a row were given up).",
                expected="a server that answers now and then",
                try_next="the same command again later; answers so far are kept",
            )
        raise GaveUpError(f"{retry.reason}, {self._patience.attempts} times")


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds to wait according to a Retry-After header (seconds or a date); None if it says nothing usable."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
    return max(0.0, (until - now).total_seconds())


def _check_allowed(response: httpx.Response) -> None:
    if response.status_code in (401, 403):
        raise PageViewsError(
            f"{_base(str(response.url))} refuses to answer (HTTP {response.status_code}).",
            expected="a User-Agent with an address at which the operator can be reached",
            try_next="--contact you@example.org; and fewer requests a second with --rate",
        )


def _base(url: str) -> str:
    return "/".join(url.split("/")[:3])


BATCH = 50
LONGEST_QUERY = 6000
"""Bytes of encoded titles in one request: servers refuse much longer URLs."""

AMBIGUOUS = "ambiguous"
NO_ARTICLE = "no_article"

# Trouble that passes, reported inside an answer with HTTP status 200.
_PASSING = ("maxlag", "ratelimited", "readonly", "internal_api_error")


@dataclass(frozen=True)
class MediaWiki:
    """Asks a wiki what titles lead to, and Wikidata which title an item has there.

    `base` and `wikidata` are what `/w/api.php` hangs from. Without `redirects` a redirect page stands for itself.
    """

    client: PoliteClient
    base: str
    wikidata: str
    project: str
    redirects: bool = True

    def resolve(self, titles: Sequence[str]) -> dict[str, Page]:
        """What each title leads to, those left out that the answer does not mention; at most one batch of titles."""
        params = {"action": "query", "prop": "pageprops", "ppprop": "disambiguation", "titles": "|".join(titles)}
        if self.redirects:
            params["redirects"] = "1"
        return parse_query(titles, list(self._ask(self.base, params)))

    def sitelinks(self, items: Sequence[str]) -> dict[str, str | None]:
        """The title each item has in the project, None where it has none; at most one batch of items."""
        site = site_id(self.project)
        params = {"action": "wbgetentities", "props": "sitelinks", "sitefilter": site, "ids": "|".join(items)}
        try:
            return parse_entities(items, list(self._ask(self.wikidata, params)), site)
        except _ApiError:
            if len(items) == 1:
                return {items[0]: None}
            middle = len(items) // 2  # one impossible item (Q99999999999) makes the whole batch an error
            return self.sitelinks(items[:middle]) | self.sitelinks(items[middle:])

    def created(self, title: str) -> date | None:
        """The day an article was first written; None if the wiki does not say."""
        params = {"action": "query", "prop": "revisions", "rvprop": "timestamp", "rvdir": "newer", "rvlimit": "1"}
        return parse_created(list(self._ask(self.base, params | {"titles": title}, follow=False)))

    def _ask(self, base: str, params: Mapping[str, str], follow: bool = True) -> Iterator[Any]:
        fixed = {"format": "json", "formatversion": "2", "maxlag": "5", **params}
        more: Mapping[str, str] | None = {}
        while more is not None:
            answer = self.client.get(f"{base}/w/api.php", {**fixed, **more}, trouble_in)
            if answer is None:
                raise PageViewsError(
                    f"There is no MediaWiki at {base} (no /w/api.php).",
                    expected="a base that /w/api.php hangs from, such as https://en.wikipedia.org",
                    try_next="--mediawiki-url URL, or another --project",
                )
            if "error" in answer:
                raise _ApiError(str(answer["error"]))
            yield answer
            more = answer.get("continue") if follow else None


class _ApiError(GaveUpError):
    """The API understood the request and refused it."""


def batches(titles: Iterable[str]) -> Iterator[list[str]]:
    """The titles in groups that fit one request each."""
    batch: list[str] = []
    size = 0
    for title in titles:
        cost = len(quote(title)) + 3
        if batch and (len(batch) == BATCH or size + cost > LONGEST_QUERY):
            yield batch
            batch, size = [], 0
        batch.append(title)
        size += cost
    if batch:
        yield batch


def trouble_in(answer: Any) -> str | None:
    """Why an answer of the API should be asked for again; None for one that can be used."""
    if not isinstance(answer, dict):
        return "an answer that is not an object"
    error = answer.get("error")
    code = str(error.get("code", "error")) if isinstance(error, dict) else None
    return code if code is not None and code.startswith(_PASSING) else None


def parse_query(titles: Sequence[str], answers: Sequence[Any]) -> dict[str, Page]:
    """What each title leads to, by the `query` of one or more answers (of format version 1 or 2).

    A title is followed through normalisation, conversion and every redirect of a chain. A title that the answers
    do not mention is left out.
    """
    steps: dict[str, str] = {}
    pages: dict[str, Mapping[str, Any]] = {}
    for answer in answers:
        query = answer.get("query", {})
        for kind in ("normalized", "converted", "redirects"):
            steps |= {step["from"]: step["to"] for step in query.get(kind, [])}
        found = query.get("pages", [])
        for page in found.values() if isinstance(found, dict) else found:
            pages[page["title"]] = {**pages.get(page["title"], {}), **page}
        pages |= {elsewhere["title"]: {"missing": True} for elsewhere in query.get("interwiki", [])}
    ends = {title: _follow(title, steps) for title in titles}
    return {
        title: Page(NO_ARTICLE) if end is None else _page(pages[end])
        for title, end in ends.items()
        if end is None or end in pages
    }


def parse_entities(items: Sequence[str], answers: Sequence[Any], site: str) -> dict[str, str | None]:
    """The title of each item in a site, None where it has none, is deleted or was never there."""
    entities: dict[str, Any] = {}
    for answer in answers:
        for key, entity in answer.get("entities", {}).items():
            entities[key] = entity
            entities[entity.get("redirects", {}).get("from", key)] = entity  # an item merged into another
    links = {item: entities.get(item, {}).get("sitelinks") or {} for item in items}
    return {item: link[site]["title"] if site in link else None for item, link in links.items()}


def parse_created(answers: Sequence[Any]) -> date | None:
    """The day of the first revision that an answer gives."""
    for answer in answers:
        found = answer.get("query", {}).get("pages", [])
        for page in found.values() if isinstance(found, dict) else found:
            for revision in page.get("revisions", []):
                return date.fromisoformat(revision["timestamp"][:10])
    return None


def _follow(title: str, steps: Mapping[str, str]) -> str | None:
    """Where a title leads; None if its redirects lead back to where they began."""
    seen = {title}
    while title in steps:
        title = steps[title]
        if title in seen:
            return None
        seen.add(title)
    return title


def _page(page: Mapping[str, Any]) -> Page:
    if _says(page, "missing") or _says(page, "invalid") or _says(page, "special"):
        return Page(NO_ARTICLE)
    ambiguous = "disambiguation" in page.get("pageprops", {})
    return Page(AMBIGUOUS if ambiguous else OK, page["title"])


def _says(page: Mapping[str, Any], flag: str) -> bool:
    """Format version 1 says `"missing": ""`, version 2 `"missing": true`."""
    return page.get(flag, False) is not False


@dataclass(frozen=True)
class ArticleViews:
    """Asks how often articles of a project were viewed; `base` is what `/metrics/pageviews/…` hangs from."""

    client: PoliteClient
    base: str
    project: str
    access: str
    agent: str

    def ask(self, title: str, window: Window) -> int | None:
        """The article's views over the window (their sum); None when there is no data (404).

        Raises GaveUpError when the server does not come up with an answer that can be read.
        """
        answer = self.client.get(self.url(title, window))
        return None if answer is None else total_views(answer, window)

    def url(self, title: str, window: Window) -> str:
        """Where the monthly views of an article stand."""
        path = (self.project, self.access, self.agent, encode(title), "monthly", window.start, window.end)
        return f"{self.base}/metrics/pageviews/per-article/{'/'.join(path)}"


def total_views(answer: Any, window: Window) -> int:
    """The sum of the months of an answer that lie in the window; a month it leaves out had no views.

    Raises GaveUpError when it is not an answer of this API.
    """
    try:
        return sum(int(item["views"] or 0) for item in answer["items"] if window.holds(item["timestamp"]))
    except (KeyError, TypeError, ValueError) as error:
        raise GaveUpError("an answer without a list of views") from error
