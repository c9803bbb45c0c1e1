"""Asking a server politely: at a bounded rate, waiting when it says so, trying again when it stumbles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from random import random
from typing import TYPE_CHECKING, Any, NoReturn

from curate.errors import PageViewsError

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
