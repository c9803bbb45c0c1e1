"""The rules of selection, on arrays: sizes, order, ties, strata, hashes."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curate.data.ids import hash_texts, id_hashes
from curate.errors import SelectionError
from curate.selection import groups as strata
from curate.selection import ranking as selection
from curate.selection.explain import mix, quantiles
from curate.selection.groups import Groups, as_ranked, held_out
from curate.selection.ranking import (
    Size,
    between,
    bottom_rows,
    cut_of,
    drawn,
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
from curate.selection.rules import rows_within

# Few distinct values, so that most examples have ties; missing, infinite and signed-zero scores among them.
SCORES = st.lists(
    st.sampled_from([1.0, 2.0, 2.5, 0.0, -0.0, -3.0, float("inf"), float("-inf"), float("nan")]), min_size=1
)
SHARES = st.integers(1, 100).map(lambda n: Decimal(n) / 100)


def ids_of(n: int) -> list[str]:
    return [f"id {i}" for i in range(n)]


def ties_of(ids: list[str], seed: int = 0) -> Any:
    hashes = id_hashes(ids, seed, "ties")
    return lambda rows: hashes[rows]


@given(scores=SCORES, data=st.data())
def test_the_cut_found_by_a_sample_is_the_one_that_sorting_finds(scores: list[float], data: st.DataObject) -> None:
    ranked = sorted((score for score in scores if not math.isnan(score)), reverse=True)
    assume(ranked)
    k = data.draw(st.integers(1, len(ranked)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SAMPLE", 3)
        patch.setattr(selection, "MARGIN", data.draw(st.integers(0, 2)))
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
        ties, pool = ties_of(names, seed), ~np.isnan(values)
        masks = [
            top_rows(values, k, ties),
            bottom_rows(values, k, ties),
            drawn(pool, k, id_hashes(names, seed, "random")),
        ]
        return [{names[i] for i in np.flatnonzero(mask)} for mask in masks]

    assert chosen(array, ids) == chosen(moved, moved_ids)


@given(scores=SCORES, cuts=st.tuples(st.integers(0, 100), st.integers(0, 100)))
def test_bands_that_meet_part_the_pool(scores: list[float], cuts: tuple[int, int]) -> None:
    array, ties = np.array(scores), ties_of(ids_of(len(scores)))
    pool = ~np.isnan(array)
    edges = sorted({0, *cuts, 100})
    masks = []
    for low, high in pairwise(edges):
        masks.append(between(array, *parse_band(f"{low}:{high}").positions(int(pool.sum())), ties))
    assert (np.sum(masks, axis=0) == pool).all()


def test_when_all_scores_tie_random_is_independent_of_top() -> None:
    n, k = 4000, 2000
    scores, ids = np.zeros(n), ids_of(n)
    top = top_rows(scores, k, ties_of(ids))
    random = drawn(np.ones(n, dtype=bool), k, id_hashes(ids, 0, "random"))
    shared = int((top & random).sum())
    assert top.sum() == random.sum() == k
    assert abs(shared - k * k / n) < 5 * np.sqrt(n) / 4  # five standard deviations of the hypergeometric


def test_random_rows_and_drawn_draw_the_same() -> None:
    ids = ids_of(50)
    mask = drawn(np.ones(50, dtype=bool), 20, id_hashes(ids, 7, "random"))
    assert set(random_rows(ids, 20, seed=7)) == set(np.flatnonzero(mask))


def test_repeated_ids_do_not_change_the_size() -> None:
    ids = ["same"] * 10
    assert top_rows(np.ones(10), 4, ties_of(ids)).sum() == 4
    assert drawn(np.ones(10, dtype=bool), 4, id_hashes(ids, 0, "random")).sum() == 4


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
    hashes = id_hashes(ids_of(7), seed, "holdout")
    try:
        mask = held_out(codes, hashes, np.ones(len(codes), dtype=bool), k)
    except SelectionError:
        return
    assert set(codes[mask]) & set(codes[~mask]) == set()
    assert mask.sum() >= k
    assert -1 not in codes[mask]


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


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


@given(st.lists(TEXTS | TEXTS.map(lambda text: text + "long " * 220)), st.integers(0, 3))
def test_a_hash_depends_on_the_text_alone_not_on_its_neighbours(texts: list[str], cut: int) -> None:
    together = hash_texts(texts)
    assert together.tolist() == [hash_texts([text])[0] for text in texts]
    chunked = pa.chunked_array([pa.array(texts[:cut], pa.string()), pa.array(texts[cut:], pa.string())])
    assert hash_texts(chunked).tolist() == together.tolist()
    assert len(set(together.tolist())) == len(set(texts))


def test_hashes_are_the_same_in_every_version() -> None:
    assert [
        f"{h:016x}"
        for h in id_hashes(["", "a", "12345678", "0123456789abcdef-2", "ü", "x" * 1024, "x" * 1025], 0, "ties").tolist()
    ] == PINNED


PINNED = [
    "90ea4b60e178ce6f",
    "f352f868c4e39299",
    "272a131b7777d147",
    "d353dd9ef749413b",
    "6e058b657750f206",
    "25d0983063c3a4f2",
    "2f43b8d9a6fd438f",
]


def test_percentile_ranks_count_half_of_the_ties() -> None:
    assert percentile_rank(np.array([7.0, 7.0, 7.0])).tolist() == [50, 50, 50]
    combined = mean_percentile_rank([np.array([1.0, 2.0, np.nan]), np.array([10.0, 5.0, 1.0])])
    assert combined[:2].tolist() == [50, 50]
    assert np.isnan(combined[2])


def test_the_mix_tells_what_moved() -> None:
    groups = Groups(np.array([0, 0, 0, 1, -1], dtype=np.int32), ["actor", "poet"])
    everything, half = np.ones(5, dtype=bool), np.array([True, False, False, True, False])
    told = mix(groups, everything, {"top": half})
    assert told["most_frequent"] == [{"value": "actor", "share": 0.75}, {"value": "poet", "share": 0.25}]
    assert told["splits"]["top"]["moved"] == 0.25
    assert told["splits"]["top"]["shifts"][0] == {"value": "actor", "before": 0.75, "after": 0.5}


def test_quantiles_are_scores_of_rows() -> None:
    assert quantiles(np.array([4.0, np.nan, 1.0, 2.0]))["0.5"] == 2.0
    assert quantiles(np.array([np.nan])) == {}
