from __future__ import annotations

from typing import Any

import pytest

from curate.records import contrast
from curate.validation.attention import Probe, attention_summary

PROBE = Probe((), 7)


def rows(top: list[list[float]], bottom: list[list[float]]) -> list[dict[str, Any]]:
    """Attention by seed and layer."""
    return [
        {"arm": arm, "seed": seed, "layer": layer, "subject_attention": value}
        for arm, seeds in (("top", top), ("bottom", bottom))
        for seed, layers in enumerate(seeds)
        for layer, value in enumerate(layers, start=1)
    ]


@pytest.mark.parametrize(
    ("top", "bottom", "said"),
    [
        ([[0, 0, 0.5, 0.3]], [[0.9, 0.9, 0.2, 0.2]], "top gives it more with the one seed."),
        ([[0, 0.5], [0, 0.4]], [[0, 0.1], [0, 0.2]], "top gives it more with each of the 2 seeds."),
        ([[0, 0.1], [0, 0.2]], [[0, 0.5], [0, 0.4]], "top gives it less with each of the 2 seeds."),
        ([[0, 0.9], [0, 0.2]], [[0, 0.1], [0, 0.4]], "no clear difference, top gives it more with 1 of 2 seeds."),
        ([[0, 0.2], [0, 0.2]], [[0, 0.2], [0, 0.2]], "no clear difference, top gives it more with 0 of 2 seeds."),
    ],
)
def test_the_sentence_says_what_the_later_half_of_the_layers_shows_seed_by_seed(
    top: list[list[float]], bottom: list[list[float]], said: str
) -> None:
    summary = attention_summary(rows(top, bottom), ["top", "bottom"], PROBE)
    assert summary is not None
    assert summary["sentence"].endswith(said)


def test_means_and_layers_of_the_sentence() -> None:
    summary = attention_summary(rows([[9, 9, 0.5, 0.3]], [[9, 9, 0.25, 0.25]]), ["base", "top", "bottom"], PROBE)
    assert summary is not None
    assert summary["later_layers"] == [3, 4]
    assert summary["later_attention"] == pytest.approx({"top": 0.4, "bottom": 0.25})
    assert "(layers 3 to 4 of 4)" in summary["sentence"] and "0.400" in summary["sentence"]


def test_without_attention_nothing_is_said() -> None:
    assert attention_summary([], ["top", "bottom"], PROBE) is None


def test_arms_without_the_papers_names_are_contrasted_in_their_order() -> None:
    assert contrast(["base", "top", "random", "bottom"]) == ("top", "bottom")
    assert contrast(["base", "easy", "hard"]) == ("easy", "hard")
    assert contrast(["base", "easy"]) is None
