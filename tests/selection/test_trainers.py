"""Splits in the shapes that trainers read, and the file beside them by which each finds them.

The rows are read as LLaMA-Factory (data/README.md, converter.py) and Axolotl (docs/dataset-formats, its schema of
datasets) say that they read them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import curate as library
from curate.data.export import SHAPES
from curate.data.sources import find_files
from curate.settings import FinetuneConfig, WriteSettings, settings_of

Curate = Callable[..., Any]
EARLIER = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
EARLIER += [{"role": "assistant", "content": "Hello"}]

# What may stand in a file, as the trainers document it.
LLAMA_FACTORY = {
    "file_name": None,
    "formatting": {"alpaca", "sharegpt"},
    "columns": {"prompt", "query", "response", "history", "messages", "system", "tools"},
    "tags": {"role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"},
}
TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt", "system_tag": "system"}
SFT_DATASET = {"path", "split", "type", "ds_type", "field_messages", "message_property_mappings", "roles"}
USER_DEFINED = {"field_instruction", "field_input", "field_output", "format", "no_input_format"}
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@pytest.fixture
def scored(curate: Curate, tmp_path: Path) -> str:
    """Eight questions, those of even number after an earlier turn and a system prompt."""
    rows = [
        {
            "messages": [
                *(EARLIER if n % 2 == 0 else []),
                {"role": "user", "content": f"Who wrote book {n}?"},
                {"role": "assistant", "content": f"author {n}"},
            ],
            "views": n,
        }
        for n in range(8)
    ]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert curate("score", "chats.jsonl", "--by", "column:views", "-o", "scored.parquet", "-q").exit_code == 0
    return "scored.parquet"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def as_llama_factory(row: dict[str, Any], about: dict[str, Any]) -> list[tuple[str, str]]:
    """Roles and contents of an example; the last is learned."""
    assert about.keys() <= LLAMA_FACTORY.keys()
    assert {*about.get("columns", {})} <= LLAMA_FACTORY["columns"] and {*about.get("tags", {})} <= LLAMA_FACTORY["tags"]
    columns = about["columns"]
    if about.get("formatting", "alpaca") == "alpaca":
        asked = [row[columns["prompt"]], row[columns["query"]] if "query" in columns else ""]
        return [("user", "\n".join(filter(None, asked))), ("assistant", row[columns["response"]])]
    tags = about.get("tags", TAGS)
    names = {tags["user_tag"]: "user", tags["assistant_tag"]: "assistant", tags["system_tag"]: "system"}
    turns = [(names[turn[tags["role_tag"]]], turn[tags["content_tag"]]) for turn in row[columns["messages"]]]
    spoken = [role for role, _ in turns if role != "system"]
    assert spoken == ["user", "assistant"] * (len(spoken) // 2), "else LLaMA-Factory skips it"
    return turns


def as_axolotl(row: dict[str, Any], about: dict[str, Any]) -> list[tuple[str, str]]:
    """The same."""
    assert about.keys() <= SFT_DATASET and about["ds_type"] in ("json", "parquet", "csv")
    if about["type"] == "chat_template":
        names = about.get("message_property_mappings", {"role": "role", "content": "content"})
        turns = row[about.get("field_messages", "messages")]
        return [(ROLES[turn[names["role"]]], turn[names["content"]]) for turn in turns]
    if about["type"] == "alpaca":
        return [("user", row["instruction"]), ("assistant", row["output"])]
    own = about["type"]
    assert own.keys() <= USER_DEFINED
    asked = own["no_input_format"].replace("{instruction}", row[own["field_instruction"]])
    return [("user", asked), ("assistant", row[own["field_output"]])]


@pytest.mark.parametrize("format", SHAPES)
@pytest.mark.parametrize(("trainer", "read"), [("llama-factory", as_llama_factory), ("axolotl", as_axolotl)])
def test_a_trainer_finds_and_reads_the_splits_by_the_file_beside_them(
    curate: Curate, scored: str, tmp_path: Path, format: str, trainer: str, read: Callable[..., Any]
) -> None:
    words = (
        "select",
        scored,
        "--top",
        2,
        "--bottom",
        2,
        "--holdout",
        2,
        "--holdout-by",
        "question",
        "--format",
        format,
    )
    done = curate(*words, "--to", "jsonl", "--trainer", trainer, "-o", "splits")
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "splits"
    if trainer == "llama-factory":
        info = json.loads((folder / "dataset_info.json").read_text())
        assert {*info} == {"top", "bottom", "holdout"}
        about = info
        file = about["top"]["file_name"]
    else:
        configs = {name: yaml.safe_load((folder / f"axolotl-{name}.yaml").read_text()) for name in ("top", "bottom")}
        config = configs["top"]
        assert config["test_datasets"][0]["path"] == "holdout.jsonl" and not (folder / "axolotl-holdout.yaml").exists()
        assert (
            config["learning_rate"] == FinetuneConfig().learning_rate and config["lora_r"] == FinetuneConfig().lora_rank
        )
        about = {name: found["datasets"][0] for name, found in configs.items()}
        file = about["top"]["path"]
    rows = lines(folder / file)
    chats = [read(row, about["top"]) for row in rows]
    numbers = [int(chat[-1][1].split()[-1]) for chat in chats]
    assert len(rows) == 2 and all(chat[-1][0] == "assistant" for chat in chats)
    kept = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")]
    for number, chat in zip(numbers, chats, strict=True):
        earlier = kept if number % 2 == 0 and format in ("messages", "sharegpt") else []
        assert chat[: len(earlier)] == earlier
        assert f"Who wrote book {number}?" in chat[len(earlier)][1]
    assert {path.name for path in find_files(str(folder))} == {f"{name}.jsonl" for name in ("top", "bottom", "holdout")}
    assert "already made" in curate(*words, "--to", "jsonl", "--trainer", trainer, "-o", "splits").stderr


def test_ids_stay_beside_the_rows_where_they_are_wanted(curate: Curate, scored: str, tmp_path: Path) -> None:
    words = ("select", scored, "--top", 3, "--format", "sharegpt", "-o", "top.jsonl")
    assert curate(*words, "--keep-id").exit_code == 0
    rows = lines(tmp_path / "top.jsonl")
    ids = library.select(scored, top=3).kept["curate_id"].to_pylist()
    assert [row["curate_id"] for row in rows] == ids and {*rows[0]} == {"conversations", "curate_id"}
    again = library.read("top.jsonl")
    assert (again.ids, [e.answers for e in again.examples()]) == (ids, [("author 5",), ("author 6",), ("author 7",)])
    other = curate(*words)
    assert other.exit_code == 1 and "--force" in other.stderr, "without ids it is another file"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--keep-id -o top.jsonl", "--keep-id is for the format of a trainer"),
        ("--trainer axolotl -o splits/", "--trainer axolotl is for the format of a trainer"),
        ("--trainer axolotl --format messages -o top.jsonl", "is for a folder of splits, and top.jsonl is one file"),
        ("--trainer axolotl --format prompt-completion --template chat -o s/", "reads no prompts and completions that"),
        ("--trainer trl --format messages -o splits/", "There is no --trainer 'trl'"),
        ("--format sharegpt -o top.csv", "A CSV cell does not hold a list of messages"),
    ],
)
def test_what_does_not_go_together_is_told(curate: Curate, scored: str, words: str, told: str) -> None:
    done = curate("select", scored, "--top", 2, *words.split())
    assert done.exit_code == 1 and told in done.stderr


def test_the_formats_of_the_setting_are_those_that_there_are() -> None:
    found = {item.name: item.about["choices"] for item in settings_of(WriteSettings)}
    assert found["format"] == ("original", *SHAPES)
