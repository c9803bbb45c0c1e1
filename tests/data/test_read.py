"""Reading files, folders and tables as they come."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.errors import ColumnError, DataError

ROWS = [
    {"question": "Who wrote Emma?", "answer": "Jane Austen"},
    {"question": 'Who said "no, never"?\nAnd when?', "answer": "Nan"},
]


def _csv(rows: list[dict[str, str]], separator: str = ",") -> str:
    cells = [["question", "answer"], *([row["question"], row["answer"]] for row in rows)]
    return "\r\n".join(separator.join('"' + c.replace('"', '""') + '"' for c in line) for line in cells) + "\r\n"


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _pairs(data: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.question, e.answers) for e in curate.read(data).examples()]


EXPECTED = [(row["question"], (row["answer"],)) for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", _csv(ROWS)),
        ("a.tsv", _csv(ROWS, "\t")),
        ("bom.csv", "\ufeff" + _csv(ROWS)),
        ("a.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n"),
        ("array.json", json.dumps(ROWS)),
        ("wrapped.json", json.dumps({"data": ROWS})),
        ("lines.json", "\n".join(json.dumps(row) for row in ROWS)),
        ("a.csv.gz", gzip.compress(_csv(ROWS).encode())),
    ],
)
def test_every_text_format_gives_the_same_examples(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert _pairs(_write(tmp_path / name, content)) == EXPECTED


def test_parquet_and_every_table_in_memory_give_the_same_examples(tmp_path: Path) -> None:
    from datasets import Dataset

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    held = [tmp_path / "a.parquet", ROWS, pa.Table.from_pylist(ROWS), pd.DataFrame(ROWS), pl.DataFrame(ROWS)]
    for data in [*held, Dataset.from_list(ROWS)]:
        assert _pairs(data) == EXPECTED


def test_a_folder_and_a_glob_are_read_as_one_table(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        _write(tmp_path / f"{number}.jsonl", json.dumps(row))
    assert _pairs(tmp_path) == _pairs(str(tmp_path / "*.jsonl")) == EXPECTED
    (tmp_path / ".ipynb_checkpoints").mkdir()
    _write(tmp_path / ".ipynb_checkpoints" / "0-checkpoint.jsonl", json.dumps(ROWS[0]))
    assert _pairs(tmp_path) == EXPECTED, "a hidden copy is no data"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("latin.csv", "question,answer\r\nwho?,“Zoë”\r\n".encode("cp1252")),
        ("latin.jsonl", '{"question": "who?", "answer": "“Zoë”"}\n'.encode("cp1252")),
        ("utf16.csv", "question,answer\nwho?,“Zoë”\n".encode("utf-16")),
    ],
)
def test_other_encodings_are_read_and_what_is_guessed_is_said(
    tmp_path: Path, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert _pairs(_write(tmp_path / name, content)) == [("who?", ("“Zoë”",))]
    said = f"{name}, line {2 if name == 'latin.csv' else 1}: byte 0x93 is not UTF-8; the file is read as Windows-1252"
    assert (said in caplog.text) == name.startswith("latin")


ROW = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, min_size=1),
        max_leaves=4,
    )
    | st.sampled_from(["2020-01-01", ["2020-01-01T00:00:00Z"], 2**53 + 1]),
    min_size=1,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=4))
def test_lines_read_by_arrow_are_the_table_that_python_makes_of_them(rows: list[dict[str, Any]]) -> None:
    from curate.data.json_rows import read_json, table_from_rows

    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    expected = table_from_rows(rows, "rows")
    table = read_json(lines.encode(), "a.jsonl")
    assert table.schema == expected.schema
    assert repr(table.to_pylist()) == repr(expected.to_pylist())  # repr, since NaN is not NaN


def test_only_plain_numbers_become_numbers() -> None:
    from curate.data.formats import read_delimited

    content = b"n,x,code,word,gap\n1,0.5,007,nan,3\n20,3.0,08,None,\n"
    table = read_delimited(content, Path("a.csv"), ",")
    assert table.to_pylist() == [
        {"n": 1, "x": 0.5, "code": "007", "word": "nan", "gap": 3},
        {"n": 20, "x": 3.0, "code": "08", "word": "None", "gap": None},
    ]


TEXT = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1).map(str.strip).filter(bool)
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_any_question_and_answer_survives_every_format(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("roundtrip")
    rows = [{"question": q, "answers": [a]} for q, a in pairs]
    expected = [(q, (a,)) for q, a in pairs]
    _write(folder / "a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    spelled = [{"question": q, "answer": json.dumps([a])} for q, a in pairs]
    _write(folder / "a.csv", _csv(spelled))
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        assert _pairs(folder / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "is empty"),
        ("header.csv", "question,answer\n", "no rows"),
        ("ragged.csv", 'question,answer\n"a\nb",x\nc\n', "line 4: found 1 cells"),
        ("ragged.tsv", "question\tanswer\na\tb\nc\td\te\n", "line 3: found 3 cells"),
        ("tabs.csv", "question\tanswer\na\tb\n", "separated by '\\t'"),
        ("twice.csv", "question,answer,answer\na,b,c\n", "more than one column named 'answer'"),
        ("json.csv", '{"question": "a", "answer": "b"}\n', "holds JSON"),
        ("binary.csv", b"question,answer\n\x00\x01", "binary"),
        ("text.parquet", "question,answer\na,b\n", "not a Parquet file"),
        ("cut.parquet", b"PAR1abcdef", "cut off or damaged"),
        ("csv.jsonl", "question,answer\na,b\n", "not JSON"),
        ("broken.jsonl", '{"question": "a", "answer": "b"}\n{"question": \n', "line 2: not JSON"),
        ("repeated.jsonl", '{"question": "a", "question": "b"}\n', "has the key 'question' twice"),
        (
            "line.jsonl",
            '{"question": "a", "answer": "b"}\n{"answer": "a", "answer": "b"}\n',
            "line 2: an object has the key",
        ),
        ("list.json", '[["a", "b"]]', "item 1: found list"),
        ("half.jsonl", '{"question": "a", "answer": "b"}\n{"question": "\\ud83d", "answer": "b"}\n', "key 'question'"),
        ("notes.txt", "question,answer\na,b\n", "a name that tells no format"),
        ("blank.csv", "question,answer\nwho?,\nwhere?,  \n", "no row has an answer"),
    ],
)
def test_wrong_files_are_refused_with_what_is_wrong(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        curate.read(_write(tmp_path / name, content))
    assert message in str(caught.value)


def test_a_parquet_file_under_another_name_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.csv")
    with pytest.raises(DataError, match="is a Parquet file"):
        curate.read(tmp_path / "a.csv")


def test_ids_follow_the_content_and_number_exact_repeats() -> None:
    rows = [*ROWS, ROWS[0]]
    ids = curate.read(rows).ids
    assert ids[2] == f"{ids[0]}-2"
    assert curate.read(rows[::-1]).ids == [ids[0], ids[1], f"{ids[0]}-2"]


def test_a_key_of_the_user_is_the_id() -> None:
    rows = [{**row, "key": number} for number, row in enumerate(ROWS)]
    assert curate.read(rows, id_column="key").ids == ["0", "1"]


def test_a_column_named_like_ours_is_not_taken_for_ours() -> None:
    with pytest.raises(ColumnError, match="curate did not write"):
        _ = curate.read([{**row, "curate_id": "mine"} for row in ROWS]).ids


def test_real_popqa_is_read_as_it_is(popqa: Path) -> None:
    data = curate.read(popqa)
    first = data.examples()[0]
    assert len(data) == 2981
    assert len(set(data.ids)) == 2981
    assert first.question == "What is George Rankin's occupation?"
    assert first.answers == ("politician", "political leader", "political figure", "polit.", "pol")
    assert (first.subject, first.relation) == ("George Rankin", "occupation")
    assert data.table["id"].null_count == 735


MMLU_ROW = ["What came first?", "trade", "warfare", "religion", "writing"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("headerless.csv", ",".join([*MMLU_ROW, "C"]) + "\n"),
        ("header.csv", "question,choice0,choice1,choice2,choice3,answer\n" + ",".join([*MMLU_ROW, "2"]) + "\n"),
        (
            "hub.jsonl",
            json.dumps({"question": MMLU_ROW[0], "subject": "prehistory", "choices": MMLU_ROW[1:], "answer": 2}),
        ),
    ],
)
def test_every_layout_of_multiple_choice_gives_choices_and_the_right_one(
    tmp_path: Path, name: str, content: str
) -> None:
    (example,) = curate.read(_write(tmp_path / name, content)).examples()
    assert (example.question, example.choices, example.answers) == (MMLU_ROW[0], tuple(MMLU_ROW[1:]), ("religion",))
    assert example.subject is None
    assert example.relation == ("prehistory" if name == "hub.jsonl" else None)


def test_both_layouts_of_real_mmlu_give_the_same_examples(shared: Path) -> None:
    folders = [shared / "data" / folder / "test" for folder in ("mmlu", "mmlu_hub_layout")]
    first, second = ([(e.question, e.choices, e.answers) for e in curate.read(f).examples()] for f in folders)
    assert first == second
    assert len(first) == 930
    assert all(len(choices) == 4 and len(answers) == 1 for _, choices, answers in first)


def test_a_column_of_mixed_types_keeps_every_value_and_null_is_null() -> None:
    rows = [
        {"question": "a?", "answer": ["x", "y"]},
        {"question": "b?", "answer": "z"},
        {"question": "c?", "answer": None},
    ]
    assert [e.answers for e in curate.read(rows).examples()] == [("x", "y"), ("z",), ()]
    assert curate.read(rows).table["answer"].null_count == 1


def test_a_frame_comes_back_with_its_index_and_a_dataset_with_its_features(capfd: pytest.CaptureFixture[str]) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    rows = [{"question": q, "answer": "x", "views": v, "kind": v} for v, q in enumerate("ab")]
    frame = pd.DataFrame(rows, index=pd.Index([100, 119], name="key"))
    assert curate.score(frame, "column:views").index.tolist() == [100, 119]
    assert curate.select(curate.score(frame, "column:views"), top=0.5).kept.index.tolist() == [119]
    text, number = Value("string"), Value("int64")
    features = Features({"question": text, "answer": text, "views": number, "kind": ClassLabel(names=["n", "y"])})
    scored = curate.score(Dataset.from_list(rows, features=features), "column:views")
    assert scored.features["kind"] == features["kind"]
    assert capfd.readouterr().err == "", "a progress bar that nobody asked for"


@pytest.mark.parametrize("data", [[1, 2], pd.DataFrame([["q", "a", 1]], columns=["question", "answer", "answer"])])
def test_what_is_no_table_is_refused(data: object) -> None:
    with pytest.raises(DataError):
        curate.read(data)


@pytest.mark.parametrize(("data", "found"), [([], "no examples in the list"), ("", "name of the data is empty")])
def test_nothing_is_told_as_nothing(data: object, found: str) -> None:
    with pytest.raises(DataError, match=found) as error:
        curate.score(data, by="column:views")
    assert error.value.expected
    assert error.value.try_next


def test_files_of_different_layouts_are_not_one_dataset(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", json.dumps(ROWS[0]))
    _write(tmp_path / "b.jsonl", json.dumps({"question": "q", "possible_answers": ["x"]}))
    with pytest.raises(DataError, match=r"b\.jsonl has other columns"):
        curate.read(tmp_path)
