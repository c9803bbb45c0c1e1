from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.validation.statistics import (
    Difference,
    answer_groups,
    cluster_codes,
    compare_arms,
    curve_groups,
    difference_rows,
    equal_mix,
    gap_change,
    holm,
    popularity_percentiles,
    recommendation,
    standard_error,
    verdict,
)


def coins(share: float, seeds: int, n: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((seeds, n)) < share).astype(float)


def difference(
    a: str, b: str, correct_a: np.ndarray, correct_b: np.ndarray, clusters: np.ndarray | None = None
) -> Difference:
    apart = np.arange(correct_a.shape[1])
    return compare_arms({a: correct_a, b: correct_b}, [(a, b)], apart if clusters is None else clusters)[0]


def test_the_standard_error_is_that_of_the_mean_over_seeds() -> None:
    correct = np.array([[1, 1, 0, 0], [1, 1, 1, 0.0]])
    assert standard_error(correct) == pytest.approx(0.125)
    assert standard_error(correct[:1]) is None


def test_a_planted_difference_is_found_with_its_sign() -> None:
    found = difference("top", "bottom", coins(0.40, 3, 1500, 1), coins(0.33, 3, 1500, 2))
    assert 0 < found.low < found.difference < found.high
    assert found.p < 0.01
    reversed_ = difference("bottom", "top", coins(0.33, 3, 1500, 2), coins(0.40, 3, 1500, 1))
    assert reversed_.difference == pytest.approx(-found.difference)
    assert reversed_.high < 0


def simulated(effect: float, seeds: int, seed_sd: float, runs: int, n: int = 400) -> list[Difference]:
    """Differences of `runs` pairs of arms: some questions are harder, seeds scatter, a is better by `effect`."""
    rng = np.random.default_rng(0)
    correct: dict[str, np.ndarray] = {}
    for run in range(runs):
        known = rng.beta(0.5, 0.6, n)
        for arm, gain in ((f"a{run}", effect), (f"b{run}", 0.0)):
            chance = np.clip(known + gain + rng.normal(0, seed_sd, (seeds, 1)), 0, 1)
            correct[arm] = (rng.random((seeds, n)) < chance).astype(float)
    found = compare_arms(correct, [(f"a{run}", f"b{run}") for run in range(runs)], np.arange(n))
    return [replace(d, p_adjusted=d.p) for d in found]  # each pair is a run of its own


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.01), (5, 0.02)])
def test_two_random_halves_show_no_difference_in_93_of_100_runs(seeds: int, seed_sd: float) -> None:
    said = [verdict([d], d.a) for d in simulated(0.0, seeds, seed_sd, runs=250)]
    assert sum("no difference" in text for text in said) / len(said) >= 0.93


def test_five_points_are_found() -> None:
    found = simulated(0.05, seeds=5, seed_sd=0.005, n=1500, runs=40)
    assert sum("beats" in verdict([d], d.a) for d in found) >= 38


def test_seeds_that_scatter_widen_the_interval_more_than_a_bootstrap_of_them_would() -> None:
    a = np.tile([[1.0], [0.0], [0.0]], (1, 400))  # a seed in which everything is right, and two in which nothing is
    found = difference("a", "b", a, np.zeros((3, 400)))
    assert found.low < 0 < found.difference
    assert found.needed is None, "no number of test examples makes up for too few seeds"


