"""Splits in the shapes of trainers and in other kinds of file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import curate
from curate.data.export import push_folder
from curate.errors import OutputError, SettingError

Films = list[dict[str, Any]]
RUN = Callable[..., Any]
PAIRS = st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=4)


def select_jsonl(rows: Films, folder: Path, **options: Any) -> list[dict[str, Any]]:
    curate.select(rows, whole=True, by="column:views", output=folder / "split.jsonl", **options, force=True)
    return [json.loads(line) for line in (folder / "split.jsonl").read_text().splitlines()]


def test_the_completion_owns_the_space_before_the_answer(films: Films, tmp_path: Path) -> None:
    first = select_jsonl(films, tmp_path, format="prompt-completion")[0]
    assert first == {"prompt": "Question: Who directed Alien?\nAnswer:", "completion": " Ridley Scott"}


def test_messages_and_alpaca_hold_question_and_first_answer(films: Films, tmp_path: Path) -> None:
    question, answer = "Who directed Alien?", "Ridley Scott"
    user, assistant = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
    assert select_jsonl(films, tmp_path, format="messages")[0] == {"messages": [user, assistant]}
    alpaca = {"instruction": question, "input": "", "output": answer}
    assert select_jsonl(films, tmp_path, format="alpaca")[0] == alpaca


def test_multiple_choice_is_answered_by_the_letter(tmp_path: Path) -> None:
    rows = [{"question": "2+2?", "choices": ["3", "4"], "answer": 1, "views": 1.0}]
    made = select_jsonl(rows, tmp_path, format="prompt-completion")[0]
    assert made["prompt"].endswith("2+2?\nA. 3\nB. 4\nAnswer:")
    assert made["completion"] == " B"


def test_what_cannot_train_is_left_out_and_counted(films: Films, tmp_path: Path) -> None:
    rows = [{**films[0], "answers": []}, films[1]]
    assert len(select_jsonl(rows, tmp_path, format="alpaca")) == 1
    manifest = json.loads((tmp_path / "split.jsonl.manifest.json").read_text())
    assert (manifest["export"]["format"], manifest["export"]["without_answer"]) == ("alpaca", 1)


@pytest.mark.parametrize("to", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("format", ["original", "prompt-completion", "messages", "alpaca"])
def test_datasets_reads_every_folder_by_split(films: Films, tmp_path: Path, format: str, to: str) -> None:
    if (format, to) == ("messages", "csv"):
        with pytest.raises(SettingError, match="CSV"):
            curate.select(films, top=2, by="column:views", output=tmp_path / "s", format=format, to=to)
        return
    for _ in range(2):  # the second time in place of the first
        curate.select(films, top=2, bottom=3, by="column:views", output=tmp_path / "s", format=format, to=to)
    loaded = datasets.load_dataset(str(tmp_path / "s"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == {"top": 2, "bottom": 3}
    assert (tmp_path / "s" / "histogram.png").read_bytes()[:4] == b"\x89PNG"
    assert f"format `{format}`" in (tmp_path / "s" / "README.md").read_text()


def test_the_ending_tells_the_kind_of_file_unless_to_does(films: Films, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not end in"):
        curate.select(films, top=2, by="column:views", output=tmp_path / "top.parquet", to="csv")
    curate.select(films, top=2, by="column:views", output=tmp_path / "top.csv")
    with (tmp_path / "top.csv").open(newline="") as file:
        assert [row["answers"] for row in csv.DictReader(file)] == ['["Ridley Scott"]', '["horror"]']


def test_a_format_that_there_is_not_is_refused_before_any_work(curate: RUN) -> None:
    result = curate("select", "absent.parquet", "--top", "0.5", "-o", "s/", "--format", "chatml")
    assert result.exit_code == 1
    assert "prompt-completion" in result.stderr


@settings(max_examples=40)
@example([("\x00", "0")], "csv")
@given(PAIRS, st.sampled_from(["jsonl", "csv", "parquet"]))
def test_any_text_survives_every_kind_of_file(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], to: str
) -> None:
    rows = [{"question": q, "answers": [a, "x"], "views": 1.0} for q, a in pairs]
    path = tmp_path_factory.getbasetemp() / f"any.{to}"
    curate.select(rows, whole=True, by="column:views", output=path, force=True)
    again = curate.read(path).examples()
    assert [(e.question, e.answers) for e in again] == [(e.question, e.answers) for e in curate.read(rows).examples()]


@pytest.mark.parametrize("to", ["parquet", "jsonl", "csv"])
def test_datasets_gives_the_rows_of_this_folder_and_not_what_it_kept_of_another(tmp_path: Path, to: str) -> None:
    for folder in ("one", "other"):
        rows = [{"question": f"{folder} {n}?", "answer": "x", "score_x": float(n)} for n in range(8)]
        for top in (2, 3):
            curate.select(rows, top=top, bottom=2, output=tmp_path / folder / "splits", to=to, force=True)
            loaded = datasets.load_dataset(str(tmp_path / folder / "splits"), cache_dir=str(tmp_path / "cache"))
            assert loaded["top"]["question"] == [f"{folder} {n}?" for n in range(8 - top, 8)]


class Hub:
    """The two calls of the Hub client, and what they were given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.said: list[dict[str, Any]] = []
        self.error = error

    def create_repo(self, name: str, **given: Any) -> str:
        if self.error:
            raise self.error
        self.said.append({"name": name, **given})
        return f"https://hub/datasets/{name}"

    def upload_folder(self, **given: Any) -> None:
        self.said.append(given)


def test_a_folder_is_pushed_as_a_private_dataset(tmp_path: Path) -> None:
    hub = Hub()
    assert push_folder(tmp_path, "me/splits", api=hub) == "https://hub/datasets/me/splits"
    created, uploaded = hub.said
    assert created == {"name": "me/splits", "repo_type": "dataset", "private": True, "exist_ok": True}
    assert (uploaded["repo_id"], uploaded["folder_path"]) == ("me/splits", str(tmp_path))


def test_what_the_hub_refuses_is_told_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="hf auth login"):
        push_folder(tmp_path, "me/splits", api=Hub(OSError("401 Unauthorized")))


def test_without_network_the_splits_are_kept_and_the_message_says_so(curate: RUN, films: Films, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, films)))
    line = ["select", "f.jsonl", "--by", "column:views", "--top", "0.5"]
    result = curate(*line, "-o", "s/", "--push-to-hub", "me/splits")
    assert result.exit_code == 1
    assert "could not be uploaded" in result.stderr
    assert pq.read_metadata(tmp_path / "s" / "top.parquet").num_rows == 3
    assert curate(*line, "-o", "s.parquet", "--push-to-hub", "me/splits").exit_code == 1
    assert curate(*line, "-o", "t/", "--push-to-hub", "nobody").exit_code == 1
