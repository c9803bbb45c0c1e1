"""Every test has a cache of its own, and a small wiki to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.wikimedia_server import Article, WikimediaServer, World


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CURATE_CACHE", str(folder))
    return folder


@pytest.fixture
def world() -> World:
    """One article of every kind, read in October 2021."""
    return World(
        articles={
            "George Rankin": Article({"2021-09": 90, "2021-10": 142}),
            "Ridley Scott": Article({"2021-10": 100_000}),
            "AC/DC": Article({"2021-10": 300_000}),
            "Mercury": Article({"2021-10": 5000}, disambiguation=True),
            "Unread": Article(),
            "Newly written": Article({"2023-01": 7}, created="2022-12-31"),
        },
        redirects={"R. Scott": "Sir Ridley", "Sir Ridley": "Ridley Scott", "Round": "About", "About": "Round"},
        items={"Q42": "Ridley Scott", "Q43": "", "Q44": "R. Scott"},
    )


@pytest.fixture
def serve() -> Iterator[Callable[..., WikimediaServer]]:
    """Starts a server for a world; all stop at the end of the test."""
    with ExitStack() as stack:
        yield lambda world, seed=0: stack.enter_context(WikimediaServer(world, seed))
