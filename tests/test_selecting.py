"""From a scored table, in memory or in files of any layout, to splits."""

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
from curate.errors import ColumnError, DataError, OutputError, SelectionError
from curate.selection import explain as explaining

Rows = list[dict[str, Any]]


@pytest.fixture
def scored() -> Rows:
    """Twelve examples of three relations and seven subjects; views tie at 5, one is missing."""
    views = [9.0, 5.0, 5.0, 5.0, 1.0, None, 8.0, 7.0, 5.0, 2.0, 3.0, 4.0]
    relations = ["job", "job", "job", "job", "job", "job", "city", "city", "city", "city", "sport", "sport"]
    answers = ["poet", "poet", "actor", "poet", "poet", "actor", "Rome", "Rome", "Oslo", "Rome", "golf", "chess"]
    return [
        {
            "question": f"Q{i}?",
            "answers": [answer, answer.upper()],
            "subject": f"S{i % 7}",
            "relation": relation,
            "curate_id": f"id-{i}",
            "score_views": value,
        }
        for i, (value, relation, answer) in enumerate(zip(views, relations, answers, strict=True))
    ]


@pytest.fixture
def file(scored: Rows, tmp_path: Path) -> Path:
    path = tmp_path / "scored.parquet"
    pq.write_table(pa.Table.from_pylist(scored), path)
    return path


def ids(rows: Any) -> list[str]:
    if isinstance(rows, pa.Table):
        return list(rows["curate_id"].to_pylist())
    return [row["curate_id"] for row in rows]


def ids_in(path: Path) -> list[str]:
    return ids(pq.read_table(path))


def test_a_selection_tells_what_it_kept_what_it_dropped_and_why(scored: Rows) -> None:
    chosen = curate.select(scored, top=3)
    assert ids(chosen.kept) == ["id-0", "id-6", "id-7"]
    assert (chosen.cut.score, chosen.cut.ties, chosen.cut.ties_kept) == (7.0, 1, 1)
    reasons = {row["curate_id"]: row["curate_dropped"] for row in chosen.dropped}
    assert reasons["id-5"] == "no score"
    assert reasons["id-1"] == "below the cut of top"
    assert len(reasons) + len(chosen.kept) == len(scored)


def test_reselecting_reads_no_score_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = curate.select(file, top=3, seed=4)
    monkeypatch.setattr(stores.ParquetRows, "columns", lambda *_: pytest.fail("read again"))
    other = chosen.reselect(bottom=0.25)
    assert list(other) == ["bottom"]
    monkeypatch.undo()
    assert ids(other.kept) == ids(curate.select(file, bottom=0.25, seed=4).kept)


@pytest.mark.parametrize("changes", [{"top": 0.5, "seed": 9}, {"min_score": 5}, {"order": "popular-first"}])
def test_reselecting_is_selecting_with_other_options(scored: Rows, changes: dict[str, Any]) -> None:
    options: dict[str, Any] = {"top": 4, "missing": "lowest"}
    chosen = curate.select(scored, **options).reselect(**changes)
    assert ids(chosen.kept) == ids(curate.select(scored, **(options | changes)).kept)


def test_every_kind_of_input_comes_back_in_kind(scored: Rows, file: Path) -> None:
    import datasets
    import pandas as pd
    import polars as pl

    expected = ids(curate.select(scored, top=0.5).kept)
    assert ids(curate.select(file, top=0.5).kept) == expected
    assert ids(curate.select(pa.Table.from_pylist(scored), top=0.5).kept) == expected
    frame = curate.select(pd.DataFrame(scored), top=0.5).kept
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["curate_id"]) == expected
    frame = curate.select(pl.DataFrame(scored), top=0.5).kept
    assert isinstance(frame, pl.DataFrame)
    assert frame["curate_id"].to_list() == expected
    dataset = curate.select(datasets.Dataset.from_list(scored), top=0.5).kept
    assert isinstance(dataset, datasets.Dataset)
    assert list(dataset["curate_id"]) == expected


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
        curate.select(tmp_path / f"{name}.parquet", top=0.5, output=tmp_path / "top.parquet")
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


