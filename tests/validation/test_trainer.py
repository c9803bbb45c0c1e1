from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from curate.engines import join
from curate.errors import ModelError, SettingError
from curate.lm.model import load_model
from curate.lm.packing import IGNORED, LengthGrouped, collate, training_items
from curate.prompts import DEFAULT
from curate.records import Example
from curate.validation.trainer import MicroBatches, answer_nats
from tests.validation.made import CHOICE, MMLU


def test_only_the_completion_and_the_end_of_sequence_are_learned(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    (item,) = training_items(loaded, [Example("1", "What is the colour of Ann?", ("red",))], DEFAULT)
    learned = [token for token, label in zip(item["input_ids"], item["labels"], strict=True) if label != IGNORED]
    assert loaded.tokenizer.decode(learned) == " red</s>"
    assert learned == item["input_ids"][-len(learned) :]


def test_the_letter_is_what_trains(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("qwen"), device="cpu")
    (item,) = training_items(loaded, [CHOICE], MMLU)
    learned = [token for token, label in zip(item["input_ids"], item["labels"], strict=True) if label != IGNORED]
    assert loaded.tokenizer.decode(learned) == " B<|endoftext|>"
    assert "A. dog\nB. red\nC. Paris\nAnswer:" in loaded.tokenizer.decode(item["input_ids"])


def test_padding_changes_no_loss_and_is_not_learned(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    examples = [Example("1", "Who wrote Emma, and when was that?", ("Jane",)), Example("2", "Why?", ("no one knows",))]
    items = training_items(loaded, examples, DEFAULT)
    with torch.inference_mode():
        nats, _, rows = answer_nats(loaded.model, loaded, collate(items, pad=0))
        alone = [answer_nats(loaded.model, loaded, collate([item], pad=0))[0] for item in items]
    assert rows.tolist() == [row for row, own in enumerate(alone) for _ in own]
    assert nats.tolist() == pytest.approx([value for own in alone for value in own.tolist()], rel=1e-5)


def test_rounding_up_the_shape_of_a_batch_changes_no_loss(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    items = training_items(loaded, [Example(str(n), "Why? " * n, ("no one knows",)) for n in (1, 3, 9)], DEFAULT)
    exact, rounded = collate(items, pad=0), collate(items, pad=0, most=loaded.context)
    assert rounded["input_ids"].shape[1] % 16 == 0 and len(rounded["places"]) == 64
    with torch.inference_mode():
        nats, padded = (answer_nats(loaded.model, loaded, batch)[0] for batch in (exact, rounded))
    assert padded[: len(nats)].tolist() == pytest.approx(nats.tolist(), rel=1e-5) and not padded[len(nats) :].any()
    assert collate(items, pad=0, most=5)["input_ids"].shape == exact["input_ids"].shape  # no wider than the context


def test_every_epoch_has_its_own_order_and_hardly_any_padding() -> None:
    lengths = [7 * i % 50 + 1 for i in range(203)]
    sampler = LengthGrouped(lengths, batch_size=8, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(203)) and first == list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    batches = [[lengths[i] for i in first[n : n + 8]] for n in range(0, 203, 8)]
    assert sum(len(b) * max(b) for b in batches) < 1.1 * sum(lengths)


def test_the_last_batch_is_filled_up_so_that_no_example_counts_twice() -> None:
    alone = list(LengthGrouped([5] * 10, 4, seed=1))
    shared = LengthGrouped([5] * 10, 4, seed=1, blank=10)
    assert list(shared) == [*alone, 10, 10]
    assert len(shared) == 12


def test_when_memory_runs_out_the_batch_stays_and_its_parts_shrink() -> None:
    tried = [MicroBatches.whole(6)]
    with pytest.raises(ModelError, match="One example alone"):
        while True:
            tried.append(tried[-1].halved())
    assert [(f.micro_batch, f.accumulation, f.checkpointing) for f in tried] == [
        (6, 1, False),
        (6, 1, True),
        (3, 2, True),
        (1, 6, True),
    ]


# With batches of 4, 19 examples train and the last batch of an epoch has 3 of them.
QUESTIONS = [
    {"question": f"What is the colour of number {n}?", "answer": ["red", "blue", "green"][n % 3]} for n in range(21)
]


def start(arguments: list[str], count: int = 2) -> list[subprocess.Popen[str]]:
    """The same Python command in several processes, with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


@pytest.fixture
def options(tiny_model: Callable[[str], Path], tmp_path: Path) -> list[str]:
    """What follows `curate validate`, with its files."""
    for name, rows in {"arm": QUESTIONS, "test": QUESTIONS[:9]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = f"arm.jsonl --eval test.jsonl --model {tiny_model('llama')} --seeds 1 --epochs 2 --batch-size 4"
    return [*options.split(), "--device", "cpu"]


def test_the_least_known_come_first_in_every_epoch_where_that_is_asked() -> None:
    order = LengthGrouped([5, 9, 1, 7, 3], batch_size=2, seed=0, shuffled=False)
    for epoch in range(2):
        order.set_epoch(epoch)
        assert list(order) == [0, 1, 2, 3, 4]


def finish(running: list[subprocess.Popen[str]]) -> None:
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert "Finetuning on arm" in said[0][0]
    assert said[1] == ("", ""), "only the first process speaks"


def assert_same_numbers(one: str, two: str) -> None:
    first, second = (json.loads(Path(run, "summary.json").read_text()) for run in (one, two))
    assert [row["step"] for row in second["training"]] == [5, 10]
    for alone, together in zip(first["training"], second["training"], strict=True):
        assert together.pop("arm") == alone.pop("arm")
        for name in ("test_accuracy", "fitted"):  # None: nobody has all weights
            assert together.pop(name) in (alone.pop(name), None)
        assert together == pytest.approx(alone, rel=1e-4)
    assert pq.read_table(f"{two}/predictions.parquet") == pq.read_table(f"{one}/predictions.parquet")


def test_two_processes_end_with_the_numbers_of_one(curate: Callable[..., Any], options: list[str]) -> None:
    options += ["--along", "9"]
    running = start(["-m", "curate", "validate", *options, "-o", "two"])
    assert curate("validate", *options, "-o", "one").exit_code == 0
    finish(running)
    assert_same_numbers("one", "two")
    training = json.loads(Path("two", "summary.json").read_text())["training"]
    assert all(row["test_accuracy"] is not None for row in training)


# accelerate shares out weights among GPUs only, and curate too: here it is among processes on a processor.
SHARDED_ON_CPU = """
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from curate.cli.app import app
from curate.validation import finetune

init, collect = AcceleratorState.__init__, finetune.collect

def init_sharded(self, *given, **named):
    init(self, *given, **named)
    self.fsdp_plugin = named.get("fsdp_plugin") or getattr(self, "fsdp_plugin", None)
    if self.fsdp_plugin is not None:
        self.distributed_type = DistributedType.FSDP

def collect_sharded(loaded, model, device):
    assert {type(weight).__name__ for weight in model.parameters()} == {"DTensor"}
    collect(loaded, model, device)

AcceleratorState.__init__, finetune.collect = init_sharded, collect_sharded
finetune.is_sharded = lambda loaded, config: config.method == "full"
app()
"""


def test_weights_shared_out_among_processes_end_with_the_numbers_of_one(
    curate: Callable[..., Any], options: list[str], tmp_path: Path
) -> None:
    (tmp_path / "sharded.py").write_text(SHARDED_ON_CPU)
    options += ["--method", "full", "--learning-rate", "1e-3"]
    running = start(["sharded.py", "validate", *options, "-o", "two"])
    assert curate("validate", *options, "-o", "one").exit_code == 0
    finish(running)
    assert_same_numbers("one", "two")


def test_what_fails_in_the_first_process_ends_the_others(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""
        from curate.engines import by_first, join

        join("cpu")
        assert by_first(lambda: 3) == 3
        by_first(lambda: 1 / 0)
        """)
    )
    running = start([str(tmp_path / "script.py")])
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [1, 1]
    assert "ZeroDivisionError" in said[0][1]
    assert said[1] == ("", "")


def test_a_batch_is_shared_equally_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert MicroBatches.whole(16).micro_batch == 4
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ModelError, match="batch_size=15"):
        MicroBatches.whole(16)


def test_processes_without_a_gpu_each_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(SettingError, match="4 processes cannot run"):
        join("auto")
    with pytest.raises(SettingError, match="CUDA_VISIBLE_DEVICES=1"):
        join("cuda:1")
