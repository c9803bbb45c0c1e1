"""A cluster of several nodes gives the bytes of one process, whatever happens to its workers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.engines import Description, Pool, RemoteEstimator
from curate.errors import EngineError, ModelError
from curate.records import Example, Score
from curate.scoring import Chunks
from curate.validation.on_ray import Part, _do

ray = pytest.importorskip("ray")

Tiny = Callable[[str], Path]
EXAMPLES = [Example(str(n), f"Who is {n}?", (f"no. {n}",)) for n in range(40)]


class Slow:
    """A worker without a model: the score of an example is its number; some questions kill it or make it fail."""

    def __init__(self, trouble: Sequence[str] = (), seconds: float = 0.0) -> None:
        self.trouble, self.seconds = trouble, seconds

    def load(self) -> Description:
        if "no model" in self.trouble:
            raise ModelError("There is no model.", expected="a model")
        if "never" in self.trouble:
            os._exit(1)
        return Description("slow", (), {}, {"estimator": "slow"})

    def score(self, examples: Sequence[Example], allowed: int) -> list[Score]:
        time.sleep(self.seconds)
        if any(example.id in self.trouble for example in examples):
            os._exit(1)
        return [Score(float(example.id)) for example in examples]


@pytest.fixture
def pool_of(cluster: Any) -> Iterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def make(*arguments: Any, low: int = 1, high: int = 2) -> Pool:
        actors: list[Any] = []
        kind = ray.remote(Slow).options(num_cpus=1, max_restarts=0)

        def start() -> Any:
            actors.append(kind.remote(*arguments))
            return actors[-1]

        pools.append(Pool(ray, start, low, high))
        pools[-1].actors = actors  # type: ignore[attr-defined]
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 8)


def test_losses_columns_and_manifest_are_those_of_one_process(cluster: Any, tiny_model: Tiny, tmp_path: Path) -> None:
    rows = [{"question": f"Where is {n % 900}?", "answer": f"at {n % 7}", "views": n} for n in range(2100)]
    settings: dict[str, Any] = {"by": ["column:views", "loss"], "model": tiny_model("llama"), "device": "cpu"}
    here = curate.score(rows, output=tmp_path / "here.parquet", **settings)
    there = curate.score(rows, output=tmp_path / "there.parquet", engine="ray", workers=2, **settings)
    assert there.read_bytes() == here.read_bytes()
    assert Path(f"{there}.manifest.json").read_text() == Path(f"{here}.manifest.json").read_text()


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


def test_a_part_that_fails_is_named_and_ends_the_others(cluster: Any, tmp_path: Path) -> None:
    def work(given: None, part: Part, cpus: int) -> None:
        while part.arm == "bottom":
            (tmp_path / "begun").touch()
            time.sleep(0.05)
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        raise ModelError("There is no model.", "a model")

    task, parts = ray.remote(work), [Part("bottom", seed=0), Part("top", seed=1), Part("whole", seed=0)]
    with pytest.raises(ModelError, match="top, seed 1: There is no model") as error:
        _do(ray, task, parts, None, 2, 1, lambda line: None)
    assert error.value.expected == "a model"
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
    cluster: Any, pool_of: Callable[..., Pool], small_chunks: None
) -> None:
    pool = pool_of((), 0.4, high=2)
    estimator = RemoteEstimator(pool)
    chunks = Chunks(estimator, EXAMPLES)
    time.sleep(0.2)
    ray.kill(pool.actors[0])  # type: ignore[attr-defined]
    extra = cluster.add_node(num_cpus=1)
    time.sleep(0.3)
    cluster.remove_node(extra)
    assert [score.value for score in chunks.scores()] == [float(n) for n in range(40)]


def test_a_row_that_kills_every_worker_stands_alone_in_the_end(
    pool_of: Callable[..., Pool], small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.engines.MOST_DEATHS", 2)
    scores = Chunks(RemoteEstimator(pool_of(["21"])), EXAMPLES).scores()
    assert [score.value for score in scores] == [None if n == 21 else float(n) for n in range(40)]
    assert scores[21].status == "failed"


def test_workers_that_always_die_end_the_run(pool_of: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.engines.MOST_DEATHS", 1)
    monkeypatch.setattr("curate.engines.MOST_FALSE_STARTS", 2)
    with pytest.raises(EngineError, match="it is not the rows"):
        pool_of([str(n) for n in range(40)], high=1).submit(EXAMPLES[:2], 1).result()
    with pytest.raises(EngineError, match="2 workers in a row died while they loaded the model"):
        pool_of(["never"]).submit(EXAMPLES, 1).result()


def test_an_error_of_a_worker_reaches_whoever_waits(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(["no model"])
    with pytest.raises(ModelError, match="There is no model") as error:
        pool.submit(EXAMPLES, 1).result()
    assert error.value.expected == "a model"
    with pytest.raises(ModelError):
        pool.submit(EXAMPLES, 1)


def test_workers_come_with_the_work_and_go_with_it(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of((), 0.1, low=1, high=2)
    assert pool.description.result().name == "slow"
    assert len(pool._hands) == 1
    futures = [pool.submit([example], 0) for example in EXAMPLES[:8]]
    assert [future.result()[0].value for future in futures] == [float(n) for n in range(8)]
    assert len(pool.actors) == 2  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while len(pool._hands) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(pool._hands) == 1
