"""A run that was killed goes on where it was, and nothing made under other circumstances is taken for its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.estimators.loss import LossEstimator, LossSettings
from curate.lm import loss
from curate.lm.model import LoadedModel, load_model
from curate.prompts import TEMPLATES, Shots
from curate.records import Example
from curate.scoring import CHUNK, chunk_key

Tiny = Callable[[str], Path]
ROWS = 3 * CHUNK
POOL = [Example("p", "Who directed Heat?", ("Mann",))]


def kept(folder: Path) -> list[Path]:
    return list((folder / ".scored.parquet.parts").glob("*.json"))


def test_kill_9_and_the_same_command_end_in_the_identical_file(
    curate: Callable[..., Any], tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"question": f"Where is {n}?", "answer": f"at {n % 7}"}) for n in range(ROWS)))
    command = ["score", data, "--by", "loss", "--model", tiny_model("llama"), "--device", "cpu", "-o"]
    (tmp_path / "whole").mkdir()
    assert curate(*command, "whole/scored.parquet").exit_code == 0

    program = [sys.executable, "-c", "from curate.cli.app import main; main()"]
    process = subprocess.Popen([*program, *map(str, command), "scored.parquet"], stderr=subprocess.DEVNULL)
    while not kept(tmp_path) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert kept(tmp_path)
    assert not (tmp_path / "scored.parquet").exists()

    computed = []
    original = loss.answer_losses
    monkeypatch.setattr(loss, "answer_losses", lambda *a, **k: computed.extend(a[1]) or original(*a, **k))
    assert curate(*command, "scored.parquet").exit_code == 0
    assert 0 < len(computed) < ROWS
    assert (tmp_path / "scored.parquet").read_bytes() == (tmp_path / "whole" / "scored.parquet").read_bytes()
    assert not kept(tmp_path)


@pytest.fixture
def loaded(tiny_model: Tiny) -> LoadedModel:
    return load_model(tiny_model("llama"), device="cpu")


def test_kept_results_are_used_only_for_the_same_model_prompt_and_reduction(loaded: LoadedModel) -> None:
    import torch

    qa = TEMPLATES["qa"]
    half = replace(loaded, model=type(loaded.model)(loaded.model.config).to(torch.bfloat16))
    usual = LossSettings(shots=0)
    estimators = [
        LossEstimator(usual, loaded),
        LossEstimator(usual, replace(loaded, revision="another")),
        LossEstimator(usual, replace(loaded, name="another")),
        LossEstimator(usual, half),
        LossEstimator(LossSettings(reduction="sum", shots=0), loaded),
        LossEstimator(LossSettings(answers="best", shots=0), loaded),
        LossEstimator(LossSettings(template="plain", shots=0), loaded),
        *(LossEstimator(usual, loaded) for _ in range(3)),
    ]
    estimators[-3].template = replace(qa, separator="\n")
    estimators[-2].sets = [Shots(qa, POOL, 1)]
    estimators[-1].sets = [Shots(qa, [replace(POOL[0], answers=("Michael Mann",))], 1)]
    keys = [chunk_key(estimator.fingerprint(), POOL) for estimator in estimators]
    assert len(set(keys)) == len(keys)
    smaller = LossEstimator(usual.changed(token_budget=7), loaded)
    assert keys[0] == chunk_key(smaller.fingerprint(), POOL), "the size of batches changes no number"
    assert smaller.model.token_budget == 7 and smaller.request() == estimators[0].request()


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Who?"},
        {"answers": ("Mann", "Michael Mann")},
        {"choices": ("a", "b")},
        {"subject": "Heat"},
        {"relation": "director"},
        {"extra": {"views": 1}},
    ],
)
def test_kept_results_are_used_only_for_the_same_data(change: dict[str, Any]) -> None:
    changed = [replace(POOL[0], **change)]
    assert chunk_key({}, POOL) != chunk_key({}, changed)
