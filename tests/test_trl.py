"""TRL trains on what select writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import curate


@pytest.mark.parametrize("format", ["prompt-completion", "messages"])
@pytest.mark.filterwarnings("ignore")
def test_sft_trainer_takes_a_split_as_it_is(
    films: list[dict[str, Any]], tiny_model: Callable[[str], Path], tmp_path: Path, format: str
) -> None:
    trl = pytest.importorskip("trl")
    from datasets import load_dataset
    from transformers import AutoTokenizer

    curate.select(films, top=4, by="column:views", output=tmp_path / "top.jsonl", format=format)
    rows = load_dataset("json", data_files=str(tmp_path / "top.jsonl"), cache_dir=str(tmp_path / "cache"))["train"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    settings = trl.SFTConfig(
        str(tmp_path / "model"),
        max_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
    )
    model = str(tiny_model("llama"))
    result = trl.SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer).train()
    assert result.global_step == 2