def test_an_infinite_score_is_a_score_and_nan_is_none(scored: Rows) -> None:
    for row, value in zip(scored, [float("inf"), float("-inf"), float("nan")], strict=False):
        row["score_views"] = value
    chosen = curate.select(scored, top=1.0)
    assert chosen.summary()["missing"]["rows"] == 2
    assert ids(curate.select(scored, top=2).kept)[0] == "id-0"
    assert "id-1" in ids(curate.select(scored, bottom=2).kept)


def test_unmeasured_rows_rank_below_all_others_if_asked(scored: Rows) -> None:
    chosen = curate.select(scored, bottom=2, missing="lowest")
    assert ids(chosen.kept) == ["id-4", "id-5"]
    with pytest.raises(SelectionError, match="1 of 12 rows have no score"):
        curate.select(scored, bottom=2, missing="error")


def test_a_row_without_a_score_meets_no_threshold(scored: Rows) -> None:
    for threshold in ({"max_score": 5}, {"min_score": float("-inf")}):
        chosen = curate.select(scored, whole=True, missing="lowest", **threshold)  # type: ignore[arg-type]
        assert "id-5" not in ids(chosen.kept)


def test_minus_infinity_ranks_above_no_score() -> None:
    scores = [1.0, float("-inf"), None, float("-inf"), None]
    rows = [{"question": str(i), "answer": "a", "score_x": s} for i, s in enumerate(scores)]
    for seed in range(5):
        chosen = curate.select(rows, top=3, missing="lowest", seed=seed)
        assert [row["question"] for row in chosen.kept] == ["0", "1", "3"]
        assert chosen.cut.score == float("-inf")


def test_thresholds_narrow_the_pool_that_shares_are_taken_of(scored: Rows) -> None:
    assert ids(curate.select(scored, min_score=5, max_score=8).kept) == ["id-1", "id-2", "id-3", "id-6", "id-7", "id-8"]
    chosen = curate.select(scored, min_score=5, max_score=8, top=0.5)
    assert len(chosen.kept) == 3
    assert chosen.summary()["left_out"] == {"no score": 1, "below --min-score 5": 4, "above --max-score 8": 1}
    with pytest.raises(SelectionError, match="No score lies in the range"):
        curate.select(scored, min_score=100)


def test_where_keeps_the_named_values(scored: Rows) -> None:
    assert ids(curate.select(scored, where="relation=city,sport", whole=True).kept) == [f"id-{i}" for i in range(6, 12)]
    both = curate.select(scored, where={"relation": ["city"], "subject": ["S0"]}, whole=True)
    assert ids(both.kept) == ["id-7"]
    with pytest.raises(SelectionError, match="No row has 'town' in relation"):
        curate.select(scored, where="relation=town", whole=True)


def test_a_random_draw_is_not_the_top_when_all_scores_are_equal() -> None:
    table = pa.table({"question": [f"q{i}" for i in range(200)], "answer": ["a"] * 200, "score_x": [1.0] * 200})
    for options in ({}, {"stratify_by": "answer"}):
        shared = curate.select(table, top=0.5, random=0.5, **options).explanation["overlap"][0]["rows"]
        assert 25 < shared < 75, "half of a hundred, give or take"


def test_strata_take_the_share_inside_each_group(scored: Rows) -> None:
    chosen = curate.select(scored, top=0.5, bottom=0.5, stratify_by="relation")
    for name in chosen:
        found = [row["relation"] for row in chosen[name]]
        assert [found.count(r) for r in ("job", "city", "sport")] in ([3, 2, 1], [2, 2, 1])
    assert ids(curate.select(scored, top=0.5, stratify_by="relation").kept) == ids(chosen["top"])
    assert ids(curate.select(scored, bottom=0.5, stratify_by="relation").kept) == ids(chosen["bottom"])


