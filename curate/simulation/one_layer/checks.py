"""Every theorem checked on many small random worlds, and outside its assumptions, where it may break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from curate.simulation.facts import Facts, draw_statements, make_facts
from curate.simulation.one_layer.model import OneLayer, Triples, is_right, loss, random_weights, zero_weights
from curate.simulation.one_layer.salience import attention_push, erasure_bound, relation_lead, salience
from curate.simulation.one_layer.theorems import (
    follows_erasure_bound,
    follows_salience_bound,
    follows_sign_rule,
    limiting_constant,
    memorising_weights,
    salience_constant,
)
from curate.simulation.one_layer.training import one_epoch
from curate.simulation.one_layer.world import pairs, questions, rivals, statements, vocabulary

if TYPE_CHECKING:
    import numpy as np

GRADIENT_TOLERANCE = 1e-10
NEAR = 1e-6  # how close to the bound of Theorem A.5 both sides are tried
DRAWN = 30  # statements in the pretraining of a small world
STEPS = 20  # of finetuning in a small world


@dataclass(frozen=True)
class Check:
    """A statement, where it was checked, and how often it did not hold."""

    theorem: str
    statement: str
    assumptions: str
    assumptions_met: bool
    cases: int
    violations: int

    @property
    def as_expected(self) -> bool:
        """No violation under the assumptions; at least one outside them."""
        return (self.violations == 0) == self.assumptions_met


@dataclass(frozen=True)
class Theorem:
    """How to check a statement: `holds` takes a random world and gives a boolean for every case in it."""

    theorem: str
    statement: str
    assumptions: str
    assumptions_met: bool
    holds: Callable[[np.random.Generator], Tensor]

    def check(self, worlds: int, seed: int = 0) -> Check:
        """Check it on that many random worlds."""
        import numpy as np

        outcomes = torch.cat([self.holds(np.random.default_rng([seed, world])).flatten() for world in range(worlds)])
        return Check(
            self.theorem,
            self.statement,
            self.assumptions,
            self.assumptions_met,
            outcomes.numel(),
            int((~outcomes).sum()),
        )


def small_world(rng: np.random.Generator) -> Facts:
    """2 to 8 subjects, 2 to 4 relations, 2 to 6 answers to each, at random."""
    subjects, relations, answers = rng.integers([2, 2, 2], [9, 5, 7])
    return make_facts(int(subjects), int(relations), int(answers), alpha=1.0, answer_alpha=1.0, rng=rng)


def gradient_holds(rng: np.random.Generator) -> Tensor:
    """The formula of Section 4 against automatic differentiation, for every fact of a world with random weights."""
    facts = small_world(rng)
    asked = _one_a_model(_all_questions(facts))
    model = random_weights(len(asked.answers), vocabulary(facts), 1.0, _torch_generator(rng))
    formula = torch.zeros_like(model.attention)
    models = torch.arange(len(asked.answers)).unsqueeze(-1)
    push = attention_push(model, asked)
    formula[models, asked.subjects, asked.relations] = push
    formula[models, asked.relations, asked.relations] = -push
    weights = model.attention.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(OneLayer(model.values, weights), asked).sum(), weights)
    return (formula + gradient).abs().flatten(1).amax(dim=1) < GRADIENT_TOLERANCE


def memorising_holds(rng: np.random.Generator) -> Tensor:
    """Theorem A.1 for all facts of a world in which relations have answers of their own."""
    facts = small_world(rng)
    every = _all_statements(facts)
    return is_right(memorising_weights(every, vocabulary(facts)), every)


def memorising_with_shared_answers(rng: np.random.Generator) -> Tensor:
    """The same where two relations have the same answers, such as place of birth and place of death."""
    facts = small_world(rng)
    every = _all_statements(facts)
    first_relation = facts.tokens + (every.answers - facts.tokens) % (facts.n_answers // facts.relations)
    shared = Triples(every.subjects, every.relations, first_relation)
    return is_right(memorising_weights(shared, vocabulary(facts)), shared)


def erasure_holds(rng: np.random.Generator) -> Tensor:
    """Theorem A.5 at random attention, and just on either side of the bound."""
    return _erasure(rng, leaning=0.0)


def erasure_with_leaning_subjects(rng: np.random.Generator) -> Tensor:
    """The same where the subject's own values speak for other answers of the relation too."""
    return _erasure(rng, leaning=1.0)


def sign_rule_holds(rng: np.random.Generator) -> Tensor:
    """Theorem 4.5 at every step of a finetuning, one question at a time, after a short pretraining."""
    facts, model = _pretrained(rng)
    asked = _all_questions(facts)
    outcomes = []
    for position in rng.integers(asked.answers.shape[1], size=STEPS):
        one = slice(int(position), int(position) + 1)
        fact = Triples(asked.subjects[:, one], asked.relations[:, one], asked.answers[:, one])
        if attention_push(model, fact).abs().item() > 1e-12:  # below it, the step is lost in rounding
            outcomes.append(follows_sign_rule(model, fact, rate=1.0, subjects=facts.subjects))
    return torch.cat(outcomes)


def sign_rule_in_batches(rng: np.random.Generator) -> Tensor:
    """The same with all questions of one prompt in each step."""
    facts, model = _pretrained(rng)
    asked = _all_questions(facts)
    outcomes = []
    for step in range(STEPS):
        one = slice(step % facts.relations, None, facts.relations)
        batch = Triples(asked.subjects[:, one], asked.relations[:, one], asked.answers[:, one])
        outcomes.append(follows_sign_rule(model, batch, rate=1.0, subjects=facts.subjects))
    return torch.cat(outcomes)


