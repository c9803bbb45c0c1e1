"""Sizes, the total order, cuts and draws, on arrays."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curate.data.ids import id_hashes
from curate.errors import SelectionError
from curate.selection import ranking
from curate.selection.ranking import (
    Size,
    as_ranked,
    bottom_rows,
    cut_of,
    draw_random,
    kth_highest,
    mean_percentile_rank,
    ordered,
    parse_band,
    parse_size,
    percentile_rank,
    random_rows,
    top_rows,
    total_order,
)
from curate.selection.splits import rows_within

# Few distinct values, so that most examples have ties; missing, infinite and signed-zero scores among them.
SCORES = st.lists(
    st.sampled_from([1.0, 2.0, 2.5, 0.0, -0.0, -3.0, float("inf"), float("-inf"), float("nan")]), min_size=1
)
SHARES = st.integers(1, 100).map(lambda n: Decimal(n) / 100)


def ids_of(n: int) -> list[str]:
    return [f"id {i}" for i in range(n)]


def ties_of(ids: list[str], seed: int = 0, salt: str = "ties") -> Any:
    hashes = id_hashes(ids, seed, salt)
    return lambda rows: hashes[rows]


@given(scores=SCORES, data=st.data())
def test_the_cut_found_by_a_sample_is_the_one_that_sorting_finds(scores: list[float], data: st.DataObject) -> None:
    ranked = sorted((score for score in scores if not math.isnan(score)), reverse=True)
    assume(ranked)
    k = data.draw(st.integers(1, len(ranked)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "SAMPLE", 3)
        patch.setattr(ranking, "MARGIN", data.draw(st.integers(0, 2)))
        assert kth_highest(np.array(scores), k) == ranked[k - 1]


@given(share=SHARES, pool=st.integers(1, 10_000))
def test_a_share_is_rounded_half_up_and_never_more_than_the_pool(share: Decimal, pool: int) -> None:
    expected = int((share * pool).quantize(Decimal(1), rounding=ROUND_HALF_UP))
    if expected == 0:
        with pytest.raises(SelectionError, match="no row at all"):
            Size(share=share).rows(pool)
    else:
        assert Size(share=share).rows(pool) == expected <= pool


@pytest.mark.parametrize("text", ["0", "0%", "-1", "1.5", "150%", "nan", "inf", "half", "", "1e400"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SelectionError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["30", "70:30", "30:30", "0:101", "a:b", ":", "-1:5"])
def test_what_is_no_band_is_refused(text: str) -> None:
    with pytest.raises(SelectionError, match="is not a band"):
        parse_band(text)


@given(scores=SCORES, data=st.data())
def test_top_and_bottom_are_head_and_tail_of_one_total_order(scores: list[float], data: st.DataObject) -> None:
    array = np.array(scores)
    ids = ids_of(len(array))
    rows = np.flatnonzero(~np.isnan(array))
    k = data.draw(st.integers(0, len(rows)))
    order = rows[total_order(array[rows], [ids[row] for row in rows], seed=3)]
    assert set(np.flatnonzero(top_rows(array, k, ties_of(ids, 3)))) == set(order[:k])
    assert set(np.flatnonzero(bottom_rows(array, k, ties_of(ids, 3)))) == set(order[len(order) - k :])


@given(scores=SCORES, data=st.data())
def test_top_and_bottom_share_no_row_while_they_are_at_most_half_each(scores: list[float], data: st.DataObject) -> None:
    array = np.array(scores)
    pool = int((~np.isnan(array)).sum())
    k = data.draw(st.integers(0, pool // 2))
    ties = ties_of(ids_of(len(array)))
    assert not (top_rows(array, k, ties) & bottom_rows(array, k, ties)).any()


@given(scores=SCORES, seed=st.integers(0, 5), data=st.data())
def test_permuting_rows_leaves_the_chosen_ids_unchanged(scores: list[float], seed: int, data: st.DataObject) -> None:
    array, ids = np.array(scores), ids_of(len(scores))
    shuffle = data.draw(st.permutations(range(len(scores))))
    moved, moved_ids = array[shuffle], [ids[i] for i in shuffle]
    k = data.draw(st.integers(0, int((~np.isnan(array)).sum())))

    def chosen(values: Any, names: list[str]) -> list[set[str]]:
        ties = ties_of(names, seed)
        masks = [
            top_rows(values, k, ties),
            bottom_rows(values, k, ties),
            draw_random(values, k, ties_of(names, seed, "random")),
        ]
        return [{names[i] for i in np.flatnonzero(mask)} for mask in masks]

    assert chosen(array, ids) == chosen(moved, moved_ids)


def test_when_all_scores_tie_random_is_independent_of_top() -> None:
    n, k = 4000, 2000
    scores, ids = np.zeros(n), ids_of(n)
    top = top_rows(scores, k, ties_of(ids))
    random = draw_random(scores, k, ties_of(ids, salt="random"))
    shared = int((top & random).sum())
    assert top.sum() == random.sum() == k
    assert abs(shared - k * k / n) < 5 * np.sqrt(n) / 4  # five standard deviations of the hypergeometric


def test_rows_are_drawn_the_same_from_ids_and_from_scores() -> None:
    ids = ids_of(50)
    mask = draw_random(np.ones(50), 20, ties_of(ids, 7, "random"))
    assert set(random_rows(ids, 20, 7, "random")) == set(np.flatnonzero(mask))


def test_repeated_ids_do_not_change_the_size() -> None:
    ids = ["same"] * 10
    assert top_rows(np.ones(10), 4, ties_of(ids)).sum() == 4
    assert draw_random(np.ones(10), 4, ties_of(ids, salt="random")).sum() == 4


def test_signed_zeros_tie_and_infinities_rank_at_the_ends() -> None:
    scores = np.array([0.0, -0.0, np.inf, -np.inf, 1.0])
    ids = ids_of(5)
    order = total_order(scores, ids, seed=0).tolist()
    assert order[:2] == [2, 4]
    assert order[-1] == 3
    mirrored = np.array([-0.0, 0.0, np.inf, -np.inf, 1.0])
    assert total_order(mirrored, ids, seed=0).tolist() == order


def test_the_cut_tells_the_score_and_how_many_share_it() -> None:
    scores = np.array([3.0, 2.0, 2.0, 2.0, 1.0, np.nan])
    chosen = top_rows(scores, 2, ties_of(ids_of(6)))
    cut = cut_of(scores, chosen, 2.0)
    assert (cut.score, cut.ties, cut.ties_kept) == (2.0, 3, 1)


def test_whole_numbers_that_float64_cannot_tell_apart_keep_their_order() -> None:
    big = 2**60
    column = pa.chunked_array([[big + 1, None, big], [big + 2, -big]])
    ranked = as_ranked(column)
    assert np.isnan(ranked[1])
    assert ordered(ranked[[0, 2, 3, 4]], np.zeros(4, dtype=np.uint64)).tolist() == [2, 0, 1, 3]


def test_percentile_ranks_count_half_of_the_ties() -> None:
    assert percentile_rank(np.array([7.0, 7.0, 7.0])).tolist() == [50, 50, 50]
    combined = mean_percentile_rank([np.array([1.0, 2.0, np.nan]), np.array([10.0, 5.0, 1.0])])
    assert combined[:2].tolist() == [50, 50]
    assert np.isnan(combined[2])


@given(tokens=st.lists(st.integers(1, 9), min_size=1), budget=st.integers(1, 60))
def test_a_budget_takes_the_longest_head_that_fits(tokens: list[int], budget: int) -> None:
    counts = np.array(tokens)
    fits = [k for k in range(1, len(tokens) + 1) if counts[:k].sum() <= budget]
    if not fits:
        with pytest.raises(SelectionError, match="do not hold"):
            rows_within(budget, np.arange(len(tokens)), lambda rows: counts[rows])
    else:
        found = rows_within(budget, np.arange(len(tokens)), lambda rows: counts[rows])
        assert found == (max(fits), counts[: max(fits)].sum())
