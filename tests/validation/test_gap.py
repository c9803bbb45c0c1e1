from __future__ import annotations

import numpy as np
import pytest

from curate.validation.statistics import gap_change

N = 1000
PERCENTILES = 100 * np.arange(N) / N
CLUSTERS = np.arange(N)


def arms(ahead_on_popular: float, ahead_elsewhere: float, seeds: int = 3) -> dict[str, np.ndarray]:
    """Made-up answers: bottom is right on half of the questions, top on so many more."""
    rng = np.random.default_rng(0)
    chance = np.where(PERCENTILES < 20, ahead_on_popular, ahead_elsewhere)
    luck = rng.random((seeds, N))
    return {"top": (luck < 0.5 + chance).astype(float), "bottom": (luck < 0.5).astype(float)}


@pytest.mark.parametrize(
    ("popular", "elsewhere", "said"),
    [(0.0, 0.2, "the gap grows"), (0.3, 0.0, "the gap shrinks"), (0.1, 0.1, "no clear change")],
)
def test_the_sentence_says_whether_the_gap_grows(popular: float, elsewhere: float, said: str) -> None:
    found = gap_change(arms(popular, elsewhere), ("top", "bottom"), PERCENTILES, CLUSTERS)
    assert found is not None and said in found["sentence"]
    assert found["popular"] == pytest.approx(popular, abs=0.05)
    assert found["all"] == pytest.approx(0.2 * popular + 0.8 * elsewhere, abs=0.05)
    assert found["low"] < found["change"] < found["high"]


def test_without_popularity_there_is_nothing_to_say() -> None:
    unknown = np.full(N, np.nan)
    assert gap_change(arms(0, 0), ("top", "bottom"), unknown, CLUSTERS) is None
