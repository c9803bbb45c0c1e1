"""Killed at a random moment and started again: the identical file, and nothing asked twice that was kept."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.wikimedia_server import WikimediaServer
from tests.wikipedia.test_lookup import FULL, big_world

SUBJECTS, KILLS = (3_000, 20) if FULL else (250, 2)


def kept_titles(cache: Path) -> set[str]:
    """The articles whose views are on disk."""
    path = cache / "wikipedia.sqlite"
    if not path.exists():
        return set()
    with sqlite3.connect(path, timeout=30) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'views'").fetchone():
            return set()
        return {title for (title,) in db.execute("SELECT title FROM views")}


def start(server: WikimediaServer, folder: Path, output: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from curate.cli.app import main; main()", "score", "questions.jsonl"]
    options = ["--by", "pageviews", "--window", "2021-10", "--quiet", "--rate", "400", "-o", output, *server.options]
    environment = os.environ | {"CURATE_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [*command, *options], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def test_a_killed_run_goes_on_where_it_was(serve: Callable[..., WikimediaServer], tmp_path: Path) -> None:
    """Twenty kills with CURATE_FULL_TESTS, two without."""
    world, expected = big_world(SUBJECTS)
    world.failing, world.stumbles = 0.3, ["429", "500", "truncated", "dropped", "cut", "html", "maxlag"]
    rows = [{"question": f"Who is {name}?", "answer": "x", "subject": name} for name in expected]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rng = random.Random(7)
    server = serve(world)
    killed = 0
    while killed < KILLS:
        kept = kept_titles(tmp_path / "cache")
        before = len(server.log)
        process = start(server, tmp_path, "scored.parquet")
        while len(server.log) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.2 * SUBJECTS / 400 / KILLS * 2))
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.kill()
        process.wait()
        killed += 1
        assert not kept & _asked_since(server, before), "a title whose views were on disk was asked for again"
        assert not (tmp_path / "scored.parquet").exists()
    before, kept = len(server.log), kept_titles(tmp_path / "cache")
    assert start(server, tmp_path, "scored.parquet").wait() == 0
    assert not kept & _asked_since(server, before)
    assert killed >= KILLS // 2

    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "questions.jsonl").write_text((tmp_path / "questions.jsonl").read_text())
    world.failing = 0.0
    assert start(server, tmp_path / "whole", "scored.parquet").wait() == 0
    assert (tmp_path / "scored.parquet").read_bytes() == (tmp_path / "whole" / "scored.parquet").read_bytes()
    print(f"{killed} kills, {max(server.asked(None).values())} requests at most for one title")


def test_ctrl_c_ends_with_130_and_keeps_what_was_answered(
    serve: Callable[..., WikimediaServer], tmp_path: Path
) -> None:
    world, expected = big_world(300)
    world.delay = 0.02
    rows = [{"question": f"Who is {name}?", "answer": "x", "subject": name} for name in expected]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    server = serve(world)
    process = start(server, tmp_path, "scored.parquet")
    while sum(server.asked().values()) < 40:
        time.sleep(0.01)
    world.failing, world.stumbles, world.retry_after = 1.0, ["429"], "500"  # everybody waits when the signal comes
    while not any(request.met == "429" for request in server.log):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted" in errors and b"Traceback" not in errors
    assert not (tmp_path / "scored.parquet").exists()
    assert len(kept_titles(tmp_path / "cache")) >= 20


def _asked_since(server: WikimediaServer, position: int) -> set[str]:
    from tests.wikimedia_server import article_in, is_views

    return {article_in(r.path) for r in server.log[position:] if is_views(r.path)}
