"""How numbers are summed up: histograms show where the rows lie, on raw page views too."""

from __future__ import annotations

import numpy as np
import pytest

from curate.summary import bin_edges, overlap, quantiles, rank_correlation


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
