"""A polite HTTP client that trusts no answer, and what it asks of Wikimedia's servers: titles, items, views."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from random import random
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from curate import __version__
from curate.errors import PageViewsError, setting
from curate.records import OK
from curate.wikipedia.options import ResolvedSettings, Window
from curate.wikipedia.pages import (
    AMBIGUOUS,
    LONGEST_TITLE,
    MOST_SITELINKS,
    MOST_VIEWS,
    NO_ARTICLE,
    NO_ITEM,
    A,
    Item,
    Page,
    encode,
    qid,
    site_id,
)

if TYPE_CHECKING:
    import httpx

TIMEOUT = 30.0
"""Seconds without a byte after which a request is given up and tried again."""

DEADLINE = 120.0
"""Seconds that one answer may take in all, however steadily it comes."""

MOST_BYTES = 16 << 20
"""Of an answer, unpacked: several times what fifty titles or a thousand months take."""

LONGEST_WAIT = 600.0
"""Seconds: a server that asks for more patience than this ends the run; what it answered is kept."""

HOPELESS = 20
"""Requests in a row that were given up, after which the run ends: more of them would not go better."""

T = TypeVar("T")


class GaveUpError(Exception):
    """One request that kept failing, or whose answer cannot be used; the rest of the run goes on."""


class StoppedError(Exception):
    """The run was interrupted; whoever waits stops waiting."""


@dataclass(eq=False)
class TroubleError(Exception):
    """An attempt that failed, and may go better the next time.

    `after`: the seconds that the server asks to wait, `for_everyone` if no other request may begin before either.
    `unreachable`: there was no connection at all. `moved`: it brought a download further, so that no patience is lost.
    """

    reason: str
    after: float = 0.0
    for_everyone: bool = False
    unreachable: bool = False
    moved: bool = False


@dataclass(frozen=True)
class Retry:
    """How often to try, and how long to wait in between: up to `base` x 2^n seconds, never above `longest`."""

    attempts: int = 12
    base: float = 0.2
    longest: float = 30.0
    unreachable: int = 4
    """Attempts at a server that has never answered."""

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures; `chance` in [0, 1) spreads clients out."""
        return min(self.longest, self.base * 2.0**failures) * chance


