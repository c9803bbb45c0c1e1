"""Splits as files: the same rows, types and bytes, whole or not at all."""

from __future__ import annotations

import datetime
import decimal
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.data import stores
from curate.errors import DataError, OutputError, SelectionError
from tests.selection.rows import Rows, ids, ids_in


@pytest.mark.parametrize(
    "layout", ["one group", "small groups", "long group in pieces", "heavy group in pieces", "three files"]
)
def test_the_same_rows_give_the_same_bytes_however_they_lie(
    layout: str, scored: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.Table.from_pylist(scored)
    source = tmp_path / "in" / "scored.parquet"
    source.parent.mkdir()
    if layout == "three files":
        for i in range(3):
            pq.write_table(table[4 * i : 4 * i + 4], source.with_name(f"part-{i}.parquet"))
        source = source.parent
    else:
        pq.write_table(table, source, row_group_size=5 if layout == "small groups" else 100)
    if layout == "long group in pieces":
        monkeypatch.setattr(stores, "WHOLE_ROWS", 5)
        monkeypatch.setattr(stores, "BATCH", 5)
    if layout == "heavy group in pieces":
        monkeypatch.setattr(stores, "WHOLE_BYTES", pq.read_metadata(source).row_group(0).total_byte_size // 3)
    curate.select(source, top=0.5, random=0.5, output=tmp_path / "splits")
    curate.select(table, top=0.5, random=0.5, output=tmp_path / "expected")
    for name in ("top", "random"):
        written, expected = (pq.read_table(tmp_path / d / f"{name}.parquet") for d in ("splits", "expected"))
        assert written.equals(expected)
        groups = pq.read_metadata(tmp_path / "splits" / f"{name}.parquet").num_row_groups
        assert groups == 1


def test_a_rerun_writes_the_same_bytes(file: Path, tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        curate.select(file, top=0.5, bottom=0.5, random=0.5, whole=True, order="shuffled", output=tmp_path / "splits")
        written.append({p.name: p.read_bytes() for p in (tmp_path / "splits").iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 10, "four splits and their manifests, the card, the picture"


def test_row_groups_are_full_and_the_reader_runs_ahead_of_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.data import files

    monkeypatch.setattr(files, "ROW_GROUP", 7)
    monkeypatch.setattr(stores, "BATCH", 3)
    table = pa.table({"question": ["q"] * 40, "answer": ["a"] * 40, "score_x": np.arange(40.0)})
    curate.select(table, top=30, output=tmp_path / "top.parquet")
    footer = pq.read_metadata(tmp_path / "top.parquet")
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [7, 7, 7, 7, 2]
    columns = [footer.row_group(1).column(i) for i in range(3)]
    assert [column.is_stats_set for column in columns] == [False, False, True], "numbers tell what can be skipped"
    assert (columns[2].statistics.min, columns[2].statistics.max) == (17, 23)
    assert pq.read_table(tmp_path / "top.parquet")["score_x"].to_pylist() == list(range(10, 40))


def test_every_column_keeps_its_type_its_values_and_its_metadata(tmp_path: Path) -> None:
    when = datetime.datetime(2021, 10, 1, tzinfo=datetime.timezone.utc)
    n = 6
    columns: dict[str, pa.Array] = {
        "question": pa.array(["q"] * n, pa.large_string()),
        "answers": pa.array([["a"], [], None, ["b", "c"], ["d"], ["e"]], pa.large_list(pa.string())),
        "relation": pa.array(["r", None, "r", "s", "s", "r"]).dictionary_encode(),
        "nested": pa.array([{"a": [{"b": i}], "c": None} for i in range(n)]),
        "day": pa.array([datetime.date(2021, 1, 1 + i) for i in range(n)]),
        "when": pa.array([when] * n, pa.timestamp("ns", "Europe/Rome")),
        "price": pa.array([decimal.Decimal("1.20")] * n, pa.decimal128(20, 2)),
        "map": pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int8())),
        "half": pa.array(np.arange(n, dtype=np.float16)),
        "blob": pa.array([b"\x00\xff"] * n),
        "nothing": pa.nulls(n),
        "huge": pa.array([2**64 - 1] * n, pa.uint64()),
        "score_x": pa.array([1.0, float("inf"), None, float("nan"), -0.0, float("-inf")]),
    }
    field = pa.field("note", pa.string(), nullable=False, metadata={"unit": "words"})
    fields = [pa.field(name, array.type) for name, array in columns.items()]
    table = pa.table(
        [*columns.values(), pa.array(["x"] * n)], schema=pa.schema([*fields, field], metadata={"mine": "kept"})
    )
    pq.write_table(table, tmp_path / "in.parquet")
    given = pq.read_table(tmp_path / "in.parquet")
    curate.select(tmp_path / "in.parquet", whole=True, output=tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.schema.remove_metadata().equals(given.schema.remove_metadata(), check_metadata=False)
    assert written.schema.field("note").metadata[b"unit"] == b"words"
    assert written.schema.metadata[b"mine"] == b"kept"
    assert b"curate" in written.schema.metadata
    assert written.replace_schema_metadata(None).equals(given.take([0, 1, 4, 5]).replace_schema_metadata(None))


@pytest.mark.parametrize("name", ["x", "x.new"])
def test_a_score_without_nulls_is_read_once_and_written_to_the_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.array([1.5, np.nan, -0.0, np.inf, -np.inf, 0.0])
    scores.view(np.uint64)[1] += 7  # a NaN unlike others
    columns = {"score_x.new": scores, "score_x": scores, "question": ["q"] * 6, "answer": ["a"] * 6}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=4)
    read: list[Any] = []
    pieces = stores.ParquetRows.pieces
    monkeypatch.setattr(
        stores.ParquetRows,
        "pieces",
        lambda self, names=None, *kind: (read.append(names), pieces(self, names, *kind))[1],
    )
    curate.select(tmp_path / "in.parquet", by=name, whole=True, missing="lowest", output=tmp_path / "out.parquet")
    assert read == [[f"score_{name}"], [column for column in columns if column != f"score_{name}"]]
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.column_names == list(columns)
    assert written[f"score_{name}"].to_numpy().tobytes() == scores.tobytes()


def test_a_null_score_stays_null_and_nan_stays_nan(tmp_path: Path) -> None:
    table = pa.table({"question": list("abcd"), "answer": list("abcd"), "score_x": [1.0, None, float("nan"), 2.0]})
    pq.write_table(table, tmp_path / "in.parquet")
    curate.select(tmp_path / "in.parquet", whole=True, missing="lowest", output=tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")["score_x"]
    assert written.is_null().to_pylist() == [False, True, False, False]
    assert str(written.to_pylist()) == "[1.0, None, nan, 2.0]"


def test_what_cannot_be_hashed_leaves_no_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise DataError("gone")

    monkeypatch.setattr(stores, "file_fingerprint", fail)
    with pytest.raises(DataError, match="gone"):
        curate.select(file, top=3, output=tmp_path / "top.parquet")
    assert not (tmp_path / "top.parquet").exists()


def test_a_file_is_not_hashed_to_its_end_when_its_selection_fails(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = threading.Event()

    def hash_for_long(_: object, asked_to: threading.Event) -> str:
        if asked_to.wait(30):
            given_up.set()
        return ""

    monkeypatch.setattr(stores, "file_fingerprint", hash_for_long)
    with pytest.raises(SelectionError):
        curate.select(file, top=1e-9, output=tmp_path / "top.parquet")
    assert given_up.wait(10)
    chosen = curate.select(file, top=3)
    with pytest.raises(ZeroDivisionError):
        chosen.write(tmp_path / "top.parquet", progress=lambda *_: 1 // 0)  # type: ignore[arg-type,return-value]
    monkeypatch.undo()
    chosen.write(tmp_path / "top.parquet")
    assert len(pq.read_table(tmp_path / "top.parquet")) == 3


def test_a_table_is_selected_from_whatever_the_encoding_of_its_texts(tmp_path: Path) -> None:
    texts = [f"http://facts.example/entity/Q{i:06}" for i in range(2000)]
    table = pa.table({"question": texts, "answer": ["yes"] * 2000, "score_x": np.arange(2000.0)})
    for name, encoding in (("a", "DELTA_BYTE_ARRAY"), ("b", "DELTA_LENGTH_BYTE_ARRAY"), ("c", "PLAIN")):
        kinds = {"question": encoding, "answer": encoding}
        pq.write_table(table, tmp_path / f"{name}.parquet", use_dictionary=False, column_encoding=kinds)
        curate.select(tmp_path / f"{name}.parquet", top=0.5, output=tmp_path / "top.parquet", force=True)
        assert pq.read_table(tmp_path / "top.parquet").replace_schema_metadata().equals(table[1000:])


def test_texts_that_repeat_are_written_like_others(tmp_path: Path) -> None:
    n = 500
    columns = {"question": [f"q{i}" for i in range(n)], "answer": ["a"] * n, "score_x": np.arange(float(n))}
    few = pa.array([None if i % 7 == 0 else f"a relation of some length {i % 3}" for i in range(n)])
    table = pa.table({**columns, "relation": few, "wide": few.cast(pa.large_string())})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=100)
    curate.select(tmp_path / "in.parquet", top=0.5, random=0.5, output=tmp_path / "read")
    curate.select(table, top=0.5, random=0.5, output=tmp_path / "given")
    for name in ("top", "random"):
        read, given = (pq.read_table(tmp_path / d / f"{name}.parquet") for d in ("read", "given"))
        assert read.equals(given)
        assert read.schema.field("wide").type == pa.large_string()


def test_random_access_order_is_the_order_asked_for(file: Path, tmp_path: Path) -> None:
    for order in ("popular-first", "obscure-first", "shuffled"):
        curate.select(file, whole=True, order=order, output=tmp_path / f"{order}.parquet")  # type: ignore[arg-type]
        manifest = json.loads((tmp_path / f"{order}.parquet.manifest.json").read_text())
        assert manifest["selection"]["order"] == order
    popular = pq.read_table(tmp_path / "popular-first.parquet")
    assert popular["score_views"].to_pylist() == [9, 8, 7, 5, 5, 5, 5, 4, 3, 2, 1]
    assert ids_in(tmp_path / "obscure-first.parquet") == ids(popular)[::-1]
    shuffled = ids_in(tmp_path / "shuffled.parquet")
    assert sorted(shuffled) == sorted(ids(popular))
    assert shuffled != ids(curate.select(file, whole=True).kept)


def test_an_error_while_reading_ends_the_writing_and_leaves_nothing(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    offset = pq.read_metadata(file).row_group(0).column(0).data_page_offset
    content[offset : offset + 40] = b"\xff" * 40  # the questions; footer and scores stay whole
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(content)
    with pytest.raises(DataError, match=r"broken.parquet cannot be read"):
        curate.select(broken, top=3, output=tmp_path / "splits")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.parquet", "scored.parquet"]


def test_a_folder_that_curate_did_not_make_is_left_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="did not write"):
        curate.select(file, top=3, bottom=3, output=tmp_path / "mine")


def test_a_selection_of_a_selection_is_written_and_remembers(scored: Rows, file: Path, tmp_path: Path) -> None:
    first = curate.select(file, bottom=0.5, budget_tokens=60, tokenizer=lambda t: {"input_ids": [list(x) for x in t]})
    second = first.reselect(top=0.2)
    assert list(second.reselect(order="shuffled").splits) == ["top"]
    assert second.reselect(budget_tokens=60).summary()["splits"][0]["tokens"] == 52
    second.write(tmp_path / "out" / "top.parquet")
    assert ids_in(tmp_path / "out" / "top.parquet") == ids(second.kept)
    with pytest.raises(OutputError, match="would replace the input"):
        second.write(file)
    with pytest.raises(SelectionError, match=r"nothing called 'output'[^$]*write\(OUTPUT\)"):
        first.reselect(output="x.parquet")


def test_selecting_from_a_file_imports_no_pandas_and_no_torch(file: Path, tmp_path: Path) -> None:
    code = (
        "import sys, curate; curate.select(sys.argv[1], top=3, output=sys.argv[2]); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'pandas', 'polars') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(file), str(tmp_path / "top.parquet")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_card_shows_what_the_data_holds_and_obeys_none_of_it(tmp_path: Path) -> None:
    relations = ["<script>alert(1)</script>", "a | b", "[click](http://evil)", "`code`\n# heading", "R&B"]
    rows = [
        {
            "question": f"{n}?",
            "answer": f"<img src=x>{n % 3}",
            "relation": relations[n % 5],
            "score_views": float(n % 5),
        }
        for n in range(40)
    ]
    curate.select(rows, top=0.3, bottom=0.3, output=tmp_path / "splits")
    card = (tmp_path / "splits" / "README.md").read_text()
    assert "<script>" not in card and "<img" not in card and "[click]" not in card
    assert "\n# heading" not in card and "a | b" not in card
    assert "&lt;img src=x&gt;" in card or "&lt;script&gt;" in card or "R&amp;B" in card
