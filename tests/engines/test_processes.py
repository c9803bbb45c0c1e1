"""Several processes of this machine share out the work; what goes wrong in them is told here."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.engines import WorkerDiedError, choose_devices, in_processes
from curate.errors import EngineError, ModelError, SettingError
from tests.engines.workers import dies_once, fails, slow

Tiny = Callable[[str], Path]


def test_each_process_has_its_device_and_the_results_are_in_order() -> None:
    with in_processes(fails, ["a", "b"]) as pool:
        results = [pool.submit([n, n + 1]).result() for n in range(1, 9)]
        assert all(one == two for one, two in results), "rows that were sent together stay together"
        assert {result for pair in results for result in pair} <= {"1 on a", "1 on b"}
        futures = [pool.submit([n]) for n in (5, 6)]
        assert [len(future.result()) for future in futures] == [1, 1]


def test_after_an_error_the_next_rows_get_their_own_answer() -> None:
    with in_processes(fails, ["cpu"]) as pool:
        wrong, right = pool.submit([1, 0]), pool.submit([2])
        with pytest.raises(RuntimeError, match="ZeroDivisionError: "):
            wrong.result()
        assert right.result() == ["1 on cpu"]
        assert pool.begin([3, 0, 4], 1, lambda error: None)() == ["1 on cpu", None, "1 on cpu"]
        with pytest.raises(RuntimeError, match="ZeroDivisionError: "):
            pool.begin([0, 0], 1, lambda error: None)()


def test_what_is_wrong_with_the_worker_is_said_as_if_it_were_here() -> None:
    with in_processes(partial(slow, ["no model"], 0), ["cpu"]) as pool:
        with pytest.raises(ModelError, match="There is no model") as error:
            pool.about()
        assert error.value.expected == "a model"
        with pytest.raises(ModelError):
            pool.submit([1])


def test_a_worker_that_was_killed_is_replaced_and_no_result_is_lost(tmp_path: Path) -> None:
    with in_processes(partial(dies_once, tmp_path / "died"), ["cpu"]) as pool:
        futures = [pool.submit([n]) for n in range(4)]
        assert [future.result() for future in futures] == [[float(n)] for n in range(4)]


def test_a_row_that_kills_every_worker_stands_alone_in_the_end() -> None:
    with in_processes(partial(slow, [5], 0), ["cpu", "cpu"]) as pool:
        lists = [pool.begin(range(start, start + 4), 3, lambda error: None) for start in (0, 4, 8)]
        found = [result for results in lists for result in results()]
        assert found == [None if n == 5 else float(n) for n in range(12)]
        with pytest.raises(WorkerDiedError, match="exit code 1"):
            pool.submit([5]).result()


def test_workers_that_always_die_end_the_run() -> None:
    with (
        in_processes(partial(slow, range(9), 0), ["cpu"]) as pool,
        pytest.raises(EngineError, match="die over 2 rows of one chunk, the last with exit code 1"),
    ):
        pool.begin([1, 2], 1, lambda error: None)()
    with (
        in_processes(partial(slow, ["never"], 0), ["cpu"]) as pool,
        pytest.raises(EngineError, match="2 workers in a row died while they loaded the model: exit code 1"),
    ):
        pool.submit([1]).result()


def test_leaving_ends_workers_whatever_they_do() -> None:
    with in_processes(partial(slow, [], 600), ["cpu", "cpu"]) as pool:
        pool.about()
        for n in range(4):
            pool.submit([n])
        started = time.monotonic()
    assert time.monotonic() - started < 60


def test_two_processes_score_to_the_bit_as_one(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 8)
    rows = [{"question": f"Where is {n}?", "answer": ["here", "Zürich"][n % 2]} for n in range(30)]
    settings: dict[str, Any] = {"by": "loss", "model": tiny_model("llama"), "device": "cpu"}
    told: list[float] = []
    one = curate.score(rows, **settings)
    two = curate.score(rows, processes=2, progress=lambda name, done, total, tokens=0: told.append(done), **settings)
    assert two == one
    assert told == sorted(told) and told[-1] == 30


def test_a_model_that_is_none_is_said_as_by_one_process(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no config") as error:
        curate.score([{"question": "a?", "answer": "b"}], by="loss", shots=0, model=tmp_path, device="cpu", processes=2)
    assert error.value.expected is not None


@pytest.mark.parametrize(
    ("device", "processes", "gpus", "devices"),
    [
        ("auto", None, 0, ["auto"]),
        ("auto", None, 1, ["auto"]),
        ("auto", None, 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", 2, 3, ["cuda:0", "cuda:1"]),
        ("cuda:1", None, 3, ["cuda:1"]),
        ("cpu", 2, 3, ["cpu", "cpu"]),
        ("auto", 2, 0, ["cpu", "cpu"]),
        ("cuda", 4, 3, None),
        ("cuda:1", 2, 3, None),
        ("cpu", 0, 0, None),
    ],
)
def test_each_process_has_a_device_of_its_own(
    device: str, processes: int | None, gpus: int, devices: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    if devices is None:
        with pytest.raises(SettingError, match="processes"):
            choose_devices(device, processes)
    else:
        assert choose_devices(device, processes) == devices