def salience_bound_holds(rng: np.random.Generator) -> Tensor:
    """Theorem 4.6 at a random small rate, where its constant is positive."""
    facts, drawn = _epoch(rng)
    rate = float(10 ** rng.uniform(-4, -2.5))
    constant = salience_constant(drawn, vocabulary(facts), rate)
    if constant <= 0:
        return torch.ones(0, dtype=torch.bool)  # outside the assumptions: not a case
    return _after_epoch(facts, drawn, rate, constant)


def salience_bound_at_high_rate(rng: np.random.Generator) -> Tensor:
    """The constant of small rates at a rate of 5."""
    facts, drawn = _epoch(rng)
    return _after_epoch(facts, drawn, rate=5.0, constant=limiting_constant(drawn, vocabulary(facts)))


def _erasure(rng: np.random.Generator, leaning: float) -> Tensor:
    facts = small_world(rng)
    every = _all_statements(facts)
    among = rivals(facts, every.answers)
    model = zero_weights(1, vocabulary(facts))
    model.values[0, facts.tokens :, : facts.subjects] = leaning * torch.from_numpy(
        rng.normal(size=(facts.n_answers, facts.subjects))
    )
    strength = torch.from_numpy(rng.uniform(0.1, 3.0, size=every.answers.shape))
    model.values[0, every.answers, every.subjects] = strength
    relations = slice(facts.subjects, facts.subjects + facts.relations)
    preferences = rng.normal(size=(facts.n_answers, facts.relations))
    model.values[0, facts.tokens :, relations] = torch.from_numpy(preferences)
    bound = erasure_bound(salience(model, every), relation_lead(model, every, among))
    outcomes = []
    for log_odds in (torch.from_numpy(rng.normal(scale=3, size=bound.shape)), bound - NEAR, bound + NEAR):
        model.attention[0, every.subjects, every.relations] = log_odds.clamp(min=-30)
        outcomes.append(follows_erasure_bound(model, every, among))
    return torch.cat(outcomes)


def _pretrained(rng: np.random.Generator) -> tuple[Facts, OneLayer]:
    facts = small_world(rng)
    model = random_weights(1, vocabulary(facts), 0.001, _torch_generator(rng))
    subjects, relations, answers = draw_statements(facts, DRAWN, rng)
    one_epoch(model, pairs(facts, facts.statements(subjects, relations), answers), rate=1.0)
    return facts, model


def _epoch(rng: np.random.Generator) -> tuple[Facts, Triples]:
    facts = small_world(rng)
    subjects, relations, answers = draw_statements(facts, DRAWN, rng)
    return facts, pairs(facts, facts.statements(subjects, relations), answers)


def _after_epoch(facts: Facts, drawn: Triples, rate: float, constant: float) -> Tensor:
    model = zero_weights(1, vocabulary(facts))
    one_epoch(model, drawn, rate)
    return follows_salience_bound(model, drawn, rate, constant)


def _all_statements(facts: Facts) -> Triples:
    import numpy as np

    return statements(facts, np.arange(facts.subjects))


def _all_questions(facts: Facts) -> Triples:
    import numpy as np

    return questions(facts, np.arange(facts.subjects))


def _one_a_model(facts: Triples) -> Triples:
    """The N facts of one model as one fact for each of N models. (1, N) -> (N, 1)"""
    return Triples(facts.subjects.T, facts.relations.T, facts.answers.T)


def _torch_generator(rng: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**31)))


THEOREMS = (
    Theorem(
        "Section 4",
        "-dL/dW_KQ = Att_s Att_r (s_rel - p_rel)(phi(s) phi(p_r)^T - phi(p_r) phi(p_r)^T)",
        "none: any weights",
        True,
        gradient_holds,
    ),
    Theorem(
        "A.1",
        "W_V = sum phi(a) phi(s)^T + phi(a) phi(r)^T, W_KQ = 0 answers every fact",
        "no other answer belongs to both s and r",
        True,
        memorising_holds,
    ),
    Theorem(
        "A.1",
        "the same",
        "outside: relations share their answers",
        False,
        memorising_with_shared_answers,
    ),
    Theorem(
        "4.2, A.5",
        "a fact is suppressed exactly if log(Att_s / Att_r) <= log(d / S)",
        "s speaks for no other answer of r",
        True,
        erasure_holds,
    ),
    Theorem(
        "4.2, A.5",
        "the same",
        "outside: s leans to other answers of r",
        False,
        erasure_with_leaning_subjects,
    ),
    Theorem(
        "4.5, A.11",
        "one step moves attention to every subject the way of s_rel - p_rel",
        "one fact a step",
        True,
        sign_rule_holds,
    ),
    Theorem(
        "4.5, A.11",
        "the same, by the sign of the sum",
        "outside: all facts of a prompt in one step",
        False,
        sign_rule_in_batches,
    ),
    Theorem(
        "4.6, A.10",
        "S(s, r, a) >= n c1 eps after one epoch",
        "from zero, one fact a step, c1 > 0",
        True,
        salience_bound_holds,
    ),
    Theorem(
        "4.6, A.10",
        "the same with the c1 of small rates",
        "outside: eps = 5",
        False,
        salience_bound_at_high_rate,
    ),
)
