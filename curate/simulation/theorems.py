"""The theorems of Section 4 and Appendix A, checked on many small random worlds, inside their assumptions and outside.

The check of a theorem takes a small world and a random generator, and gives a boolean for every case in it: whether the
statement holds. Told to go outside the assumptions it may break, which shows that the check can fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from curate.simulation.one_layer import (
    OneLayer,
    Triples,
    attention_push,
    columns,
    is_right,
    log_odds,
    loss,
    one_epoch,
    pairs,
    questions,
    random_weights,
    rivals,
    salience,
    sgd_step,
    statements,
    vocabulary,
    zero_weights,
)
from curate.simulation.settings import Row
from curate.simulation.world import Facts, draw_statements, make_facts

Check = Callable[[Facts, np.random.Generator, bool], Tensor]


@dataclass(frozen=True)
class Theorem:
    """A statement, what it assumes, and whether the worlds it is checked on are within that."""

    theorem: str
    statement: str
    assumptions: str
    assumptions_met: bool
    checked: Check

    def holds(self, rng: np.random.Generator) -> Tensor:
        """Whether it holds in every case of a random world."""
        return self.checked(small_world(rng), rng, not self.assumptions_met)

    def check(self, worlds: int, seed: int = 0) -> Row:
        """A row of results: in how many cases, on that many random worlds, and how often it did not hold."""
        outcomes = torch.cat([self.holds(np.random.default_rng([seed, world])).flatten() for world in range(worlds)])
        about = {name: value for name, value in vars(self).items() if name != "checked"}
        return {**about, "cases": outcomes.numel(), "violations": int((~outcomes).sum())}


THEOREMS: list[Theorem] = []


def theorem(name: str, statement: str, assumptions: str, *outside: tuple[str, str]) -> Callable[[Check], Check]:
    """Puts a check among THEOREMS, and again for each (statement, where) that it makes `outside` of its assumptions."""

    def keep(check: Check) -> Check:
        THEOREMS.append(Theorem(name, statement, assumptions, True, check))
        THEOREMS.extend(Theorem(name, said, f"outside: {where}", False, check) for said, where in outside)
        return check

    return keep


def small_world(rng: np.random.Generator) -> Facts:
    """2 to 8 subjects, 2 to 4 relations, 2 to 6 answers to each, at random."""
    subjects, relations, answers = rng.integers([2, 2, 2], [9, 5, 7])
    return make_facts(int(subjects), int(relations), int(answers), alpha=1.0, answer_alpha=1.0, rng=rng)


def _torch_generator(rng: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**31)))


DRAWN = 30  # statements in the pretraining of a small world


def _drawn(facts: Facts, rng: np.random.Generator) -> Triples:
    """Statements of a pretraining, in order."""
    subjects, relations, answers = draw_statements(facts, DRAWN, rng)
    return pairs(facts, facts.statements(subjects, relations), answers)


# Section 4: the gradient

GRADIENT_TOLERANCE = 1e-10


@theorem(
    "Section 4",
    "-dL/dW_KQ = Att_s Att_r (s_rel - p_rel)(phi(s) phi(p_r)^T - phi(p_r) phi(p_r)^T)",
    "none: any weights",
)
def gradient_holds(facts: Facts, rng: np.random.Generator, outside: bool) -> Tensor:
    """The formula of Section 4 against automatic differentiation, for every fact of a world with random weights."""
    every = questions(facts)
    asked = Triples(every.subjects.T, every.relations.T, every.answers.T)  # (N, 1): one fact for each of N models
    model = random_weights(len(asked.answers), vocabulary(facts), 1.0, _torch_generator(rng))
    formula = torch.zeros_like(model.attention)
    models = torch.arange(len(asked.answers)).unsqueeze(-1)
    push = attention_push(model, asked)
    formula[models, asked.subjects, asked.relations] = push
    formula[models, asked.relations, asked.relations] = -push
    weights = model.attention.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(OneLayer(model.values, weights), asked).sum(), weights)
    return (formula + gradient).abs().flatten(1).amax(dim=1) < GRADIENT_TOLERANCE


# Theorem A.1: weights that memorise


def memorising_weights(facts: Triples, tokens: int) -> OneLayer:
    """Theorem A.1: W_V = sum phi(a) phi(s)^T + phi(a) phi(r)^T, W_KQ = 0.

    Every pair (a, s) and (a, r) counts once, however many facts share it: were (a, r) counted by the fact, a
    frequent answer of the relation would win over a rare one. It memorises all facts when no other answer belongs
    to both the subject and the relation of a fact: then the answer has a logit of 1 and every other at most 1/2.
    """
    weights = zero_weights(len(facts.answers), tokens)
    models = torch.arange(len(facts.answers)).unsqueeze(-1)
    weights.values[models, facts.answers, facts.subjects] = 1.0
    weights.values[models, facts.answers, facts.relations] = 1.0
    return weights


@theorem(
    "A.1",
    "W_V = sum phi(a) phi(s)^T + phi(a) phi(r)^T, W_KQ = 0 answers every fact",
    "no other answer belongs to both s and r",
    ("the same", "relations share their answers"),
)
def memorising_holds(facts: Facts, rng: np.random.Generator, outside: bool) -> Tensor:
    """Theorem A.1 for all facts of a world in which relations have answers of their own.

    Outside, two relations have the same answers, such as place of birth and place of death.
    """
    every = statements(facts)
    if outside:
        of_first = facts.tokens + (every.answers - facts.tokens) % (facts.n_answers // facts.relations)
        every = Triples(every.subjects, every.relations, of_first)
    return is_right(memorising_weights(every, vocabulary(facts)), every)


# Theorems 4.2 and A.5: when a fact is suppressed

NEAR = 1e-6  # how close to the bound both sides are tried


def relation_lead(model: OneLayer, facts: Triples, rivals: Tensor) -> Tensor:
    """d = max over rivals a' of phi(a')^T W_V phi(r) - phi(a)^T W_V phi(r): how far the relation alone prefers another.

    `rivals` are the answers of each fact's relation, (M, N, K), with the fact's own among them (Theorem 4.2).
    """
    by_relation = columns(model.values, facts.relations)
    others = by_relation.gather(-1, rivals).masked_fill(rivals == facts.answers.unsqueeze(-1), -float("inf"))
    return others.amax(dim=-1) - by_relation.gather(-1, facts.answers.unsqueeze(-1)).squeeze(-1)


def erasure_bound(salience: Tensor, relation_lead: Tensor) -> Tensor:
    """log(d / S): at log-odds of attention up to this a fact is suppressed, above it it is answered (Theorem A.5).

    The more salient the fact, the lower the bound. Minus infinity where the relation prefers no other answer.
    """
    return (relation_lead.clamp(min=0) / salience).log()


@theorem(
    "4.2, A.5",
    "a fact is suppressed exactly if log(Att_s / Att_r) <= log(d / S)",
    "s speaks for no other answer of r",
    ("the same", "s leans to other answers of r"),
)
def erasure_holds(facts: Facts, rng: np.random.Generator, outside: bool) -> Tensor:
    """Theorem A.5 at random attention, and just on either side of the bound."""
    every = statements(facts)
    among = rivals(facts, every.answers)
    model = zero_weights(1, vocabulary(facts))
    leaning = torch.from_numpy(rng.normal(size=(facts.n_answers, facts.subjects)))
    model.values[0, facts.tokens :, : facts.subjects] = outside * leaning
    strength = torch.from_numpy(rng.uniform(0.1, 3.0, size=every.answers.shape))
    model.values[0, every.answers, every.subjects] = strength
    relations = slice(facts.subjects, facts.subjects + facts.relations)
    preferences = rng.normal(size=(facts.n_answers, facts.relations))
    model.values[0, facts.tokens :, relations] = torch.from_numpy(preferences)
    bound = erasure_bound(salience(model, every), relation_lead(model, every, among))
    outcomes = []
    for odds in (torch.from_numpy(rng.normal(scale=3, size=bound.shape)), bound - NEAR, bound + NEAR):
        model.attention[0, every.subjects, every.relations] = odds.clamp(min=-30)
        answered = log_odds(model, every.subjects, every.relations) > bound
        outcomes.append(is_right(model, every, among) == answered)
    return torch.cat(outcomes)


# Theorems 4.5 and A.11: which way attention moves

STEPS = 20  # of finetuning in a small world


@theorem(
    "4.5, A.11",
    "one step moves attention to every subject the way of s_rel - p_rel",
    "one fact a step",
    ("the same, by the sign of the sum", "all facts of a prompt in one step"),
)
def sign_rule_holds(facts: Facts, rng: np.random.Generator, outside: bool) -> Tensor:
    """Theorem 4.5 at every step of a finetuning, after a short pretraining: one question a step, or all of a prompt."""
    model = random_weights(1, vocabulary(facts), 0.001, _torch_generator(rng))
    one_epoch(model, _drawn(facts, rng), rate=1.0)
    asked = questions(facts)
    outcomes = []
    for step, position in enumerate(rng.integers(asked.answers.shape[1], size=STEPS)):
        prompt, fact = slice(step % facts.relations, None, facts.relations), slice(position, position + 1)
        batch = asked.at(prompt if outside else fact)
        if outside or attention_push(model, batch).abs().item() > 1e-12:  # below it, the step is lost in rounding
            outcomes.append(follows_sign_rule(model, batch, facts.subjects))
    return torch.cat(outcomes)


def follows_sign_rule(model: OneLayer, facts: Triples, subjects: int) -> Tensor:
    """Whether one step on `facts` moves attention to *every* subject under its prompt the way of s_rel - p_rel.

    Tokens 0 to `subjects` - 1 are the subjects. Takes the step, in place, at a rate of 1. The theorem assumes one fact
    a model: with several facts of one prompt the sign is that of their sum, and a subject among them may go its own
    way. (M,), boolean
    """
    push = attention_push(model, facts).sum(dim=1)
    prompts = facts.relations[:, :1].expand(-1, subjects)
    every_subject = torch.arange(subjects).expand(len(prompts), -1)
    before = log_odds(model, every_subject, prompts)
    sgd_step(model, facts, rate=1.0)
    shift = log_odds(model, every_subject, prompts) - before
    return (shift.sign() == push.sign().unsqueeze(-1)).all(dim=-1)


# Theorems 4.6 and A.10: how salience grows with the number of times a fact is seen


def salience_constant(facts: Triples, tokens: int, rate: float) -> float:
    """c1 of Theorem 4.6 for one epoch over `facts`, (1, N), from zero at a rate eps, one fact at a time.

        c1 = sigma(-2 B^2) (1 - e^(2B) / T) - rho sigma(2 B^2) e^(2B) / T

    B = eps · the most often a token was read bounds every |logit|: each reading moves a value by eps at most.
    So f <= e^(2B) / T for every token, |s_rel - p_rel| <= 4B, and the log-odds of attention stay within 2 B^2.
    A fact seen n times raises its salience by at least eps sigma(-2 B^2) (1 - e^(2B) / T) each time; the at most
    rho n other facts of its subject lower it by at most eps sigma(2 B^2) e^(2B) / T each.
    The theorem says something where c1 > 0; c1 goes to (1 - (1 + rho) / T) / 2, its value at a rate of 0, as eps does.
    """
    most_read = max(int(times.max()) for times in (_times(facts.subjects), _times(facts.relations)))
    largest = rate * most_read
    if largest > 50:  # e^100 tokens are more than anyone has
        return -math.inf
    spread = 2 * largest**2
    attended_least, attended_most = 1 / (1 + math.exp(spread)), 1 / (1 + math.exp(-spread))
    most_likely = math.exp(2 * largest) / tokens
    counts = fact_counts(facts)
    others = (_times(facts.subjects) - counts) / counts
    return attended_least * (1 - most_likely) - float(others.max()) * attended_most * most_likely


def fact_counts(facts: Triples) -> Tensor:
    """How many times the fact at each position occurs among all of them; one model. (1, N) -> (1, N)"""
    _, where, counts = torch.unique(
        torch.cat([facts.subjects, facts.relations]), dim=1, return_inverse=True, return_counts=True
    )
    return counts[where].unsqueeze(0)


def _times(tokens: Tensor) -> Tensor:
    return torch.bincount(tokens.flatten())[tokens]


@theorem(
    "4.6, A.10",
    "S(s, r, a) >= n c1 eps after one epoch",
    "from zero, one fact a step, c1 > 0",
    ("the same with the c1 of small rates", "eps = 5"),
)
def salience_bound_holds(facts: Facts, rng: np.random.Generator, outside: bool) -> Tensor:
    """Theorem 4.6 at a random small rate; outside, the constant that holds as the rate goes to 0, at a rate of 5."""
    drawn = _drawn(facts, rng)
    rate = 5.0 if outside else float(10 ** rng.uniform(-4, -2.5))
    constant = salience_constant(drawn, vocabulary(facts), 0.0 if outside else rate)
    if constant <= 0 and not outside:
        return torch.ones(0, dtype=torch.bool)  # outside the assumptions: not a case
    model = zero_weights(1, vocabulary(facts))
    one_epoch(model, drawn, rate)
    return salience(model, drawn) >= fact_counts(drawn) * constant * rate - 1e-12