class RateLimiter:
    """Lets at most `rate` requests a second begin, over all threads; None is no limit. All waits end with `stop`.

    `clock` gives seconds; `sleep` waits so many of them.
    """

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._clock = clock
        self._stopped = threading.Event()
        self.sleep = sleep or self._stopped.wait
        self._lock = threading.Lock()
        self._next = float("-inf")

    def wait(self) -> None:
        """Return when the next request may begin; StoppedError when none may any more."""
        while not self._stopped.is_set():
            with self._lock:
                now = self._clock()
                delay = self._next - now
                if delay <= 0:
                    # A slot missed by less than one interval is made up for, or the rate would never be reached.
                    self._next = max(self._next, now - self._interval) + self._interval
                    return
            self.sleep(delay)
        raise StoppedError

    def pause(self, seconds: float) -> None:
        """Let no request begin for so many seconds."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def stop(self) -> None:
        """End every wait, and let no request begin."""
        self._stopped.set()


class PoliteClient:
    """Asks servers in the name of `contact`, however often they stumble; safe to use from several threads.

    Tried again after growing, random delays: 429 and 5xx, time-outs, dropped connections, broken answers. Retry-After
    is obeyed, and after a 429 by every thread. `timeout`: seconds without a byte; `deadline`: seconds for an answer.
    `random` gives a number in [0, 1).
    """

    def __init__(
        self,
        contact: str | None,
        limiter: RateLimiter,
        retry: Retry | None = None,
        timeout: float = TIMEOUT,
        deadline: float = DEADLINE,
        random: Callable[[], float] = random,
    ) -> None:
        import httpx

        operator = " ".join((contact or "").split())
        agent = f"curate/{__version__}" + (f" ({operator})" if operator else "")
        self._connect = partial(
            httpx.Client,
            # Of all ways to pack, gzip grows a thousandfold at most; the others grow without bounds.
            headers={b"User-Agent": agent.encode(), b"Accept-Encoding": b"gzip"},
            verify=httpx.create_ssl_context(),
            timeout=timeout,
            follow_redirects=True,
            max_redirects=5,
            event_hooks={"response": [_check_redirect]},
        )
        self._idle: list[httpx.Client] = []
        self.limiter = limiter
        self._retry, self._deadline, self._random = retry or Retry(), deadline, random
        self._answered = False
        self._given_up = 0
        self.requests = 0
        self.retries = 0

    def get(self, url: str, params: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """The JSON object at `url`; None for 404.

        Raises GaveUpError when patience ends, and PageViewsError when no request can succeed.
        """
        return self.retried(url, partial(self._object, url, params))

    def retried(self, url: str, attempt: Callable[[], T]) -> T:
        """What `attempt`, which asks for `url`, returns in the end; it is begun anew after each TroubleError.

        Raises GaveUpError when patience ends, and PageViewsError when no request can succeed.
        """
        failures = 0
        while True:
            self.limiter.wait()
            try:
                found = attempt()
            except TroubleError as trouble:
                failures = 0 if trouble.moved else failures + 1
                self._give_up_or_wait(trouble, failures, url)
            else:
                self._given_up = 0
                return found

    @contextmanager
    def stream(
        self,
        url: str,
        deadline: float,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """One request, its answer open to be read; TroubleError when the connection fails, or the deadline passes."""
        import httpx

        self.requests += 1
        try:
            http = self._idle.pop()
        except IndexError:
            http = self._connect()
        # A request has its connection to itself, so that closing it ends a read that a trickle keeps alive.
        watch = threading.Timer(deadline, http.close)
        watch.daemon = True
        watch.start()
        try:
            with http.stream("GET", url, params=params, headers=headers) as response:
                self._answered = True
                yield response
        except (httpx.TooManyRedirects, httpx.InvalidURL) as error:
            raise GaveUpError(f"a redirect that leads nowhere ({error})") from error
        except httpx.RequestError as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if http.is_closed:
                reason = f"no whole answer in {deadline:g} seconds"
            unreachable = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            raise TroubleError(reason, unreachable=unreachable) from error
        finally:
            watch.cancel()
            watch.join()  # no thread of ours is left when Python ends
            if not http.is_closed:
                self._idle.append(http)

    def body(self, url: str, params: Mapping[str, str] | None = None) -> tuple[httpx.Response, bytes]:
        """An answer and its body, which is small and comes in time, or the answer cannot be used."""
        content = bytearray()
        with self.stream(url, self._deadline, params) as response:
            if response.headers.get("Content-Encoding", "gzip") not in ("gzip", "identity"):
                raise GaveUpError("an answer packed in a way that nobody asked for")
            for piece in response.iter_bytes():
                content += piece
                if len(content) > MOST_BYTES:
                    raise GaveUpError(f"an answer of more than {MOST_BYTES >> 20} MiB")
        check_busy(response)
        return response, bytes(content)

    def _object(self, url: str, params: Mapping[str, str] | None) -> dict[str, Any] | None:
        response, content = self.body(url, params)
        if response.status_code == 404:
            return None
        if response.status_code in (401, 403):
            raise PageViewsError(
                f"{_base(str(response.url))} refuses to answer (HTTP {response.status_code}).",
                expected="a User-Agent with an address at which the operator can be reached",
                try_next=f"{setting('contact', 'you@example.org')}; and fewer requests a second with {setting('rate')}",
            )
        if response.status_code != 200:
            raise GaveUpError(f"HTTP {response.status_code}")
        try:
            answer = json.loads(content)
        except RecursionError:
            raise GaveUpError("an answer of JSON nested too deep") from None
        except ValueError:
            raise TroubleError("an answer that is not JSON") from None
        if not isinstance(answer, dict):
            raise TroubleError("an answer that is not an object")
        if code := _passing_error(answer):
            raise _trouble(code, response)
        return answer

    def _give_up_or_wait(self, trouble: TroubleError, failures: int, url: str) -> None:
        if failures >= self._retry.attempts:
            self._given_up += 1
            if self._given_up < HOPELESS:
                raise GaveUpError(f"{trouble.reason}, {failures} times")
            raise PageViewsError(
                f"{_base(url)} fails every request ({trouble.reason}; {HOPELESS} in a row were given up).",
                expected="a server that answers now and then",
                try_next="the same command again later; answers so far are kept",
            )
        if trouble.unreachable and not self._answered and failures >= self._retry.unreachable:
            raise PageViewsError(
                f"{_base(url)} does not answer ({trouble.reason}).",
                expected="a server that can be reached from here",
                try_next=f"check the network, {setting('pageviews_url')} and {setting('mediawiki_url')}; "
                f"{setting('offline')} uses kept answers only",
            )
        if trouble.after > LONGEST_WAIT:
            raise PageViewsError(
                f"{_base(url)} asks to wait {trouble.after:.0f} seconds ({trouble.reason}).",
                expected=f"to wait {LONGEST_WAIT:.0f} seconds at most",
                try_next="the same command again after that time; answers so far are kept",
            )
        self.retries += 1
        if trouble.for_everyone:
            self.limiter.pause(trouble.after)
        own = 0.0 if trouble.for_everyone else trouble.after
        self.limiter.sleep(own + self._retry.delay(max(0, failures - 1), self._random()))


def _check_redirect(response: httpx.Response) -> None:
    """GaveUpError for a redirect to another host: whom to ask is for the user to say."""
    if response.has_redirect_location:
        target = response.url.join(response.headers["Location"])
        if target.host != response.url.host:
            raise GaveUpError(f"a redirect to another host, {target.host}")


def check_busy(response: httpx.Response) -> None:
    """TroubleError for a status that passes: 429, and those of a server in trouble."""
    if response.status_code == 429 or response.status_code >= 500:
        raise _trouble(f"HTTP {response.status_code}", response)


def _trouble(reason: str, response: httpx.Response) -> TroubleError:
    """Why to ask again, and not before the server says so; after a 429 that goes for every request."""
    after = retry_after(response.headers.get("Retry-After", ""), datetime.now(timezone.utc))
    return TroubleError(reason, after or 0.0, for_everyone=response.status_code == 429)


def retry_after(header: str, now: datetime) -> float | None:
    """Seconds to wait according to a Retry-After header (seconds or a date); None if it says nothing usable."""
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


def _base(url: str) -> str:
    return "/".join(url.split("/")[:3])


BATCH = 50
LONGEST_QUERY = 6000
"""Bytes of encoded titles in one request: servers refuse much longer URLs."""

MOST_PARTS = 100
"""Answers that continue one another; fifty titles take a handful at most."""


@dataclass(frozen=True)
class Wikimedia:
    """Asks a wiki what titles lead to, Wikidata which title an item has there, and the page-view API for views.

    All raise GaveUpError when the server does not come up with an answer that can be read.
    """

    client: PoliteClient
    settings: ResolvedSettings

    def resolve(self, titles: Sequence[str]) -> dict[str, Page]:
        """What each title leads to, those left out that the answer does not mention; at most one batch of titles."""
        params = {"action": "query", "prop": "pageprops", "ppprop": "disambiguation", "titles": "|".join(titles)}
        if self.settings.redirects:
            params["redirects"] = "1"
        with _as_expected("pages", self.settings.mediawiki_url):
            return parse_query(titles, list(self._answers(self.settings.mediawiki_url, params)))

    def sitelinks(self, items: Sequence[str]) -> dict[str, Page]:
        """The title that each Wikidata item has in the project; at most one batch of items."""
        site = site_id(self.settings.project)
        return self._entities("ids", items, partial(parse_entities, site=site), Page(NO_ARTICLE), {"sitefilter": site})

    def items(self, items: Sequence[str]) -> dict[str, Item]:
        """How many wikis each Wikidata item is linked to, those left out that the answer does not mention."""
        return self._entities("ids", items, parse_items, Item(NO_ITEM))

    def items_of_articles(self, titles: Sequence[str]) -> dict[str, Item]:
        """The same of the item of each article of the project, whose title is followed no further."""
        site = site_id(self.settings.project)
        return self._entities("titles", titles, partial(parse_items, site=site), Item(NO_ITEM), {"sites": site})

    def _entities(
        self,
        kind: str,
        names: Sequence[str],
        parse: Callable[[Sequence[str], Sequence[Any]], dict[str, A]],
        impossible: A,
        more: Mapping[str, str] | None = None,
    ) -> dict[str, A]:
        """What Wikidata knows of the sitelinks of items, named by `ids` or `titles`; at most one batch of them."""
        params = {"action": "wbgetentities", "props": "sitelinks", **(more or {}), kind: "|".join(names)}
        try:
            with _as_expected("items", self.settings.wikidata_url):
                return parse(names, list(self._answers(self.settings.wikidata_url, params)))
        except _ApiError:
            if len(names) == 1:
                return {names[0]: impossible}
            middle = len(names) // 2  # one impossible item (Q99999999999) makes the whole batch an error
            halves = (names[:middle], names[middle:])
            return {k: v for half in halves for k, v in self._entities(kind, half, parse, impossible, more).items()}

    def created(self, title: str) -> date | None:
        """The day an article was first written; None if the wiki does not say."""
        params = {"action": "query", "prop": "revisions", "rvprop": "timestamp", "rvdir": "newer", "rvlimit": "1"}
        with _as_expected("revisions", self.settings.mediawiki_url):
            return parse_created(next(self._answers(self.settings.mediawiki_url, params | {"titles": title})))

    def views(self, title: str, window: Window) -> int | None:
        """The article's views over the window (their sum); None when there is no data (404)."""
        asked = self.settings
        path = (asked.project, asked.access, asked.agent, encode(title), "monthly", window.start, window.end)
        answer = self.client.get(f"{asked.pageviews_url}/metrics/pageviews/per-article/{'/'.join(path)}")
        with _as_expected("views", asked.pageviews_url):
            return None if answer is None else total_views(answer, window)

    def _answers(self, base: str, params: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """An answer of MediaWiki's API, and those that continue it."""
        asked = {"format": "json", "formatversion": "2", "maxlag": "5", **params}
        for _ in range(MOST_PARTS):
            answer = self.client.get(f"{base}/w/api.php", asked)
            if answer is None:
                raise PageViewsError(
                    f"There is no MediaWiki at {base} (no /w/api.php).",
                    expected="a base that /w/api.php hangs from, such as https://en.wikipedia.org",
                    try_next=f"{setting('mediawiki_url', 'URL')} or {setting('wikidata_url', 'URL')}, "
                    f"or another {setting('project')}",
                )
            if "error" in answer:
                raise _ApiError(str(answer["error"]))
            yield answer
            if "continue" not in answer:
                return
            asked |= {name: str(value) for name, value in answer["continue"].items()}
        raise GaveUpError("an answer without an end")


class _ApiError(GaveUpError):
    """The API understood the request and refused it."""


@contextmanager
def _as_expected(what: str, url: str) -> Iterator[None]:
    """GaveUpError that names the server, also for an answer that has another shape, or values that cannot be."""
    try:
        yield
    except GaveUpError as error:
        raise type(error)(f"{error}, from {_base(url)}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GaveUpError(f"an answer without usable {what} ({error}), from {_base(url)}") from error


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


def _passing_error(answer: Mapping[str, Any]) -> str | None:
    """The code of trouble that passes, which MediaWiki reports inside an answer with HTTP status 200."""
    error = answer.get("error")
    code = str(error.get("code", "error")) if isinstance(error, dict) else ""
    return code if code.startswith(("maxlag", "ratelimited", "readonly", "internal_api_error")) else None


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
        for page in _pages(answer):
            pages[page["title"]] = {**pages.get(page["title"], {}), **page}
        pages |= {elsewhere["title"]: {"missing": True} for elsewhere in query.get("interwiki", [])}
    ends = {title: _follow(title, steps) for title in titles}
    return {
        title: Page(NO_ARTICLE) if end is None else _page(pages[end])
        for title, end in ends.items()
        if end is None or end in pages
    }


def parse_entities(items: Sequence[str], answers: Sequence[Any], site: str) -> dict[str, Page]:
    """The title of each item in a site; `no_article` where it has none, or is deleted.

    What the answers do not mention is left out.
    """
    entities: dict[str, Any] = {}
    for answer in answers:
        for key, entity in answer.get("entities", {}).items():
            entities[key] = entity
            entities[entity.get("redirects", {}).get("from", key)] = entity  # an item merged into another
    links = {item: entities[item].get("sitelinks") or {} for item in items if item in entities}
    return {
        item: Page(OK, _title(link[site]["title"])) if site in link else Page(NO_ARTICLE)
        for item, link in links.items()
    }


def parse_items(names: Sequence[str], answers: Sequence[Any], site: str | None = None) -> dict[str, Item]:
    """How many wikis each item is linked to; `no_item` for one that is not there, or not any more.

    The names are ids, or with `site` titles there. What the answers do not mention is left out.
    """
    found: dict[str, Item] = {}
    for answer in answers:
        for key, entity in answer.get("entities", {}).items():
            if "missing" in entity:
                found[entity["title"] if site else entity["id"]] = Item(NO_ITEM)
                continue
            links = dict(entity.get("sitelinks") or {})  # an empty one is a list in PHP
            if qid(entity["id"]) != entity["id"] or len(links) > MOST_SITELINKS:
                raise ValueError(f"{str(entity['id'])[:30]!r} with {len(links)} sitelinks")
            item = Item(OK, entity["id"], len(links))
            if site:
                found[links[site]["title"]] = item
            else:  # one merged into another is asked for by its old name
                found |= {key: item, item.item or "": item, entity.get("redirects", {}).get("from", key): item}
    return {name: found[name] for name in names if name in found}


def parse_created(answer: Any) -> date | None:
    """The day of the first revision that an answer gives; ValueError for an answer about no page at all."""
    pages = [*_pages(answer)]
    if not pages:
        raise ValueError("no page")
    for page in pages:
        for revision in page.get("revisions", []):
            return date.fromisoformat(revision["timestamp"][:10])
    return None


def _pages(answer: Any) -> Iterable[Mapping[str, Any]]:
    """The pages of an answer: format version 1 has them by number, version 2 as a list."""
    pages = answer.get("query", {}).get("pages", [])
    return pages.values() if isinstance(pages, dict) else pages


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
    # Format version 1 says `"missing": ""`, version 2 `"missing": true`.
    if any(page.get(flag, False) is not False for flag in ("missing", "invalid", "special")):
        return Page(NO_ARTICLE)
    ambiguous = "disambiguation" in page.get("pageprops", {})
    return Page(AMBIGUOUS if ambiguous else OK, _title(page["title"]))


def _title(title: Any) -> str:
    """A title that a wiki can have; TypeError or ValueError for anything else."""
    if not 0 < len(title.encode()) <= LONGEST_TITLE:
        raise ValueError(f"a title of {len(title)} characters")
    return str(title)


def total_views(answer: Any, window: Window) -> int:
    """The sum of the months of an answer that lie in the window; a month it leaves out had no views."""
    months = [item["views"] or 0 for item in answer["items"] if window.holds(item["timestamp"])]
    for views in months:
        if type(views) is not int or not 0 <= views <= MOST_VIEWS:
            raise ValueError(f"a month of {str(views)[:30]} views")
    return sum(months)
