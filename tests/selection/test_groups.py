"""Rows by the values of a column, and what is taken of every group."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.data.ids import id_hashes
from curate.errors import SelectionError
from curate.selection import groups as strata
from curate.selection.groups import Groups, encoded, held_out, most_frequent

SHARES = st.integers(1, 100).map(lambda n: Decimal(n) / 100)

CELLS = st.none() | st.sampled_from(["a", "b", "", "ä"])
CHUNKS = st.lists(st.lists(CELLS, max_size=5), max_size=4)


@given(chunks=CHUNKS, kind=st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]))
def test_codes_and_values_are_the_column_whatever_its_chunks(chunks: list[list[str | None]], kind: pa.DataType) -> None:
    parts = [pa.array(cells, pa.string()) for cells in chunks]
    column = pa.chunked_array([part.cast(kind) for part in parts], kind)
    codes, values = encoded(column)
    assert [values[code] for code in codes] == column.to_pylist()


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([pa.nulls(2), pa.nulls(1)]),
        pa.chunked_array([[1, None], [2, 1]]),
        pa.chunked_array([pa.DictionaryArray.from_arrays([0, 1, None, 2], pa.array(["a", None, "a"]))] * 2),
        pa.chunked_array(
            [pa.array(["x", None, "y"]).dictionary_encode().slice(1), pa.array(["z"]).dictionary_encode()]
        ),
    ],
    ids=["nothing but null", "numbers", "null and repeats in a dictionary", "a slice"],
)
def test_unusual_columns_are_encoded_too(column: pa.ChunkedArray) -> None:
    codes, values = encoded(column)
    assert [values[code] for code in codes] == column.to_pylist()


@pytest.mark.parametrize(
    "options",
    [{}, {"stratify_by": "relation"}, {"where": "relation=a"}, {"holdout": 0.2, "holdout_by": "relation"}],
    ids=["plain", "strata", "where", "holdout"],
)
def test_rows_of_no_relation_in_several_row_groups_are_selected_from(options: dict[str, str], tmp_path: Path) -> None:
    n = 60
    relation = [None if i % 7 == 0 else "abc"[i % 3] for i in range(n)]
    rows = {"question": [f"q{i}" for i in range(n)], "answer": ["a"] * n, "relation": relation, "score_x": range(n)}
    table = pa.table(rows)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.data.stores.BATCH", 20)
        found = curate.select(tmp_path / "in.parquet", top=0.5, output=tmp_path / "splits", **options)
    assert found["top"].equals(curate.select(table, top=0.5, **options)["top"])


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12), share=SHARES)
def test_strata_are_exact_within_one_row_and_exact_in_sum(sizes: list[int], share: Decimal) -> None:
    wanted = Fraction(share)
    for quotas in (strata.quotas(sizes, wanted), strata.quotas_of_tail(sizes, wanted)):
        assert all(abs(q - wanted * n) < 1 and 0 <= q <= n for q, n in zip(quotas, sizes, strict=True))
        assert sum(quotas) == int(wanted * sum(sizes) + Fraction(1, 2))


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12), share=SHARES)
def test_head_and_tail_of_no_stratum_meet_while_both_are_at_most_half(sizes: list[int], share: Decimal) -> None:
    head, tail = strata.quotas(sizes, Fraction(share)), strata.quotas_of_tail(sizes, Fraction(share))
    if 2 * sum(head) <= sum(sizes):
        assert all(h + t <= n for h, t, n in zip(head, tail, sizes, strict=True))


@given(codes=st.lists(st.integers(0, 4)), block=st.sampled_from([1, 3, 1000]), data=st.data())
def test_rows_are_grouped_by_their_code(codes: list[int], block: int, data: st.DataObject) -> None:
    pool = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))), dtype=bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strata, "BLOCK", block)
        groups = strata.rows_by_group(np.array(codes, dtype=np.int32), pool, 5)
    assert [g.tolist() for g in groups] == [[i for i, c in enumerate(codes) if c == n and pool[i]] for n in range(5)]


@given(subjects=st.lists(st.integers(-1, 6), min_size=1), seed=st.integers(0, 9), data=st.data())
def test_a_holdout_takes_whole_subjects_and_enough_rows(subjects: list[int], seed: int, data: st.DataObject) -> None:
    codes = np.array(subjects)
    known = int((codes >= 0).sum())
    k = data.draw(st.integers(1, max(1, known)))
    hashes = id_hashes(list("abcdefg"), seed, "holdout")
    try:
        mask = held_out(codes, hashes, np.ones(len(codes), dtype=bool), k)
    except SelectionError:
        return
    assert set(codes[mask]) & set(codes[~mask]) == set()
    assert mask.sum() >= k
    assert -1 not in codes[mask]


def test_of_equally_frequent_answers_the_first_by_its_text_is_kept() -> None:
    groups = Groups(np.array([0, 0, 0, 0, 1, 1, 2], dtype=np.int32), ["city", "job", "sport"])
    answers = Groups(np.array([1, 0, 1, 0, 1, 2, -1], dtype=np.int32), ["Oslo", "Rome", "poet"])
    pool = np.ones(7, dtype=bool)
    assert most_frequent(groups, answers, pool).tolist() == [0, 1, -2], "-2: no row of the group has an answer"
    pool[1] = False
    assert most_frequent(groups, answers, pool).tolist() == [1, 1, -2]
