"""The small transformers: trained side by side they are what each would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curate.simulation.world import Shape, Transformers, is_right, make_optimizer, train_step

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
