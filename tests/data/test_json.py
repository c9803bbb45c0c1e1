"""JSON in any shape: rows however they lie in an object, and texts that no parser bears."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.data.json_rows import read_json
from curate.errors import DataError

BIRD = {"question": "Which bird cannot fly?", "answer": "kiwi"}
STONE = {"question": "Which stone floats?", "answer": "pumice"}
ROWS = [BIRD, STONE]


def rows_of(content: Any, split: str | None = None) -> list[dict[str, Any]]:
    """What is read of a value written as JSON."""
    rows: list[dict[str, Any]] = read_json(json.dumps(content).encode(), "a.json", split).to_pylist()
    return rows


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The rows as lists by column."""
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        {"data": ROWS, "version": "1.0"},
        {"Questions": ROWS, "Version": "1.0", "authors": [{"name": "Ann"}]},
        columns(ROWS),
        {"data": columns(ROWS)},
        {"train": ROWS},
        {name: dict(enumerate(values)) for name, values in columns(ROWS).items()},
        {name: {"q1": values[0], "q2": values[1]} for name, values in columns(ROWS).items()},
        {"0": BIRD, "1": STONE},
        {"columns": ["question", "answer"], "index": [0, 1], "data": [[*BIRD.values()], [*STONE.values()]]},
        {"schema": {"fields": []}, "data": ROWS},
    ],
)
def test_rows_are_found_however_an_object_holds_them(content: Any) -> None:
    assert rows_of(content) == ROWS


def test_labels_of_rows_that_are_no_numbers_stay() -> None:
    assert rows_of({"q1": BIRD, "q2": STONE}) == [{"index": "q1", **BIRD}, {"index": "q2", **STONE}]


CELLS = st.none() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=5)
TABLES = st.lists(st.fixed_dictionaries({"question": st.text("abc?", min_size=1), "answer": CELLS}), min_size=1)


@given(TABLES, st.sampled_from(["columns", "index", "split", "table", "records"]))
def test_what_pandas_writes_in_any_orient_is_the_frame(rows: list[dict[str, Any]], orient: str) -> None:
    frame = pd.DataFrame(rows, dtype=object)
    found = json.loads(frame.to_json(orient=orient))  # type: ignore[call-overload]
    read = rows_of(found)
    for row in read:
        row.pop("index", None)  # of the orient `table`, which writes it as a column
    mixed = len({type(row["answer"]) for row in rows} - {type(None)}) > 1  # then each value is its JSON
    expected = [str(a) if mixed and a is not None else a for a in (row["answer"] for row in rows)]
    assert [row["question"] for row in read] == [row["question"] for row in rows]
    assert [row.get("answer") for row in read] == expected


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Who?", "answers": [{"text": "Ann", "answer_start": 1}, {"text": "Bo", "answer_start": 2}]},
        {"question": "Who?", "entities": [{"question": "x"}], "answer": "Ann"},
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann"}]},
        {"messages": [{"role": "user", "content": "Who?"}], "tools": [{"name": "x"}]},
        {"question": {"en": "Who?", "de": "Wer?"}, "answer": {"en": "Ann", "de": "Anna"}},
        {"context": "c", "n": 1},
    ],
)
def test_an_object_that_is_an_example_stays_one(row: dict[str, Any]) -> None:
    assert rows_of(row) == [row]


SPLITS = {
    "name": "birds",
    "dev": [{"input": "Which bird cannot fly?", "output": "kiwi"}],
    "test": [{"input": "Which stone floats?", "output": "pumice"}, {"input": "Which fish?", "output": "eel"}],
}


def test_of_several_splits_in_one_object_one_is_to_be_named(curate: Any, tmp_path: Path) -> None:
    from curate.data.table import read

    Path("splits.json").write_text(json.dumps(SPLITS))
    columns = {"question_column": "input", "answer_column": "output"}
    with pytest.raises(DataError, match="holds several splits: dev, test") as caught:
        read("splits.json", **columns)
    assert caught.value.try_next == "split='dev'"
    assert [e.answers for e in read("splits.json", split="test", **columns).examples()] == [("pumice",), ("eel",)]
    with pytest.raises(DataError, match="has no split 'train'"):
        read("splits.json", split="train", **columns)
    Path("rows.json").write_text(json.dumps(ROWS))
    with pytest.raises(DataError, match="has no split 'train'"):
        read("rows.json", split="train")


def test_a_split_may_be_a_table_of_columns() -> None:
    found = {"train": columns(ROWS), "test": columns([STONE])}
    assert rows_of(found, "test") == [STONE]
    with pytest.raises(DataError, match="several splits: train, test"):
        rows_of(found)
    with pytest.raises(DataError, match="several splits: data, dev"):
        rows_of({"data": ROWS, "dev": ROWS})