def test_a_thousand_strata(tmp_path: Path) -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    group = rng.integers(0, 1000, n)
    table = pa.table(
        {"question": ["q"] * n, "answer": ["a"] * n, "group": group, "score_x": rng.integers(0, 5, n).astype(float)}
    ).append_column("curate_id", [[str(i) for i in range(n)]])
    chosen = curate.select(table, top=0.3, bottom=0.3, random=0.3, stratify_by="group")
    sizes = np.bincount(group, minlength=1000)
    for name in chosen:
        taken = np.bincount(chosen[name]["group"].to_numpy(), minlength=1000)
        assert (np.abs(taken - 0.3 * sizes) < 1).all()
        assert taken.sum() == 6000
    assert set(ids(chosen["top"])) & set(ids(chosen["bottom"])) == set()


def test_a_holdout_shares_no_subject_with_any_split(scored: Rows) -> None:
    chosen = curate.select(scored, holdout=0.3, top=0.5, bottom=0.5, random=0.5, whole=True)
    held = {row["subject"] for row in chosen["holdout"]}
    assert len(chosen["holdout"]) >= 3
    for name in ("top", "bottom", "random", "whole"):
        assert held & {row["subject"] for row in chosen[name]} == set()
    assert chosen.splits["holdout"].use == "evaluation"
    assert ids(curate.select(scored, holdout=0.3, by="subject", whole=True)["holdout"]) == ids(chosen["holdout"])
    both = curate.select(scored, holdout=0.3, by=["views", "relation"], whole=True)
    assert {row["relation"] for row in both["holdout"]} & {row["relation"] for row in both["whole"]} == set()


def test_several_scores_are_combined_by_mean_percentile_rank(scored: Rows) -> None:
    for row in scored:
        row["score_loss"] = None if row["score_views"] is None else -row["score_views"]
    with pytest.raises(ColumnError, match="has 2 scores: views, loss"):
        curate.select(scored, top=2)
    chosen = curate.select(scored, by=["views", "loss"], whole=True)
    assert chosen.summary()["by"] == "views + loss"
    assert chosen.pool.scores[~np.isnan(chosen.pool.scores)].tolist() == [50.0] * 11


def test_any_column_of_numbers_can_rank(scored: Rows) -> None:
    rows = [{**row, "pop": i} for i, row in enumerate(scored)]
    assert ids(curate.select(rows, by="column:pop", top=2).kept) == ["id-10", "id-11"]
    with pytest.raises(ColumnError, match="holds string, not numbers"):
        curate.select(rows, by="column:subject", top=2)


def test_dates_are_no_scores(scored: Rows) -> None:
    rows = [{**row, "score_day": datetime.date(2021, 1, 1)} for row in scored]
    with pytest.raises(ColumnError, match="not numbers"):
        curate.select(rows, by="day", top=2)


def test_ids_are_made_from_the_content_where_a_file_has_none(scored: Rows, tmp_path: Path) -> None:
    bare = pa.Table.from_pylist(scored).drop_columns(["curate_id"])
    pq.write_table(bare, tmp_path / "bare.parquet")
    from_file = curate.select(tmp_path / "bare.parquet", top=4, random=4)
    in_memory = curate.select(bare, top=4, random=4)
    backwards = curate.select(bare.take(list(range(11, -1, -1))), top=4, random=4)
    for name in ("top", "random"):
        assert from_file[name]["question"].to_pylist() == in_memory[name]["question"].to_pylist()
        assert from_file[name]["question"].to_pylist() == backwards[name]["question"].to_pylist()[::-1]


def test_a_token_budget_takes_the_best_known_that_fit(scored: Rows) -> None:
    def one_token_a_character(texts: list[str]) -> dict[str, list[str]]:
        return {"input_ids": [list(text) for text in texts]}

    # "Question: Q0?\nAnswer: poet" is 26 characters, that of Q6 (Rome) and Q7 too.
    chosen = curate.select(scored, budget_tokens=60, tokenizer=one_token_a_character)
    assert ids(chosen.kept) == ["id-0", "id-6"]
    assert chosen.summary()["splits"][0]["tokens"] == 52


