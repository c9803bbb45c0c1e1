"""How often, how fast and after what wait a server is asked, and what its answers say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import PageViewsError
from curate.wikipedia.client import (
    GaveUpError,
    PoliteClient,
    RateLimiter,
    Retry,
    parse_entities,
    parse_query,
    retry_after,
    total_views,
)
from curate.wikipedia.options import parse_window
from curate.wikipedia.pages import Page
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
        None,
        RateLimiter(rate, time.clock, time.sleep),
        Retry(**patience),  # type: ignore[arg-type]
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


@pytest.mark.parametrize("met", ["500", "dropped", "loop"])
def test_no_thread_of_a_request_outlives_it(serve: Serve, world: World, met: str) -> None:
    server = serve(world)
    client = client_at(Time(), attempts=2, base=0)
    world.failing, world.stumbles = 1.0, [met]
    with pytest.raises(GaveUpError):
        client.get(server.url + PATH)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


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


# Recorded real answers of the APIs parse as they are.


@pytest.fixture
def recorded(shared: Path) -> Path:
    return shared / "data" / "wikimedia_api"


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("asked", "page"),
    [
        ("purpleberry", Page("no_article")),
        ("Menlo Park, New Jersey", Page("ok", "Edison, New Jersey")),
        ("communist Party", Page("ok", "Communist party")),
        ("Dodge Ram (disambiguation)", Page("ambiguous", "Dodge Ram (disambiguation)")),
        ("butterfly", Page("ok", "Butterfly")),
        ("Celtuce", Page("ok", "Celtuce")),
    ],
)
def test_answers_of_format_version_1(recorded: Path, asked: str, page: Page) -> None:
    exchanges = load(recorded / "goldsmith_wikipedia_mock_requests.json")
    answers = [e["response"] for e in exchanges if e["params"].get("titles") == asked and "ppprop" in e["params"]]
    assert parse_query([asked], answers) == {asked: page}


def test_answers_of_format_version_2(recorded: Path) -> None:
    redirect = load(recorded / "wptools_redirect.json")["response"]
    assert parse_query(["Adams, Douglas"], [redirect]) == {"Adams, Douglas": Page("ok", "Douglas Adams")}
    ambiguous = load(recorded / "wptools_disambiguation.json")["response"]
    title = "Douglas Adams (disambiguation)"
    assert parse_query([title], [ambiguous]) == {title: Page("ambiguous", title)}


def test_sitelinks_of_an_item_and_of_one_that_was_deleted(recorded: Path) -> None:
    item = load(recorded / "wptools_wikidata.json")["response"]
    assert parse_entities(["Q42"], [item], "enwiki") == {"Q42": Page("ok", "Douglas Adams")}
    assert parse_entities(["Q42"], [item], "nowhere") == {"Q42": Page("no_article")}
    deleted = load(recorded / "wptools_wikidata_deleted.json")["response"]
    assert parse_entities(["Q10908976"], [deleted], "enwiki") == {"Q10908976": Page("no_article")}


def test_an_item_that_was_merged_into_another_is_found_under_its_old_name() -> None:
    merged = {
        "id": "Q42",
        "redirects": {"from": "Q9", "to": "Q42"},
        "sitelinks": {"enwiki": {"title": "Douglas Adams"}},
    }
    assert parse_entities(["Q9"], [{"entities": {"Q42": merged}}], "enwiki") == {"Q9": Page("ok", "Douglas Adams")}


def test_views_of_an_article(shared: Path) -> None:
    answer = load(shared / "data" / "pageviews" / "raw_per_article_monthly_Dan_Castellaneta.json")
    today = date(2026, 11, 23)
    assert total_views(answer, parse_window("2020-02", today)) == 44_984
    assert total_views(answer, parse_window("2020-01:2020-12", today)) == 468_291
    assert total_views(answer, parse_window("2021-10", today)) == 0