def test_squad_as_its_authors_publish_it_is_one_row_a_question() -> None:
    def asked(question: str, *answers: str) -> dict[str, Any]:
        return {"question": question, "id": question, "answers": [{"text": a, "answer_start": 1} for a in answers]}

    paragraphs = [
        {"context": "Kiwis …", "qas": [asked("Which?", "kiwi", "kiwi", "apteryx"), asked("Why?")]},
        {"context": "Stones …", "qas": [asked("What floats?", "pumice")]},
    ]
    rows = rows_of({"version": "1.1", "data": [{"title": "Birds", "paragraphs": paragraphs}]})
    assert [e.answers for e in curate.read(rows).examples()] == [("kiwi", "apteryx"), (), ("pumice",)]
    assert [(r["title"], r["context"], r["question"]) for r in rows] == [
        ("Birds", "Kiwis …", "Which?"),
        ("Birds", "Kiwis …", "Why?"),
        ("Birds", "Stones …", "What floats?"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 10_000 + "]" * 10_000, "too deep"),
        ('{"question": ' + "[" * 10_000 + "]" * 10_000 + "}", "too deep"),
        (
            '{"question": "a", "answer": "b"}\n{"question": "a", "answer": ' + "[" * 10_000 + "]" * 10_000 + "}",
            "line 2",
        ),
        ('{"question": "a", "answer": ' + "1" * 5_000 + "}", "4,300 digits"),
        ('{"question": "a"}\n{"answer": ' + "1" * 5_000 + "}", "line 2: a whole number has more than 4,300 digits"),
        ('{"question": "a", "answer": "b", "\\ud83d": 1}', "half of a surrogate pair"),
        ('{"question": "a", "answer": "b", "c": {"\\ud83d": 1}}', "half of a surrogate pair"),
        ('{"columns": ["question", "answer"], "data": [["a", "b"], ["c"]]}', "not as many cells"),
        ('[["a", "b"]]', "item 1: found list"),
        ('{"question": ["a", "b"], "answer": ["c"]}', "cannot be the question"),
    ],
)
def test_what_no_parser_bears_is_one_message(tmp_path: Path, content: str, message: str) -> None:
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError) as caught:
            curate.read(tmp_path / name)
        assert message in str(caught.value)
        caught.value.message().encode("utf-8")


@pytest.mark.parametrize("depth", [30, 50, 300, 900])
def test_what_lies_too_deep_for_parquet_is_said_so(depth: int, tmp_path: Path) -> None:
    row = '{"question": "a", "answer": "b", "views": 1, "deep": ' + "[" * depth + "1" + "]" * depth + "}\n"
    (tmp_path / "a.jsonl").write_text(row * 2)
    if depth > 40:
        with pytest.raises(DataError, match="Parquet has no type for the column 'deep'"):
            curate.score(str(tmp_path / "a.jsonl"), by="column:views", output=tmp_path / "b.parquet")
    else:
        curate.score(str(tmp_path / "a.jsonl"), by="column:views", output=tmp_path / "b.parquet")
        assert curate.read(tmp_path / "b.parquet").table["deep"] == curate.read(tmp_path / "a.jsonl").table["deep"]


def test_a_compressed_file_unpacks_to_so_much_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps(ROWS).encode()
    monkeypatch.setattr("curate.data.formats.MOST_UNPACKED", len(content))
    for name, packed in [("a.json.gz", gzip.compress(content)), ("a.json.bz2", bz2.compress(content))]:
        (tmp_path / name).write_bytes(packed)
        assert len(curate.read(tmp_path / name)) == 2
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(content + b" "))
    with pytest.raises(DataError, match=rf"unpacks to more than {len(content)}\."):
        curate.read(tmp_path / "b.json.gz")


@pytest.mark.parametrize("cut", [10, -9, -1])
def test_a_compressed_file_is_read_whole_or_refused(tmp_path: Path, cut: int) -> None:
    packed = [gzip.compress(json.dumps(row).encode() + b"\n") for row in ROWS]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(packed))  # of two members
    assert len(curate.read(tmp_path / "a.jsonl.gz")) == 2
    (tmp_path / "b.jsonl.gz").write_bytes(b"".join(packed)[:cut])
    with pytest.raises(DataError):
        curate.read(tmp_path / "b.jsonl.gz")


def test_a_missing_value_among_texts_is_no_text() -> None:
    rows = rows_of([{**BIRD, "answer": float("nan")}, STONE])
    assert [row["answer"] for row in rows] == [None, "pumice"]
