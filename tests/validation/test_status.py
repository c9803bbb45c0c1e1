"""A long run tells how far it is: in a file, to `curate show`, and in what it says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import curate as library
from curate.checkpoint import Status, read_status
from curate.settings import FinetuneConfig
from curate.validation import validate as module

Curate = Callable[..., Any]


def test_a_run_that_goes_on_is_shown_and_its_status_is_gone_at_the_end(
    curate: Curate,
    films: list[dict[str, Any]],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEPT", 0.0)  # these parts take less than a second
    said: list[str] = []
    seen: list[dict[str, Any]] = []

    def say(line: str) -> None:
        said.append(line)
        found = read_status(tmp_path / "run")
        assert found is not None and found["said"] == line
        seen.append(found)
        if "finetuning" in line and len(seen) < 9:
            shown = curate("show", "run").stdout
            assert "of 3 parts done" in shown and "last heard of 0:00:0" in shown and line in shown
        if stop and "b, seed 0: finetuning" in line:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"eval": films, "model": tiny_model("llama"), "output": "run", "seeds": 1, "max_steps": 1}
    options |= {"progress": say, "knowledge": False}
    stop = True
    with pytest.raises(KeyboardInterrupt):
        library.validate({"a": films, "b": films[:4]}, **options)
    told = json.loads(curate("show", "run", "--json").stdout)
    assert (told["kind"], told["part"], told["done"], told["parts"]) == ("going on", "b, seed 0", 2, 3)
    assert told["seconds_left"] is not None
    stop = False
    library.validate({"a": films, "b": films[:4]}, **options)
    assert any(line.startswith("2 of 3 parts done, 0:0") and line.endswith(" left") for line in said)
    assert not (tmp_path / "run" / "status.json").exists()
    assert "Accuracy on" in curate("show", "run").stdout


def test_the_time_left_follows_from_what_was_done_now_and_not_from_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 30.0, 90.0])
    monkeypatch.setattr("curate.checkpoint.time.monotonic", lambda: next(clock))
    status = Status(tmp_path, {"old": 50, "a": 10, "b": 20, "c": 40})
    assert status.end("old", kept=True) is None
    assert status.end("a") == "2 of 4 parts done, 0:03:00 left"
    assert status.end("b") == "3 of 4 parts done, 0:02:00 left"
    found = read_status(tmp_path)
    assert found is not None and 110 < found["seconds_left"] <= 120
    status.close()
    assert read_status(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"heard": 3}'])
def test_a_status_that_is_damaged_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path) is None


def test_trackers_are_told_a_project_and_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from curate.validation.trainer import MicroBatches, Training, training_arguments

    monkeypatch.setenv("WANDB_PROJECT", "")
    monkeypatch.delenv("WANDB_PROJECT")
    loaded: Any = SimpleNamespace(device=torch.device("cpu"), model=SimpleNamespace(dtype=torch.float32))
    logs = tmp_path / "my-run" / "logs" / "top" / "seed-0"
    how = Training(FinetuneConfig(), 0, tmp_path / "parts", "wandb", logs)
    found = training_arguments(loaded, how, MicroBatches(4), sharded=False, held_out=False)
    assert (found.run_name, os.environ["WANDB_PROJECT"]) == ("top/seed-0", "my-run")
    assert getattr(found, "project", "my-run") == "my-run"
