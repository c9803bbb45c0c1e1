"""The one-layer transformer: definitions, gradient, dynamics, and theorems on worlds that hypothesis makes up."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.simulation.one_layer import (
    THEOREMS,
    OneLayer,
    Theorem,
    Triples,
    attention_push,
    erasure_bound,
    fact_counts,
    finetune,
    is_right,
    log_odds,
    loss,
    one_epoch,
    pretrain,
    probabilities,
    prompt_relevance,
    questions,
    random_weights,
    relation_lead,
    repeated,
    salience,
    salience_constant,
    sgd_step,
    statements,
    subject_attention,
    subject_relevance,
    vocabulary,
    watched_steps,
    zero_weights,
)
from curate.simulation.settings import OneLayerSettings
from curate.simulation.simulate import find_experiment
from curate.simulation.synthetic import make_arms, make_facts, partition

INSIDE = [theorem for theorem in THEOREMS if theorem.assumptions_met]
OUTSIDE = [theorem for theorem in THEOREMS if not theorem.assumptions_met]


def name(theorem: Theorem) -> str:
    return f"{theorem.theorem}, {theorem.assumptions}"


def fact(subject: int, relation: int, answer: int) -> Triples:
    return Triples(*(torch.tensor([[token]]) for token in (subject, relation, answer)))


@pytest.mark.parametrize("theorem", INSIDE, ids=name)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_theorem_holds_under_its_assumptions(theorem: Theorem, seed: int) -> None:
    assert theorem.holds(np.random.default_rng(seed)).all()


@pytest.mark.parametrize("theorem", OUTSIDE, ids=name)
def test_a_theorem_may_break_outside_its_assumptions(theorem: Theorem) -> None:
    checked = theorem.check(worlds=8)
    assert 0 < checked["violations"] < checked["cases"]


def test_every_theorem_is_checked_on_both_sides_of_its_assumptions() -> None:
    assert {theorem.theorem for theorem in INSIDE} == {"Section 4", "A.1", "4.2, A.5", "4.5, A.11", "4.6, A.10"}
    assert {theorem.theorem for theorem in INSIDE} - {theorem.theorem for theorem in OUTSIDE} == {"Section 4"}


def test_f_is_the_formula_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    model = random_weights(1, 5, 1.0, generator)
    w_v, w_kq, phi = model.values[0], model.attention[0], torch.eye(5, dtype=torch.float64)
    x = torch.stack([phi[1], phi[3]], dim=1)  # subject 1, relation 3
    expected = torch.softmax(w_v @ x @ torch.softmax(x.T @ w_kq @ phi[3], dim=0), dim=0)
    assert torch.allclose(probabilities(model, torch.tensor([[1]]), torch.tensor([[3]]))[0, 0], expected, atol=1e-14)


def test_salience_relevance_and_push_on_a_model_worked_out_by_hand() -> None:
    model = zero_weights(1, 4)  # tokens: subject 0, prompt 1, answers 2 and 3
    model.values[0, 2, 0] = 2.0
    model.values[0, 3, 1] = 2.0
    asked = fact(0, 1, 2)
    # Attention is 1/2 each, so both answers have a logit of 1 and the other tokens 0.
    f = math.e / (2 * math.e + 2)
    assert salience(model, asked).item() == 2.0
    assert subject_relevance(model, asked).item() == pytest.approx(2 * (1 - f))
    assert prompt_relevance(model, asked).item() == pytest.approx(-2 * f)
    assert attention_push(model, asked).item() == pytest.approx(0.25 * 2)
    assert not is_right(model, asked).item()  # a tie is wrong


def test_the_bound_on_attention_separates_right_from_wrong() -> None:
    model = zero_weights(1, 4)
    model.values[0, 2, 0] = 1.5  # the salience of the fact (0, 1, 2)
    model.values[0, 3, 1] = 3.0  # what the relation prefers
    asked, rivals = fact(0, 1, 2), torch.tensor([[[2, 3]]])
    bound = erasure_bound(salience(model, asked), relation_lead(model, asked, rivals)).item()
    assert bound == pytest.approx(math.log(2))
    for distance, right in ((-0.01, False), (0.01, True)):
        model.attention[0, 0, 1] = bound + distance
        assert is_right(model, asked).item() is right


def test_a_fact_the_relation_prefers_is_never_suppressed() -> None:
    model = zero_weights(1, 4)
    model.values[0, 2, 0] = model.values[0, 2, 1] = 1.0
    lead = relation_lead(model, fact(0, 1, 2), torch.tensor([[[2, 3]]]))
    assert erasure_bound(torch.tensor([[1.0]]), lead).item() == -math.inf


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), models=st.integers(1, 3), n=st.integers(1, 12))
def test_a_step_is_the_gradient_of_automatic_differentiation(seed: int, models: int, n: int) -> None:
    tokens = 9
    model = random_weights(models, tokens, 1.0, torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    subjects, relations, answers = (torch.from_numpy(rng.integers(low, low + 3, size=(models, n))) for low in (0, 3, 6))
    facts = Triples(subjects, relations, answers)
    values, attention = (w.detach().clone().requires_grad_() for w in (model.values, model.attention))
    mean_losses = loss(OneLayer(values, attention), facts).mean(dim=1).sum()
    gradients = torch.autograd.grad(mean_losses, (values, attention))
    before = model.values.clone(), model.attention.clone()
    sgd_step(model, facts, rate=0.5)
    for was, now, gradient in zip(before, (model.values, model.attention), gradients, strict=True):
        assert (was - now - 0.5 * gradient).abs().max() < 1e-10


def test_the_constant_of_theorem_4_6() -> None:
    facts = Triples(torch.tensor([[0, 0, 0, 1]]), torch.tensor([[2, 2, 3, 2]]), torch.tensor([[4, 4, 5, 4]]))
    assert fact_counts(facts).tolist() == [[2, 2, 1, 1]]
    # The fact (0, 3, 5) was seen once and its subject two more times: rho is 2.
    limit = salience_constant(facts, tokens=100, rate=0.0)
    assert limit == pytest.approx((1 - 3 / 100) / 2)
    assert salience_constant(facts, tokens=100, rate=0.1) < limit
    assert salience_constant(facts, tokens=100, rate=100.0) == -math.inf


def test_salience_after_one_small_epoch_is_half_the_rate_for_every_sight() -> None:
    facts = Triples(torch.tensor([[0, 1, 0, 0]]), torch.tensor([[2, 2, 2, 2]]), torch.tensor([[4, 5, 4, 4]]))
    model = zero_weights(1, 1000)
    one_epoch(model, facts, rate=1e-4)
    assert salience(model, facts)[0].tolist() == pytest.approx([1.5e-4, 0.5e-4, 1.5e-4, 1.5e-4], rel=2e-3)


def test_copies_of_a_model_are_trained_apart() -> None:
    model = random_weights(1, 6, 1.0, torch.Generator().manual_seed(0))
    copies = repeated(model, 2)
    two = Triples(torch.tensor([[0], [1]]), torch.tensor([[2], [2]]), torch.tensor([[4], [5]]))
    sgd_step(copies, two, rate=1.0)
    one = Triples(two.subjects[1:], two.relations[1:], two.answers[1:])
    sgd_step(model, one, rate=1.0)
    assert torch.allclose(copies.values[1], model.values[0])
    assert torch.allclose(copies.attention[1], model.attention[0])
    assert not torch.allclose(copies.values[0], model.values[0])


def test_finetuning_leaves_what_is_stored_about_other_subjects_untouched() -> None:
    world = make_facts(12, 2, 3, alpha=1.0, answer_alpha=0.0, rng=np.random.default_rng(0))
    model = random_weights(1, vocabulary(world), 1.0, torch.Generator().manual_seed(0))
    tested = statements(world, np.arange(6, 12))
    tuned = repeated(model, 1)
    for _ in range(20):
        sgd_step(tuned, questions(world, np.arange(6)), rate=1.0)
    assert torch.equal(salience(tuned, tested), salience(model, tested))
    same = (tested.subjects, tested.relations)
    assert torch.equal(probabilities(tuned, *same), probabilities(model, *same))
    asked = questions(world, np.arange(6, 12))
    assert not torch.equal(
        subject_attention(tuned, asked.subjects, asked.relations),
        subject_attention(model, asked.subjects, asked.relations),
    )


def test_salient_facts_raise_attention_and_faint_ones_lower_it() -> None:
    """Two models that differ in salience only, finetuned on the same questions."""
    world = make_facts(20, 2, 4, alpha=1.0, answer_alpha=0.0, rng=np.random.default_rng(1))
    known = statements(world, np.arange(20))
    attention = []
    for strength in (2.0, 0.05):
        model = zero_weights(1, vocabulary(world))
        model.values[0, known.answers, known.subjects] = strength
        chosen = replace(OneLayerSettings(), finetuning_steps=200)
        rows, _ = finetune(model, world, {"arm": np.arange(10)}, np.arange(10, 20), chosen)
        attention.append(rows[-1]["subject_attention"])
    assert attention[0] > 0.8
    assert attention[1] < 0.2


def test_log_odds_are_those_of_attention() -> None:
    model = random_weights(1, 4, 1.0, torch.Generator().manual_seed(0))
    pair = (torch.tensor([[0]]), torch.tensor([[1]]))
    attended = subject_attention(model, *pair)
    assert log_odds(model, *pair).item() == pytest.approx((attended / (1 - attended)).log().item())


def test_watched_steps_end_with_the_last() -> None:
    assert watched_steps(5) == [0, 1, 2, 3, 4, 5]
    assert watched_steps(35)[-4:] == [19, 20, 30, 35]


SMALL = ("--subjects", 60, "--finetuning-subjects", 30, "--answers", 6, "--steps", "40,80", "--finetuning-steps", 25)


def test_the_command_leaves_theorems_dynamics_and_figures(
    curate: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.simulation.one_layer.WORLDS", 4)
    monkeypatch.setattr("curate.simulation.one_layer.EPOCH_STATEMENTS", 300)
    result = curate("simulate", "one-layer", "-o", "out", *SMALL, "--seeds", 1, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert json.loads(result.stdout) == {"output": "out", **summary}
    for theorem in summary["theorems"]:
        assert theorem["cases"] > 0
        assert (theorem["violations"] == 0) == theorem["assumptions_met"]
    assert summary["salience"]["bound_violations"] == 0
    assert summary["salience"]["epoch_rank_correlation"] > 0.8
    assert [setting["steps"] for setting in summary["settings"]] == [40, 80]
    for setting in summary["settings"]:
        assert setting["arms"]["bottom"]["salience_end"] == setting["arms"]["bottom"]["salience_start"]
    gaps = next(table for table in find_experiment("one-layer").tables(summary) if "minus" in table.title)
    place = gaps.headers.index("− FT-Bottom")  # also of a summary that a file gives back in alphabetical order
    assert gaps.rows[0][place].startswith(f"{100 * summary['settings'][0]['gaps']['top - bottom']['mean']:+.1f}")
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert {row["arm"] for row in rows} == {"top", "bottom", "random", "whole"}
    assert {"experiment", "seed", "alpha", "steps", "top_percent", "accuracy"} <= set(rows[0])
    for figure in ("subject-attention-alpha-1-steps-40", "accuracy-alpha-1-steps-80", "salience-by-count-in-one-epoch"):
        assert (tmp_path / "out" / "figures" / f"{figure}.png").is_file()


def test_settings_that_cannot_be_are_refused(curate: Callable[..., Any]) -> None:
    refused = curate("simulate", "one-layer", "-o", "out", "--subjects", 50)
    assert refused.exit_code == 1
    assert "--subjects 200" in refused.stderr
    unknown = curate("simulate", "one-layer", "-o", "out", "--width", 8)
    assert unknown.exit_code == 1
    assert "no setting --width" in unknown.stderr


def test_the_claim_of_appendix_c_1_at_the_default_settings() -> None:
    """One seed: attention is static for ten steps, then rises under FT-Top and falls under FT-Bottom."""
    chosen, rng = OneLayerSettings(), np.random.default_rng(0)
    world = make_facts(chosen.subjects, chosen.relations, chosen.answers, 1.0, chosen.answer_alpha, rng)
    parts = partition(chosen.subjects, chosen.finetuning_subjects, 0, rng)
    arms = make_arms(parts.finetuning, chosen.share, rng)
    ((_, model, _),) = pretrain(world, chosen, rng)
    two = {arm: arms[arm] for arm in ("top", "bottom")}
    rows, right = finetune(model, world, two, parts.evaluation, chosen)
    watched = {(row["arm"], row["step"]): row for row in rows}
    attention = {key: row["subject_attention"] for key, row in watched.items()}
    assert attention["top", 300] > 0.75
    assert attention["bottom", 300] < 0.1
    assert abs(attention["bottom", 10] - attention["bottom", 0]) < 0.02
    assert watched["bottom", 300]["accuracy"] < watched["bottom", 20]["accuracy"] - 0.3
    assert right["top"].mean() > right["bottom"].mean() + 0.2
    assert watched["bottom", 300]["salience"] == watched["bottom", 0]["salience"]
