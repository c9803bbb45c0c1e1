"""Without its extras: every command that needs one names it, and none ends in a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = ("torch", "transformers", "peft", "accelerate", "safetensors", "scipy", "ray", "lm_eval")

COMMANDS = {
    "score data.jsonl --by loss --model . -o out.parquet": "lm",
    "score data.jsonl --by column:views --engine ray -o out.parquet": None,  # a column needs no workers
    "score data.jsonl --by loss --model . --engine ray -o out.parquet": "ray",
    "select data.jsonl --by column:views --budget-tokens 100 --tokenizer . -o out.parquet": "lm",
    "validate data.jsonl --eval data.jsonl --model . -o run": "lm",
    "simulate facts -o out": "lm",
    "simulate one-layer -o out": "lm",
    "demo -o demo": "lm",
    "score data.jsonl --by column:views -o out.parquet": None,
    "select data.jsonl --by column:views --top 0.5 -o out.parquet": None,
    "show data.jsonl": None,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_base_install_names_the_extra_or_works(command: str, tmp_path: Path) -> None:
    rows = [{"question": f"Q{i}?", "answer": f"A{i}", "views": i} for i in range(6)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    blocked = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS})); from curate.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, *command.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    extra = COMMANDS[command]
    if extra is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1
        assert f"pip install 'curate-qa[{extra}]'" in done.stderr
