"""From subjects to views, over real sockets, whatever the servers do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from curate.errors import PageViewsError
from tests.wikimedia_server import STUMBLES, Article, WikimediaServer, World
from tests.wikipedia.lookups import answers, open_views

FULL = bool(os.environ.get("CURATE_FULL_TESTS"))

Serve = Callable[..., WikimediaServer]


def test_every_kind_of_subject_has_its_own_status(serve: Serve, world: World, tmp_path: Path) -> None:
    expected = {
        "George Rankin": ("ok", 142.0),
        "george_Rankin": ("ok", 142.0),
        "R. Scott": ("ok", 100_000.0),
        "AC/DC": ("ok", 300_000.0),
        "mercury": ("ambiguous", None),
        "Unread": ("zero_views", 0.0),
        "Newly written": ("no_article", None),
        "Nobody At All": ("no_article", None),
        "C#": ("no_article", None),
        "Round": ("no_article", None),
        "Q42": ("ok", 100_000.0),
        "Q43": ("no_article", None),
        "Q44": ("ok", 100_000.0),
        "Q45": ("no_article", None),
        "Q999999999999": ("no_article", None),
    }
    assert answers(open_views(serve(world), tmp_path / "c"), *expected) == expected


def test_each_title_is_asked_for_once_however_it_is_written(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    views = open_views(server, tmp_path / "c")
    answers(views, "Ridley Scott", "ridley_Scott", "R. Scott", "Sir Ridley", "Q42")
    answers(views, "Ridley Scott", "Q44", "AC/DC")
    assert server.asked() == {"Ridley Scott": 1, "AC/DC": 1}


def test_fifty_titles_are_resolved_in_one_request(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c"), *(f"Person {n}" for n in range(101)))
    assert sum(r.path.startswith("/w/api.php") for r in server.log) == 3


def test_long_titles_are_resolved_in_smaller_batches(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c"), *(f"{n} {'東' * 80}" for n in range(50)))
    assert max(len(r.path) for r in server.log) < 8000


def test_a_window_of_several_months_gives_their_mean(serve: Serve, world: World, tmp_path: Path) -> None:
    views = open_views(serve(world), tmp_path / "c", window="2021-07:2021-10")
    assert answers(views, "George Rankin") == {"George Rankin": ("ok", (90 + 142) / 4)}


def test_the_window_popqa_follows_no_redirect_and_counts_bots(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    world.articles["Sir Ridley"] = Article({"2021-10": 12})
    assert answers(open_views(server, tmp_path / "c", "popqa"), "Sir Ridley") == {"Sir Ridley": ("ok", 12.0)}
    assert "/en.wikipedia/all-access/all-agents/Sir_Ridley/monthly/2021100100/2021103100" in server.log[-1].path


def test_every_request_says_who_asks(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    answers(open_views(server, tmp_path / "c", contact="me@example.org"), "AC/DC")
    assert {r.agent for r in server.log} == {"curate/0.1.0 (me@example.org)"}


@pytest.mark.parametrize("stumble", STUMBLES)
def test_a_stumble_of_any_kind_is_asked_again(serve: Serve, world: World, tmp_path: Path, stumble: str) -> None:
    world.failing, world.stumbles, world.slow = 0.7, [stumble], 0.2
    views = open_views(serve(world, seed=3), tmp_path / "c", timeout=0.1)
    assert answers(views, "R. Scott", "Unread") == {"R. Scott": ("ok", 100_000.0), "Unread": ("zero_views", 0.0)}
    assert views.stats.retries > 0


def test_a_server_that_always_fails_ends_the_run_with_advice(serve: Serve, world: World, tmp_path: Path) -> None:
    world.failing, world.stumbles = 1.0, ["500"]
    views = open_views(serve(world), tmp_path / "c")
    with pytest.raises(PageViewsError, match=r"fails every request(.|\n)*Try: the same command again later"):
        answers(views, *(f"Person {n}" for n in range(50 * 25)))


def test_one_title_that_always_fails_is_one_status(serve: Serve, world: World, tmp_path: Path) -> None:
    server = serve(world)
    views = open_views(server, tmp_path / "c")
    answers(views, "AC/DC")
    world.failing, world.stumbles = 1.0, ["500"]
    assert answers(views, "AC/DC", "Ridley Scott") == {"AC/DC": ("ok", 300_000.0), "Ridley Scott": ("failed", None)}
    world.failing = 0.0
    assert answers(open_views(server, tmp_path / "c"), "Ridley Scott") == {"Ridley Scott": ("ok", 100_000.0)}


def test_a_server_that_is_not_there_is_named(serve: Serve, world: World, tmp_path: Path) -> None:
    server = WikimediaServer(world)
    with server:
        pass
    with pytest.raises(PageViewsError, match=f"{server.url} does not answer"):
        answers(open_views(server, tmp_path / "c"), "AC/DC")


def test_a_third_of_requests_may_fail_and_every_answer_is_right(serve: Serve, tmp_path: Path) -> None:
    """Ten thousand subjects with CURATE_FULL_TESTS, a thousand without."""
    size = 10_000 if FULL else 1_000
    world, expected = big_world(size)
    world.failing, world.slow = 0.3, 0.2
    server = serve(world)
    views = open_views(server, tmp_path / "c", timeout=0.1)
    assert answers(views, *expected) == expected
    stumbled = sum(r.met != "answered" for r in server.log) / len(server.log)
    assert 0.25 < stumbled < 0.35
    assert views.stats.missing == []


def big_world(size: int) -> tuple[World, dict[str, tuple[str, float | None]]]:
    """A wiki of so many subjects of every kind, and what is true of each."""
    world = World()
    expected: dict[str, tuple[str, float | None]] = {}
    for n in range(size):
        name = f"Person {n}/{n % 7}?"
        kind = n % 10
        if kind < 6:
            world.articles[name] = Article({"2021-10": n + 1})
            expected[name] = ("ok", float(n + 1))
        elif kind == 6:
            world.redirects[name] = f"Via {n}"
            world.redirects[f"Via {n}"] = f"Real {n}"
            world.articles[f"Real {n}"] = Article({"2021-10": n})
            expected[name] = ("ok", float(n))
        elif kind == 7:
            world.articles[name] = Article(created="2022-01-01" if n % 20 == 7 else "2004-01-01")
            expected[name] = ("no_article", None) if n % 20 == 7 else ("zero_views", 0.0)
        elif kind == 8:
            world.articles[name] = Article({"2021-10": 9}, disambiguation=True)
            expected[name] = ("ambiguous", None)
        else:
            expected[name] = ("no_article", None)
    return world, expected
