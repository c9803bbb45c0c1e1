"""Scoring PopQA on a cluster that loses workers, nodes and its head; minutes, so only with CURATE_FULL_TESTS=1."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.environ.get("CURATE_FULL_TESTS") != "1", reason="CURATE_FULL_TESTS is not 1")
pytest.importorskip("ray")

KILLS = 10
CHUNK = 128
"""Smaller than usual, so that there are chunks enough to be hit."""


def small_popqa(shared: Path, folder: Path, rows: int) -> Path:
    import json

    questions = json.loads((shared / "data" / "popqa" / "popqa_questions_14267.json").read_text())
    path = folder / "popqa.json"
    path.write_text(json.dumps(questions[:rows]))
    return path


def workers_of(raylet: int) -> list[int]:
    """The processes of a node that run an actor."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == raylet and (folder / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(folder.name))
        except (OSError, IndexError, ValueError):
            continue
    return found


def kill_now_and_then(cluster: Any, kept: Path, seed: int, over: Callable[[], bool]) -> list[str]:
    """Kill a worker or a node at random moments, each after another chunk was done; a new node replaces a lost one."""
    rng, killed, before = random.Random(seed), [], 0
    while len(killed) < KILLS and not over():
        time.sleep(0.2)
        done = len(list(kept.glob("*.json")))
        alive = [(node, pid) for node in list(cluster.worker_nodes) for pid in workers_of(raylet_of(node))]
        if done <= before or not alive:
            continue
        time.sleep(rng.uniform(0, 3))
        before = done
        node, pid = rng.choice(alive)
        if rng.random() < 0.3:
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
            killed.append("node")
        else:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append("worker")
    return killed


def raylet_of(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def test_ten_kills_at_random_moments_change_no_byte(
    cluster: Any, shared: Path, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import curate

    monkeypatch.setattr("curate.scoring.CHUNK", CHUNK)
    data = small_popqa(shared, tmp_path, 6000)
    settings: dict[str, Any] = {"by": "loss", "model": stories, "device": "cpu"}
    there = tmp_path / "there.parquet"
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(curate.score, data, output=there, engine="ray", workers=2, **settings)
        killed = kill_now_and_then(cluster, tmp_path / ".there.parquet.parts", seed=0, over=run.done)
        run.result()
    print(killed)
    here = curate.score(data, output=tmp_path / "here.parquet", **settings)
    assert there.read_bytes() == here.read_bytes()
    assert len(killed) == KILLS, "the run was over too soon to be hit that often"


def test_a_head_that_is_lost_costs_the_run_but_no_chunk(
    curate: Callable[..., Any], shared: Path, stories: Path, tmp_path: Path
) -> None:
    from ray.cluster_utils import Cluster

    data = small_popqa(shared, tmp_path, 4000)
    options = ["--by", "loss", "--model", str(stories), "--device", "cpu", "-o"]
    program = [sys.executable, "-m", "curate", "score", str(data)]
    kept = tmp_path / ".scored.parquet.parts"
    there: list[bytes] = []
    for lost in (True, False):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
        engine = ["scored.parquet", "--engine", "ray", "--ray-address", cluster.address, "--workers", "1"]
        process = subprocess.Popen([*program, *options, *engine], cwd=tmp_path, stderr=subprocess.DEVNULL)
        while lost and process.poll() is None and not list(kept.glob("*.json")):
            time.sleep(0.1)
        if not lost:
            assert process.wait() == 0
        cluster.shutdown()
        process.kill()
        process.wait()
        there = [path.read_bytes() for path in tmp_path.glob("scored.parquet")]
        assert bool(there) is not lost
    assert curate("score", data, *options, "here.parquet").exit_code == 0
    assert there == [(tmp_path / "here.parquet").read_bytes()]
