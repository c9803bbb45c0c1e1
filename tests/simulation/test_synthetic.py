"""The made-up facts: who is how popular, which answers there are, who is finetuned and tested on.

And the small transformers: trained side by side they are what each would be alone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.simulation.synthetic import (
    Shape,
    Transformers,
    draw_statements,
    is_right,
    make_arms,
    make_facts,
    make_optimizer,
    partition,
    train_step,
    zipf,
)

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


SHAPE = Shape(tokens=9, answers=5, width=8, layers=2, heads=2)


def new_model(seed: int = 0) -> Transformers:
    return Transformers(SHAPE, 1, torch.Generator().manual_seed(seed))


def batches(seed: int, models: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(9, size=(models, 16, 2)), rng.integers(5, size=(models, 16))


def test_models_side_by_side_train_as_each_alone() -> None:
    inputs, answers = batches(0, models=3)
    together = new_model().repeated(3)
    optimizer = make_optimizer(together, 1e-2)
    for _ in range(3):
        train_step(together, optimizer, inputs, answers)
    for number in range(3):
        alone = new_model()
        optimizer = make_optimizer(alone, 1e-2)
        for _ in range(3):
            train_step(alone, optimizer, inputs[number : number + 1], answers[number : number + 1])
        for name, weight in alone.state_dict().items():
            assert torch.allclose(weight[0], together.state_dict()[name][number], atol=1e-5), name


def test_a_token_that_does_not_occur_stays_as_it_was() -> None:
    model = new_model()
    before = model.embedding.detach().clone()
    inputs, answers = batches(0, models=1)
    train_step(model, make_optimizer(model, 1e-2), np.where(inputs == 8, 0, inputs), answers)
    assert torch.equal(model.embedding[0, 8], before[0, 8])
    assert not torch.equal(model.embedding[0, 0], before[0, 0])


@pytest.mark.parametrize("layers", [1, 2])
def test_the_answer_depends_on_both_tokens(layers: int) -> None:
    model = Transformers(Shape(9, 5, 8, layers, 2), 1, torch.Generator().manual_seed(0))
    logits = model(torch.tensor([[[1, 2], [3, 2], [1, 4]]]))[0]
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])


def test_it_learns_what_it_is_shown() -> None:
    rng = np.random.default_rng(0)
    inputs = np.stack(np.meshgrid(np.arange(4), np.arange(4, 8)), axis=-1).reshape(-1, 2)
    answers = rng.integers(5, size=16)
    model = new_model()
    optimizer = make_optimizer(model, 1e-2)
    for _ in range(150):
        train_step(model, optimizer, inputs[None], answers[None])
    assert is_right(model, inputs, answers).all()
