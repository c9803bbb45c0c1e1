from __future__ import annotations

import numpy as np
import pytest

from curate.validation.arms import histograms


def test_shares_of_every_arm_in_bins_they_have_in_common() -> None:
    found = histograms({"top": np.array([24.0, 23.5]), "bottom": np.array([0.0, 1.5, np.nan, 24.0])}, "score_loss")
    assert found is not None
    assert (found["edges"][0], found["edges"][-1], found["log"]) == (0, 24, False)
    assert found["shares"]["top"] == [0] * 23 + [1]
    assert found["shares"]["bottom"][0] == found["shares"]["bottom"][1] == pytest.approx(1 / 3)


def test_raw_views_get_a_logarithmic_scale_and_their_logarithms_do_not() -> None:
    views = np.array([0.0, 3, 10, 40, 1_000_000])
    raw, logs = histograms({"top": views}, "views"), histograms({"top": np.log10(1 + views)}, "score_pageviews")
    assert raw is not None and logs is not None
    assert (raw["log"], logs["log"]) == (True, False)
    assert sum(raw["shares"]["top"]) == sum(logs["shares"]["top"]) == pytest.approx(1)


def test_one_value_has_a_histogram_and_none_has_no_histogram() -> None:
    one = histograms({"top": np.array([5.0, 5.0])}, "x")
    assert one is not None and sum(one["shares"]["top"]) == 1
    assert histograms({"top": np.array([np.nan])}, "x") is None
