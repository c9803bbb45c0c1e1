"""How numbers are summed up: histograms show where the rows lie, on raw page views too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from curate.summary import (
    auc,
    bin_edges,
    correlation_within,
    explained,
    overlap,
    pairs_within,
    quantiles,
    rank_correlation,
    ranks_within,
)


def test_quantiles_are_scores_of_rows() -> None:
    assert quantiles(np.array([4.0, np.nan, 1.0, 2.0]))["0.5"] == 2.0
    assert quantiles(np.array([np.nan])) == {}


def fullest(values: np.ndarray) -> float:
    counts, _ = np.histogram(values, bin_edges(values, 12))
    assert counts.sum() == len(values)
    return float(counts.max() / len(values))


def test_a_few_huge_values_do_not_push_all_others_into_one_bin() -> None:
    views = 50 / np.arange(1, 1001) * 1000
    assert fullest(views) < 0.5
    assert fullest(np.append(views, 0.0)) < 0.5


def test_losses_get_bins_of_equal_width() -> None:
    edges = bin_edges(np.array([-8.0, -2.0, -1.0, 4.0]), 12)
    assert np.allclose(np.diff(edges), 1.0)


def test_equal_values_have_a_bin() -> None:
    assert fullest(np.full(5, 3.0)) == 1.0


def test_rank_correlation_sees_order_only_and_leaves_out_the_unknown() -> None:
    a = np.array([1.0, 2.0, 3.0, np.nan, 5.0])
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlation(a, np.array([9.0, 8.0, 7.0, 0.0, 6.0])) == pytest.approx(-1)


def test_ties_take_their_mean_rank() -> None:
    assert rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.8660254)


def test_a_constant_has_no_rank_correlation() -> None:
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))


def test_overlap_is_the_share_in_common() -> None:
    assert overlap(["a", "b", "c", "d"], ["b", "d", "e"]) == 0.5


# Golden: the same numbers in the plainest way there is.


@st.composite
def scored_groups(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two scores with ties, what is known, and up to four groups."""
    n = draw(st.integers(2, 40))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    scores = random.integers(0, draw(st.integers(1, 30)), (2, n)) / 4.0
    return scores[0], scores[1], random.random(n) < 0.4, random.integers(0, 4, n)


@given(scored_groups())
def test_auc_counts_pairs_of_a_known_and_an_unknown_row(rows: tuple[np.ndarray, ...]) -> None:
    scores, _, known, groups = rows
    right = pairs = 0.0
    for i in np.flatnonzero(known):
        for j in np.flatnonzero(~known & (groups == groups[i])):
            pairs += 1
            right += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
    assert pairs_within(known, groups) == pairs
    assert auc(scores, known, groups) == pytest.approx(right / pairs if pairs else np.nan, nan_ok=True)


@given(scored_groups())
def test_auc_is_that_of_mann_and_whitney(rows: tuple[np.ndarray, ...]) -> None:
    scores, _, known, _ = rows
    yes, no = scores[known], scores[~known]
    expected = mannwhitneyu(yes, no).statistic / (len(yes) * len(no)) if len(yes) and len(no) else np.nan
    assert auc(scores, known) == pytest.approx(expected, nan_ok=True)


@given(scored_groups())
def test_auc_sees_order_only_and_turns_around_with_it(rows: tuple[np.ndarray, ...]) -> None:
    scores, _, known, groups = rows
    assert auc(np.exp(scores) - 7, known, groups) == pytest.approx(auc(scores, known, groups), nan_ok=True)
    assert auc(-scores, known, groups) == pytest.approx(1 - auc(scores, known, groups), nan_ok=True)
    assert auc(scores, ~known, groups) == pytest.approx(1 - auc(scores, known, groups), nan_ok=True)
    if pairs_within(known, groups):
        assert auc(np.zeros_like(scores), known, groups) == 0.5
        assert auc(known * 1.0, known, groups) == 1.0


@given(scored_groups())
def test_correlation_inside_groups_is_the_mean_of_theirs_by_rows(rows: tuple[np.ndarray, ...]) -> None:
    a, b, _, groups = rows
    each = [(rank_correlation(a[groups == g], b[groups == g]), np.sum(groups == g)) for g in np.unique(groups)]
    each = [(rho, n) for rho, n in each if not np.isnan(rho)]
    expected = sum(rho * n for rho, n in each) / sum(n for _, n in each) if each else np.nan
    assert correlation_within(a, b, groups) == pytest.approx(expected, nan_ok=True)
    everybody = np.zeros_like(groups)
    assert correlation_within(a, b, everybody) == pytest.approx(rank_correlation(a, b), nan_ok=True)


def test_what_is_explained_is_that_of_least_squares_on_indicators() -> None:
    random = np.random.default_rng(0)
    relation, length = random.integers(0, 6, 300), random.integers(0, 9, 300)
    pattern = np.where(random.random(300) < 0.9, relation, 6)  # nearly the same once more
    values = relation**2 + 3 * np.sin(length) + random.normal(0, 2, 300)
    for factors in ([relation], [length], [relation, length], [relation, pattern, length]):
        x = np.concatenate([np.eye(10)[codes] for codes in factors], axis=1)
        rest = values - x @ np.linalg.lstsq(x, values, rcond=None)[0]
        freedom = 300 - 1 - sum(len(np.unique(codes)) - 1 for codes in factors)
        expected = 1 - (rest @ rest / freedom) / values.var(ddof=1)
        assert explained(values, factors) == pytest.approx(expected, abs=1e-4)


def test_chance_explains_nothing_however_small_the_groups_are() -> None:
    random = np.random.default_rng(1)
    found = [explained(random.normal(size=400), [random.integers(0, 150, 400)]) for _ in range(50)]
    assert np.mean(found) < 0.05
    assert explained(np.repeat([1.0, 5.0, 3.0], 10), [np.repeat([2, 0, 7], 10)]) == pytest.approx(1)


def test_what_cannot_be_explained_is_not_a_number() -> None:
    assert np.isnan(explained(np.ones(9), [np.arange(9) % 2]))
    assert np.isnan(explained(np.arange(9.0), [np.arange(9)]))


def test_no_rows_have_no_ranks_and_no_auc() -> None:
    nothing = np.empty(0)
    assert len(ranks_within(nothing, nothing.astype(int))) == 0
    assert np.isnan(auc(nothing, nothing.astype(bool)))
    assert np.isnan(correlation_within(nothing, nothing, nothing.astype(int)))