def test_a_token_budget_of_multiple_choice_counts_what_is_written(tmp_path: Path) -> None:
    def one_token_a_character(texts: list[str]) -> dict[str, list[str]]:
        return {"input_ids": [list(text) for text in texts]}

    rows = [{"question": f"Q{i}?", "choices": ["red", "blue"], "answer": 1, "score_x": i} for i in range(9)]
    chosen = curate.select(
        rows,
        budget_tokens=600,
        tokenizer=one_token_a_character,
        format="prompt-completion",
        output=tmp_path / "b.jsonl",
    )
    written = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    sizes = [len(row["prompt"] + row["completion"]) for row in written]
    assert chosen.summary()["splits"][0]["tokens"] == sum(sizes) <= 600 < sum(sizes) + max(sizes)


def test_the_labels_of_a_data_frame_stay_with_their_rows(scored: Rows) -> None:
    import pandas as pd

    for index in (None, [3 * i for i in range(12)], pd.RangeIndex(5, 29, 2, name="place")):
        frame = pd.DataFrame(scored, index=index)
        chosen = curate.select(frame, top=0.5, order="popular-first")
        for part in (chosen.kept, chosen.dropped):
            assert part["question"].tolist() == frame.loc[part.index, "question"].tolist()
            assert part.index.name == frame.index.name


def test_what_was_dropped_can_be_selected_from_again(scored: Rows) -> None:
    dropped = curate.select(scored, top=3).dropped
    again = curate.select(dropped, by="views", top=3).dropped
    assert [row["curate_dropped"] for row in again].count("below the cut of top") == 5


def test_a_training_split_beside_an_evaluation_set_is_the_one_kept(scored: Rows) -> None:
    chosen = curate.select(scored, top=0.5, holdout=0.2)
    assert ids(chosen.kept) == ids(chosen["top"])
    assert chosen.cut == chosen.splits["top"].cut


def test_conditions_in_python_are_values_or_lists_of_them(scored: Rows) -> None:
    rows = [{**row, "year": 2000 + i, "place": "Paris, France" if i else "Rome"} for i, row in enumerate(scored)]
    assert len(curate.select(rows, where={"year": 2001}).kept) == 1
    assert len(curate.select(rows, where={"year": [2001, "2002"]}).kept) == 2
    assert len(curate.select(rows, where='place="Paris, France",Rome', min_score="3").kept) == 9  # type: ignore[arg-type]
    with pytest.raises(SelectionError) as error:
        curate.select(rows, where="place=France")
    assert error.value.expected == 'one of: "Paris, France", Rome'
    for tokens in (float("inf"), 10.5):
        with pytest.raises(SelectionError, match="a whole number"):
            curate.select(rows, budget_tokens=tokens, tokenizer=len)  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="is not a number"):
        curate.select(rows, min_score="few")  # type: ignore[arg-type]


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


def test_the_pool_of_the_explanation_is_the_one_before_evaluation_sets(scored: Rows) -> None:
    chosen = curate.select(scored, controlled_by="relation", max_score=8)
    assert chosen.explanation["quantiles"]["pool"]["1"] == 8
    expected = curate.select(scored, whole=True, max_score=8).explanation["relation"]["most_frequent"]
    assert chosen.explanation["relation"]["most_frequent"] == expected


def test_quantiles_of_a_large_table_have_its_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "EXPLAINED", 10)
    rows = [{"question": str(i), "answer": "a", "score_x": float(i)} for i in range(95)]
    found = curate.select(rows, top=60, bottom=2).explanation["quantiles"]
    assert (found["pool"]["0"], found["pool"]["1"]) == (0, 94)
    assert (found["top"]["0"], found["top"]["1"]) == (35, 94)
    assert set(found["bottom"].values()) == {0, 1}


def test_the_explanation_counts_what_moved_and_what_is_shared(scored: Rows) -> None:
    told = curate.select(scored, top=0.3, whole=True).explanation
    assert told["overlap"] == [{"a": "top", "b": "whole", "rows": 3}]
    assert told["relation"]["splits"]["whole"]["moved"] == 0
    assert told["relation"]["splits"]["top"]["moved"] == pytest.approx(2 / 3 - 4 / 11)
    assert told["answers"]["most_frequent"][0] == {"value": "poet", "share": pytest.approx(4 / 11)}
    assert told["quantiles"]["top"]["0"] == 7


