"""Histograms show where the rows lie, on raw page views too."""

from __future__ import annotations

import numpy as np

from curate.summary import bin_edges


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
