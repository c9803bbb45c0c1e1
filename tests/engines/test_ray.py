"""A cluster of several nodes gives the bytes of one process, whatever happens to its workers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.engines import RAY, Pool, on_ray
from curate.errors import EngineError, ModelError
from curate.settings import EngineSettings
from tests.engines.workers import slow, tells

ray = pytest.importorskip("ray")

Tiny = Callable[[str], Path]


@pytest.fixture
def pool_of(cluster: Any) -> Iterator[Callable[..., Pool]]:
    with ExitStack() as stack:
        yield lambda make, workers=2: stack.enter_context(on_ray(make, EngineSettings("ray", workers=workers), "cpu"))


def in_lists(pool: Pool, rows: int, size: int) -> list[float | None]:
    """The results of the rows 0, 1, 2, …, worked on a list of some at a time."""
    lists = [pool.begin(range(start, start + size), size, lambda error: None) for start in range(0, rows, size)]
    return [result for results in lists for result in results()]


def test_losses_columns_and_manifest_are_those_of_one_process(
    cluster: Any, tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 40)
    rows = [{"question": f"Where is {n % 30}?", "answer": f"at {n % 7}", "views": n} for n in range(90)]
    settings: dict[str, Any] = {"by": ["column:views", "loss"], "model": tiny_model("llama"), "device": "cpu"}
    here = curate.score(rows, output=tmp_path / "here.parquet", **settings)
    there = curate.score(rows, output=tmp_path / "there.parquet", engine="ray", workers=2, **settings)
    assert there.read_bytes() == here.read_bytes()
    assert Path(f"{there}.manifest.json").read_text() == Path(f"{here}.manifest.json").read_text()


def test_a_search_ends_with_what_one_process_finds(cluster: Any, tiny_model: Tiny, tmp_path: Path) -> None:
    rows = [{"question": f"Colour of N{n}?", "answer": ["red", "blue"][n % 2], "views": n} for n in range(160)]
    settings: dict[str, Any] = {"by": "column:views", "model": tiny_model("llama"), "device": "cpu", "questions": 0.5}
    settings |= {"max_steps": 8, "batch_size": 4, "learning_rate": 1e-2, "rungs": 2, "confirm_seeds": 2}
    (tmp_path / "own.yaml").write_text("best: {top: 30}")
    settings |= {"candidates": tmp_path / "own.yaml", "sizes": (0.3,)}
    here = curate.search(rows, output=tmp_path / "here", **settings)
    there = curate.search(rows, output=tmp_path / "there", engine="ray", workers=2, **settings)
    assert there.summary == here.summary
    for name in ("recommended.parquet", "report.html"):
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()


def test_a_validation_has_the_numbers_of_one_process(cluster: Any, tiny_model: Tiny, tmp_path: Path) -> None:
    rows = [{"question": f"What is the colour of {n}?", "answer": "red" if n % 2 else "blue"} for n in range(12)]
    settings: dict[str, Any] = {"eval": rows, "model": tiny_model("llama"), "seeds": 1, "device": "cpu"}
    settings |= {"learning_rate": 2e-2, "max_steps": 2, "batch_size": 4}
    arms = {"top": rows[:6]}
    here = curate.validate(arms, output=tmp_path / "here", **settings)
    told: list[str] = []
    there = curate.validate(arms, output=tmp_path / "there", engine="ray", progress=told.append, **settings)
    assert there.summary() == here.summary()
    assert sorted(told) == ["base: done", "top, seed 0: done"]
    assert (tmp_path / "there" / "report.html").is_file()


def test_data_named_by_a_relative_glob_is_read_where_the_command_is_typed(
    cluster: Any, tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("top", "test"):
        lines = [json.dumps({"question": f"What is {n}?", "answer": "red"}) + "\n" for n in range(4)]
        (tmp_path / f"{name}-1.jsonl").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {"model": tiny_model("llama"), "seeds": 1, "max_steps": 1, "learning_rate": 2e-2}
    found = curate.validate("top-*.jsonl", eval="test-*.jsonl", output="run", engine="ray", device="cpu", **settings)
    assert found.names == ["base", "top-1"]


def test_a_part_that_fails_is_named_and_ends_the_others(cluster: Any, tiny_model: Tiny, tmp_path: Path) -> None:
    rows = [{"question": f"What is the colour of {n}?", "answer": "red"} for n in range(40)]
    long = [{**row, "answer": "red " * 5000} for row in rows]
    settings: dict[str, Any] = {"eval": rows[:2], "model": tiny_model("llama"), "seeds": 1, "device": "cpu"}
    endless = {"epochs": 100_000, "patience": 100_000}
    with pytest.raises(ModelError, match="bottom, seed 0: No example fits") as error:
        curate.validate({"top": rows, "bottom": long}, output=tmp_path, engine="ray", **endless, **settings)
    assert list(tmp_path.glob(".parts/*/checkpoint-*")), "top was being trained"
    assert error.value.expected == "a question and its answer within the model's context"
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ray.available_resources()["CPU"] == 2, "nobody works for nothing"


def test_a_ray_dataset_comes_back_as_one(cluster: Any) -> None:
    import ray.data

    rows = [{"question": f"Who is {n}?", "answer": "She", "views": n} for n in range(20)]
    scored = curate.score(ray.data.from_items(rows), by="column:views")
    assert isinstance(scored, ray.data.Dataset)
    assert scored.take_all() == curate.score(rows, by="column:views")


def test_killed_workers_and_a_lost_node_lose_and_double_no_row(
    cluster: Any, pool_of: Callable[..., Pool], tmp_path: Path
) -> None:
    pool = pool_of(partial(tells, tmp_path, 0.4))
    lists = [pool.submit(range(start, start + 8)) for start in range(0, 40, 8)]
    while not (working := list(tmp_path.iterdir())):
        time.sleep(0.02)
    os.kill(int(working[0].name), signal.SIGKILL)
    extra = cluster.add_node(num_cpus=1)
    time.sleep(0.3)
    cluster.remove_node(extra)
    assert [result for results in lists for result in results.result()] == [float(n) for n in range(40)]


def test_a_row_that_kills_every_worker_stands_alone_in_the_end(
    pool_of: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.engines.RAY", replace(RAY, deaths=2))
    assert in_lists(pool_of(partial(slow, [21], 0)), 40, 8) == [None if n == 21 else float(n) for n in range(40)]


def test_workers_that_always_die_end_the_run(pool_of: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.engines.RAY", replace(RAY, deaths=1, false_starts=2))
    with pytest.raises(EngineError, match="it is not the rows"):
        pool_of(partial(slow, range(40), 0), workers=1).begin([0, 1], 1, lambda error: None)()
    with pytest.raises(EngineError, match="2 workers in a row died while they loaded the model"):
        pool_of(partial(slow, ["never"], 0))


def test_an_error_of_a_worker_is_raised_here(pool_of: Callable[..., Pool]) -> None:
    with pytest.raises(ModelError, match="There is no model") as error:
        pool_of(partial(slow, ["no model"], 0))
    assert error.value.expected == "a model"
    with pytest.raises(TypeError, match="NoneType"):
        pool_of(partial(slow, [], 0)).submit([None]).result()


def test_workers_that_would_give_other_numbers_end_the_run(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(partial(slow, ["other"], 0.5))
    with pytest.raises(EngineError, match="they differ in number"):
        in_lists(pool, 40, 4)


def test_workers_come_with_the_work_and_go_with_it(
    pool_of: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.engines.IDLE", 0.5)
    pool = pool_of(partial(slow, [], 0.2), workers="1:2")
    wait_for_free(1)
    futures = [pool.submit([n]) for n in range(12)]
    wait_for_free(0)
    assert [future.result() for future in futures] == [[float(n)] for n in range(12)]
    wait_for_free(1)


def wait_for_free(processors: int) -> None:
    """Wait until so many of the two processors of the cluster are free."""
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) != processors and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ray.available_resources().get("CPU", 0) == processors