def test_a_large_table_is_explained_by_every_nth_row(scored: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "EXPLAINED", 5)
    told = curate.select(scored, whole=True).explanation
    assert told["counted"] == "1 row in 3"
    assert told["relation"]["most_frequent"] == [{"value": "city", "share": 0.5}, {"value": "job", "share": 0.5}]


def test_writing_gathers_the_same_explanation_as_asking(file: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"top": 0.5, "bottom": 0.5}
    written = curate.select(file, **options, output=tmp_path / "splits")
    assert "explanation" in vars(written)
    assert written.explanation == curate.select(file, **options).explanation


def test_only_the_score_column_is_read_to_find_a_cut_without_ties(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    pieces = stores.ParquetRows.pieces
    monkeypatch.setattr(
        stores.ParquetRows,
        "pieces",
        lambda self, names=None, *kind: (read.append(names), pieces(self, names, *kind))[1],
    )
    monkeypatch.setattr(stores.ParquetRows, "columns", lambda self, names: pytest.fail(f"read {names}"))
    curate.select(file, top=3)
    assert read == [["score_views"]]


def test_an_error_while_explaining_leaves_no_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr("curate.selection.select.explain_mixes", fail)
    with pytest.raises(ArithmeticError):
        curate.select(file, top=3, output=tmp_path / "top.parquet")
    assert not (tmp_path / "top.parquet").exists()


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


def test_selecting_from_a_file_imports_no_pandas_and_no_torch(file: Path, tmp_path: Path) -> None:
    code = (
        "import sys, curate; curate.select(sys.argv[1], top=3, output=sys.argv[2]); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'pandas', 'polars') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(file), str(tmp_path / "top.parquet")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_popqa_controlled_is_what_pandas_says(popqa: Path, tmp_path: Path) -> None:
    import pandas as pd

    three = ["country", "sport", "occupation"]
    curate.select(popqa, by="column:s_pop", where={"relation": three}, controlled_by="relation", output=tmp_path / "c")

    data = pd.read_csv(popqa, sep="\t")
    data = data[data.prop.isin(three)].assign(accepted=lambda d: d.possible_answers.map(json.loads))
    data["first"] = data.accepted.str[0]
    frequent = data.groupby("prop")["first"].agg(lambda answers: answers.value_counts().index[0])
    kept = data[data["first"] == data.prop.map(frequent)].sort_values("s_pop", ascending=False)
    rank, size = kept.groupby("prop").cumcount(), kept.groupby("prop")["first"].transform("size")
    surely_top, surely_bottom = kept[rank < size // 2], kept[rank >= (size + 1) // 2]
    forbidden = {answer.casefold() for answer in frequent}
    other = data[~data.accepted.map(lambda answers: any(a.casefold() in forbidden for a in answers))]

    def rows_of(frame: pd.DataFrame) -> list[Any]:
        return sorted(zip(frame.question, frame.possible_answers, frame.s_pop, strict=True))

    top, bottom, test = (pd.read_parquet(tmp_path / "c" / f"{name}.parquet") for name in ("top", "bottom", "test"))
    assert sorted(frequent.index) == sorted(top.prop.unique()) == sorted(bottom.prop.unique()) == sorted(three)
    assert rows_of(pd.concat([top, bottom])) == rows_of(kept)
    assert abs(len(top) - len(bottom)) <= 1
    for prop in three:  # scores tie at the middle of a relation: there only the scores are decided, not the rows
        mine, ours = surely_top[surely_top.prop == prop], top[top.prop == prop]
        assert sorted(ours.s_pop)[-len(mine) :] == sorted(mine.s_pop)
        mine, ours = surely_bottom[surely_bottom.prop == prop], bottom[bottom.prop == prop]
        assert sorted(ours.s_pop)[: len(mine)] == sorted(mine.s_pop)
    assert rows_of(test) == rows_of(other)