def test_examples_of_one_subject_count_as_one() -> None:
    delta = coins(0.5, 1, 100, 1)
    many = np.repeat(delta, 10, axis=1)
    apart = difference("a", "b", many, np.full((1, 1000), 0.5))
    together = difference("a", "b", many, np.full((1, 1000), 0.5), cluster_codes([str(i // 10) for i in range(1000)]))
    once = difference("a", "b", delta, np.full((1, 100), 0.5))
    assert (together.low, together.high) == pytest.approx((once.low, once.high))
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_the_examples_needed_are_those_that_would_have_shown_the_difference() -> None:
    a, b = coins(0.52, 1, 500, 1), coins(0.5, 1, 500, 2)
    small = difference("a", "b", a, b)
    assert small.low < 0
    sd = (a - b).std()
    assert small.needed == pytest.approx((2.8016 * sd / small.difference) ** 2, rel=0.05)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_what_an_example_does_to_both_arms_cancels() -> None:
    a = coins(0.5, 1, 300, 3)
    b = a.copy()
    b[0, np.flatnonzero(a[0])[:9]] = 0
    paired = difference("a", "b", a, b)
    assert paired.low > 0, "nine lost answers out of 300 are plain when everything else is equal"


def test_one_seed_of_the_base_meets_every_seed_of_an_arm() -> None:
    arm, base = coins(0.5, 3, 200, 1), coins(0.1, 1, 200, 2)
    assert difference("arm", "base", arm, base).difference == pytest.approx(arm.mean() - base.mean())


def test_the_same_numbers_give_the_same_interval() -> None:
    a, b = coins(0.5, 2, 100, 1), coins(0.4, 2, 100, 2)
    assert difference("a", "b", a, b) == difference("a", "b", a, b)


def test_percentile_0_is_the_most_popular_and_an_unknown_one_has_none() -> None:
    scores = np.array([5.0, np.nan, 50.0, 0.5, 500.0])
    percentiles = popularity_percentiles(scores, list("abcde"))
    assert percentiles[[4, 2, 0, 3]].tolist() == [0, 25, 50, 75]
    assert np.isnan(percentiles[1])


@given(n=st.integers(1, 60))
def test_the_top_x_percent_are_that_many_and_the_most_popular(n: int) -> None:
    scores = np.arange(n, dtype=float)[::-1]
    percentiles = popularity_percentiles(scores, [str(i) for i in range(n)])
    groups = curve_groups(percentiles)
    assert [group["top_percent"] for group, _ in groups] == list(range(5, 101, 5))
    for group, members in groups:
        assert set(np.flatnonzero(members)) == set(range(-(-group["top_percent"] * n // 100)))


def test_the_verdict_is_read_off_the_intervals() -> None:
    said = verdict(
        [
            Difference("top", "random", 0.01, -0.01, 0.03, 0.3),
            Difference("top", "bottom", 0.05, 0.02, 0.08, 0.001),
            Difference("top", "whole", -0.04, -0.06, -0.02, 0.001),
            Difference("top", "base", 0.4, 0.3, 0.5, 0.001),
            Difference("random", "bottom", 0.04, 0.01, 0.07, 0.01),
        ],
        "top",
    )
    assert said == (
        "Finetuning on top beats bottom (+5.0, +2.0 to +8.0), and shows no difference from random "
        "(+1.0, -1.0 to +3.0), and is worse than whole (-4.0, -6.0 to -2.0); points of accuracy with 95% intervals. "
        "Beside the untouched model, top beats base (+40.0, +30.0 to +50.0)."
    )


def test_the_corrected_p_decides_and_not_the_interval() -> None:
    found = Difference("top", "bottom", 0.05, 0.01, 0.09, 0.02, p_adjusted=0.06)
    assert "shows no difference from bottom" in verdict([found], "top")
    assert "beats bottom" in verdict([replace(found, p_adjusted=0.04)], "top")


def test_the_verdict_says_what_is_left_at_equal_answer_mix() -> None:
    found = Difference("bottom", "top", -0.06, -0.09, -0.03, 0.001, 0.002, None, -0.001, -0.02, 0.02, 0.9)
    assert "At equal answer mix it is +0.1, -2.0 to +2.0 against bottom: top guesses better than bottom" in verdict(
        [found], "top"
    )
    known = replace(found, equal_mix=-0.05, equal_mix_low=-0.08, equal_mix_high=-0.02, equal_mix_p=0.001)
    assert "At equal answer mix it is +5.0, +2.0 to +8.0 against bottom." in verdict([known], "top")
    few = replace(known, equal_mix_low=-0.11, equal_mix_high=0.01, equal_mix_p=0.1)
    assert "against bottom: too little to be clear." in verdict([few], "top")


def against(other: str, points: float, width: float, p: float, **more: Any) -> Difference:
    """What top is ahead of another arm by, in points."""
    low, high = ((points + side) / 100 for side in (-width, width))
    return Difference("top", other, points / 100, low, high, p, p, **more)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([against("whole", 4, 2, 0.01)], "Train on top: it beats all of the data with half of it."),
        ([against("whole", -4, 2, 0.01)], "Train on all of them: top is 4.0 points worse than whole."),
        ([against("whole", 0.2, 1, 0.7), against("random", 3, 2, 0.01)], "Train on top: half of the data, same"),
        ([against("whole", 0.2, 1, 0.7), against("random", 0.1, 1, 0.8)], "Train on all of them: nothing is gained"),
        ([against("whole", -2, 3, 0.3, needed_seeds=9, needed=4000)], "to tell top from whole: about 9 seeds."),
        ([against("whole", -2, 3, 0.3, needed=4000)], "to tell top from whole: about 4,000 test questions."),
        ([against("whole", -0.1, 3, 0.9)], "too close to tell"),
        ([against("bottom", 9, 2, 0.01)], "Train on top rather than on bottom; whether it beats all"),
        ([against("bottom", -9, 2, 0.01)], "Train on bottom: top is 9.0 points worse than bottom."),
        ([against("base", 30, 2, 0.01)], "Beside the untouched model top is worth +30.0 points"),
    ],
)  # fmt: skip
def test_the_recommendation_is_something_to_do(found: list[Difference], said: str) -> None:
    assert said in recommendation(found, {"top": 500, "random": 500, "bottom": 500, "whole": 1000}, "top")


def test_the_seeds_needed_are_those_with_which_the_difference_is_seen() -> None:
    few = simulated(0.03, seeds=3, seed_sd=0.03, n=3000, runs=40)
    needed = [d.needed_seeds for d in few if d.needed_seeds]
    assert needed and 4 <= np.median(needed) <= 60
    many = simulated(0.03, seeds=int(np.median(needed)) + 10, seed_sd=0.03, n=3000, runs=20)
    assert sum(d.clear for d in many) > sum(d.clear for d in few[:20])


def test_a_planted_null_is_called_no_difference_wherever_the_arm_stands_in_the_pair() -> None:
    assert "no difference from whole" in verdict([Difference("whole", "top", 0.01, -0.02, 0.04, 0.5)], "top")
    assert "is worse than whole (-3.0, -4.0 to -2.0)" in verdict(
        [Difference("whole", "top", 0.03, 0.02, 0.04, 0)], "top"
    )


def answer_world(
    rng: np.random.Generator, runs: int, knows: float, mixes: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Made-up answers of pairs of arms, `a0` and `b0` and so on, to 600 questions with 60 answers, some of them common.

    Both know 10% of the facts, a `knows` more; what they do not know they guess, from answers as common as in training
    to the power of their `mixes`: 1 is as in the data, 0 every answer alike.
    """
    chance = 1 / np.arange(1, 61)
    answers = rng.choice(60, size=600, p=chance / chance.sum())
    correct: dict[str, np.ndarray] = {"answers": answers}
    for run in range(runs):
        shared = rng.random(600)
        for arm, known, mix in ((f"a{run}", 0.1 + knows, mixes[0]), (f"b{run}", 0.1, mixes[1])):
            guessed = rng.choice(60, size=(3, 600), p=chance**mix / (chance**mix).sum())
            correct[arm] = ((shared < known) | (guessed == answers)).astype(float)
    return correct


def test_commoner_answers_are_told_from_better_known_facts_in_90_of_100_worlds() -> None:
    """By the difference at equal answer mix, where the raw one is as clear in both worlds."""
    guesses = answer_world(np.random.default_rng(0), 100, knows=0, mixes=(1.5, 0.5))
    knows = answer_world(np.random.default_rng(1), 100, knows=0.09, mixes=(1, 1))
    for world, word in ((guesses, "guesses better"), (knows, "more")):
        answers = world.pop("answers")
        pairs = [(f"a{run}", f"b{run}") for run in range(100)]
        found = compare_arms(world, pairs, np.arange(600), equal_mix(answers.tolist()))
        assert sum(d.low > 0 for d in found) >= 95, "the raw difference is plain"
        left = [d.equal_mix_low > 0 for d in found]
        assert sum(left) >= 90 if word == "more" else sum(left) <= 10
        said = verdict([replace(found[0], p_adjusted=found[0].p, equal_mix_p=float(not left[0]))], "a0")
        assert ("guesses better" in said) == (word == "guesses better"), said


def test_at_equal_answer_mix_every_guess_is_worth_the_same() -> None:
    answers = ["common"] * 80 + ["rare"] * 20
    weights = equal_mix(answers)
    marks = {name: np.array([[float(answer == name) for answer in answers]]) for name in ("common", "rare")}
    (found,) = compare_arms(marks, [("common", "rare")], np.arange(100), weights)
    assert found.difference == pytest.approx(0.6)
    assert found.equal_mix == pytest.approx(0)


def test_differences_by_how_common_the_answer_is_add_up_to_the_whole() -> None:
    marks = {"a": coins(0.5, 2, 300, 1), "b": coins(0.4, 1, 300, 2)}
    groups = answer_groups(np.random.default_rng(0).integers(0, 30, 300))
    assert [name["answer"] for name, _ in groups] == ["never", "once", "2-4", "5-20", "over 20"]
    rows = difference_rows(marks, [("a", "b")], groups, np.arange(300))
    whole = sum(row["n"] * row["difference"] for row in rows) / 300
    assert whole == pytest.approx((marks["a"].mean(axis=0) - marks["b"][0]).mean())
    assert answer_groups(np.ones(5, dtype=int)) == [], "nothing to tell apart"


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
