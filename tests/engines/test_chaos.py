"""Scoring PopQA on a cluster that loses workers, nodes and its head; minutes, so only with CURATE_FULL_TESTS=1."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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


class Killer(threading.Thread):
    """Kills a worker or a node, at random moments after another chunk was done; a new node replaces a lost one."""

    def __init__(self, cluster: Any, kept: Path, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.kept, self.kills, self.random = cluster, kept, kills, random.Random(seed)
        self.killed: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        before = 0
        while len(self.killed) < self.kills and not self.over.wait(0.2):
            done = len(list(self.kept.glob("*.json")))
            nodes = list(self.cluster.worker_nodes)
            alive = [(node, pid) for node in nodes for pid in workers_of(raylet_of(node))]
            if done <= before or not alive or self.over.wait(self.random.uniform(0, 3)):
                continue
            before = done
            node, pid = self.random.choice(alive)
            if self.random.random() < 0.3:
                self.cluster.remove_node(node, allow_graceful=False)
                self.cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
                self.killed.append("node")
            else:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append("worker")


def raylet_of(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def test_ten_kills_at_random_moments_change_no_byte(
    cluster: Any, shared: Path, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import curate

    monkeypatch.setattr("curate.chunks.CHUNK", CHUNK)
    data = small_popqa(shared, tmp_path, 6000)
    settings: dict[str, Any] = {"by": "loss", "model": stories, "device": "cpu"}
    killer = Killer(cluster, tmp_path / ".there.parquet.parts", KILLS, seed=0)
    killer.start()
    there = curate.score(data, output=tmp_path / "there.parquet", engine="ray", workers=2, **settings)
    killer.over.set()
    killer.join()
    print(killer.killed)
    here = curate.score(data, output=tmp_path / "here.parquet", **settings)
    assert there.read_bytes() == here.read_bytes()
    assert len(killer.killed) == KILLS, "the run was over too soon to be hit that often"


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
