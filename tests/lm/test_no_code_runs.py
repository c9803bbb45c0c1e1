"""No code from a model's folder runs, whatever there is to read on stdin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
OWN_MODEL = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
OWN_TOKENIZER = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
COMMANDS = {
    "score": "score films.jsonl --by loss --model model --device cpu -o out.parquet --quiet",
    "validate": "validate splits --eval splits/holdout.parquet --model model --device cpu --seeds 1 -o out",
    "select": "select scored.parquet --by column:views --budget-tokens 60 --tokenizer model -o out.parquet",
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there once code of the model's folder has run."""
    return tmp_path / "it ran"


@pytest.fixture
def folder(
    tmp_path: Path,
    marker: Path,
    films: list[dict[str, Any]],
    curate: Callable[..., Any],
    tiny_model: Callable[..., Any],
) -> Path:
    """Data, splits and scores, and in `model` a model with a file of code that nothing asks for yet."""
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    score = ("score", "films.jsonl", "--by", "column:views", "-o", "scored.parquet", "--quiet")
    assert curate(*score).exit_code == 0
    split = ("select", "scored.parquet", "--top", "0.5", "--holdout", "2", "-o", "splits/")
    assert curate(*split).exit_code == 0
    shutil.copytree(tiny_model("llama"), tmp_path / "model")
    (tmp_path / "model" / "own.py").write_text(CODE.format(marker=str(marker)))
    return tmp_path


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def answered_yes(curate: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Types a command with as many lines `y` on stdin as it cares to read; code would be copied below the folder."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder / "modules"))
    return lambda command: curate(*command.split(), input="y\n" * 100)


def refused(done: Any) -> bool:
    """Whether it ended in one message of ours and nothing else."""
    message = "The model 'model' needs code of its own, which curate never runs."
    return done.exit_code == 1 and done.stderr.count(message) == 1 and not done.stdout


@pytest.mark.parametrize("command", ["score", "validate"])
def test_code_of_a_model_is_not_run_though_stdin_says_yes(
    answered_yes: Callable[[str], Any], folder: Path, marker: Path, command: str
) -> None:
    change(folder / "model" / "config.json", model_type="own", auto_map=OWN_MODEL)
    done = answered_yes(COMMANDS[command])
    assert refused(done), done.stderr
    assert not marker.exists()
    assert not (folder / "out.parquet").exists()


@pytest.mark.parametrize("command", list(COMMANDS))
def test_code_of_a_tokenizer_is_not_run_though_stdin_says_yes(
    answered_yes: Callable[[str], Any], folder: Path, marker: Path, command: str
) -> None:
    change(folder / "model" / "config.json", model_type="own")
    change(folder / "model" / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=OWN_TOKENIZER)
    done = answered_yes(COMMANDS[command])
    assert refused(done), done.stderr
    assert not marker.exists()
    assert not (folder / "out.parquet").exists()


def test_a_tokenizer_that_needs_no_code_counts_beside_a_model_that_does(
    answered_yes: Callable[[str], Any], folder: Path, marker: Path
) -> None:
    change(folder / "model" / "config.json", model_type="own", auto_map=OWN_MODEL)
    assert answered_yes(COMMANDS["select"]).exit_code == 0
    assert not marker.exists()


def test_a_built_in_model_that_also_brings_code_is_read_without_it(
    answered_yes: Callable[[str], Any], folder: Path, marker: Path
) -> None:
    change(folder / "model" / "config.json", auto_map=OWN_MODEL)
    change(folder / "model" / "tokenizer_config.json", auto_map=OWN_TOKENIZER)
    assert answered_yes(COMMANDS["score"]).exit_code == 0
    assert not marker.exists()
