"""The made-up facts: who is how popular, which answers there are, who is finetuned and tested on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.simulation.world import draw_statements, make_arms, make_facts, partition, zipf

seeds = st.integers(0, 2**32 - 1)


@given(st.integers(1, 200), st.floats(0, 3))
def test_popularity_is_a_distribution_that_falls_with_rank(n: int, alpha: float) -> None:
    p = zipf(n, alpha)
    assert p.sum() == pytest.approx(1)
    assert (np.diff(p) <= 0).all()
    assert p[0] / p[-1] == pytest.approx(n**alpha)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 8), seeds)
def test_every_fact_has_one_answer_of_its_relations_own(subjects: int, relations: int, answers: int, seed: int) -> None:
    facts = make_facts(subjects, relations, answers, 1.0, 1.0, np.random.default_rng(seed))
    assert facts.answers.shape == (subjects, relations)
    assert (facts.answers // answers == np.arange(relations)).all()
    assert facts.answers.max() < facts.n_answers == relations * answers


@given(st.integers(1, 30), st.integers(1, 6), seeds)
def test_pretraining_states_true_facts_and_never_shows_a_prompt_token(subjects: int, relations: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    facts = make_facts(subjects, relations, 4, 1.0, 1.0, rng)
    s, r, a = draw_statements(facts, 50, rng)
    assert (a == facts.answers[s, r]).all()
    stated, asked = facts.statements(s, r), facts.questions(s, r)
    assert stated.max() < subjects + relations <= asked[:, 1].min()
    assert asked.max() < facts.tokens
    assert (stated[:, 0] == asked[:, 0]).all()


def test_subjects_are_drawn_as_often_as_they_are_popular() -> None:
    rng = np.random.default_rng(0)
    facts = make_facts(10, 2, 3, 1.0, 1.0, rng)
    s, r, _ = draw_statements(facts, 100_000, rng)
    assert np.bincount(s, minlength=10) / 100_000 == pytest.approx(facts.popularity, abs=0.005)
    assert np.bincount(r) / 100_000 == pytest.approx([0.5, 0.5], abs=0.005)


@settings(max_examples=50)
@given(st.integers(10, 100), st.integers(2, 5), st.integers(1, 4), st.floats(0.01, 1), seeds)
def test_arms_are_parts_of_the_finetuning_subjects(n: int, ft: int, validation: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = partition(n, ft, validation, rng)
    assert sorted([*parts.finetuning, *parts.validation, *parts.evaluation]) == list(range(n))
    arms = make_arms(parts.finetuning, share, rng)
    assert set(arms["whole"]) == set(parts.finetuning)
    assert len(arms["top"]) == len(arms["bottom"]) == len(arms["random"]) >= 1
    assert max(arms["top"]) <= min(set(parts.finetuning) - set(arms["top"]), default=n)
    assert min(arms["bottom"]) >= max(set(parts.finetuning) - set(arms["bottom"]), default=0)
    assert set(arms["random"]) <= set(parts.finetuning)


def test_a_seed_always_gives_the_same_world() -> None:
    rng = np.random.default_rng(7)
    facts = make_facts(4, 3, 5, 1.0, 1.0, rng)
    assert facts.answers.tolist() == [[1, 8, 12], [0, 5, 13], [0, 8, 12], [1, 5, 10]]
    assert partition(10, 3, 2, rng).finetuning.tolist() == [4, 8, 9]
