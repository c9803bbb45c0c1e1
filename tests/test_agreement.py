from __future__ import annotations

import numpy as np
import pytest

from curate.summary import overlap, rank_correlation


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
