"""How often, how fast and after what wait a server is asked. Time stands still unless somebody sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import PageViewsError
from curate.wikipedia.client import GaveUpError, PoliteClient, RateLimiter, Retry, retry_after
from tests.wikimedia_server import WikimediaServer, World

Serve = Callable[..., WikimediaServer]
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=timezone.utc)
PATH = "/metrics/pageviews/per-article/en.wikipedia/all-access/user/AC%2FDC/monthly/2021100100/2021103100"


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
            self.now += seconds


def client_at(time: Time, rate: float | None = None, **patience: float) -> PoliteClient:
    return PoliteClient(
        httpx.Client(),
        RateLimiter(rate, time.clock, time.sleep),
        Retry(**patience),  # type: ignore[arg-type]
        sleep=time.sleep,
        random=lambda: 1.0,
    )


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("-3", 0.0),
        ("1.5", 1.5),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text(max_size=30))
def test_no_retry_after_header_is_an_error(header: str) -> None:
    seconds = retry_after(header, NOW)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_delays_grow_to_a_limit(failures: int, chance: float) -> None:
    retry = Retry(base=0.2, longest=30)
    assert 0 <= retry.delay(failures, chance) <= min(30, 0.2 * 2**failures)


def test_delays_without_retry_after_double(serve: Serve, world: World) -> None:
    world.failing, world.stumbles = 1.0, ["500"]
    time = Time()
    with pytest.raises(GaveUpError, match="HTTP 500, 5 times"):
        client_at(time, attempts=5, base=1).get(serve(world).url + PATH)
    assert time.sleeps == [1, 2, 4, 8]


def test_a_429_makes_every_request_wait_as_long_as_the_server_says(serve: Serve, world: World) -> None:
    server = serve(world)
    time = Time()
    client = client_at(time, attempts=2, base=0)
    world.failing, world.stumbles, world.retry_after = 1.0, ["429"], "40"
    with pytest.raises(GaveUpError):
        client.get(server.url + PATH)
    world.failing = 0.0
    client.get(server.url + PATH)
    assert [seconds for seconds in time.sleeps if seconds] == [40.0]


def test_a_503_makes_its_own_request_wait(serve: Serve, world: World) -> None:
    world.failing, world.stumbles, world.retry_after = 1.0, ["503"], "9"
    time = Time()
    with pytest.raises(GaveUpError):
        client_at(time, attempts=3, base=0).get(serve(world).url + PATH)
    assert [seconds for seconds in time.sleeps if seconds] == [9.0, 9.0]


def test_a_server_that_wants_an_hour_of_patience_ends_the_run(serve: Serve, world: World) -> None:
    world.failing, world.stumbles, world.retry_after = 1.0, ["429"], "3600"
    with pytest.raises(PageViewsError, match="asks to wait 3600 seconds"):
        client_at(Time()).get(serve(world).url + PATH)


def test_requests_begin_no_faster_than_the_rate() -> None:
    time = Time()
    limiter = RateLimiter(10, time.clock, time.sleep)
    began = []
    for _ in range(30):
        limiter.wait()
        began.append(time.now)
    assert began[-1] - began[0] == pytest.approx(2.9, abs=0.11)


def test_a_refusal_ends_the_run_with_advice(serve: Serve, world: World) -> None:
    world.failing, world.stumbles = 1.0, ["403"]
    with pytest.raises(PageViewsError, match=r"refuses to answer(.|\n)*contact='you@example.org'"):
        client_at(Time()).get(serve(world).url + PATH)
