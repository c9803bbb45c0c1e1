"""Which rows of a scored table, in memory or in files, make which split."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.data import stores
from curate.errors import ColumnError, CurateError, SelectionError
from tests.selection.rows import Rows, ids


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


@pytest.mark.parametrize(
    ("settings", "found", "try_next"),
    [
        ({"top": "half"}, "top='half' is not a size.", "top=0.3"),
        ({"top": 0}, "top=0 is not a size.", "top=0.3"),
        ({"band": "70:30"}, "band='70:30' is not a band.", "band='30:70', for the middle 40%"),
        ({"top": 0.5, "by": "fame"}, "has no score named 'fame'.", "by='views'"),
        ({"top": 0.5, "stratify_by": "relatoin"}, "has no column 'relatoin' (asked for with stratify_by).", "relation"),
        ({"top": 0.5, "tokenizer": len}, "tokenizer without budget_tokens does nothing.", "budget_tokens=1000000"),
        ({}, "Nothing was asked for.", "top=0.3, bottom=0.3, random=0.3, band='30:70' or whole"),
    ],
)
def test_a_message_names_the_argument_that_was_given(
    scored: Rows, settings: dict[str, Any], found: str, try_next: str
) -> None:
    with pytest.raises(CurateError) as error:
        curate.select(scored, **settings)
    assert found in error.value.found
    assert try_next in str(error.value.try_next)
