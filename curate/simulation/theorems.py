"""What the theorems of Section 4 claim, checked."""

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
    columns,
    entries,
    is_right,
    is_right_among,
    log_odds,
    loss,
    one_epoch,
    pairs,
    probabilities,
    questions,
    random_weights,
    rivals,
    sgd_step,
    statements,
    subject_attention,
    vocabulary,
    zero_weights,
)
from curate.simulation.world import Facts, draw_statements, make_facts


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


def follows_erasure_bound(model: OneLayer, facts: Triples, rivals: Tensor) -> Tensor:
    """Theorem A.5: a fact is answered, among the answers of its relation, exactly if c > log(d / S). (M, N), boolean

    Assumes that the subject speaks for its own answer only: S > 0, and phi(a')^T W_V phi(s) = 0 for every rival a'.
    """
    bound = erasure_bound(salience(model, facts), relation_lead(model, facts, rivals))
    return is_right_among(model, facts, rivals) == (log_odds(model, facts.subjects, facts.relations) > bound)


def follows_sign_rule(model: OneLayer, facts: Triples, rate: float, subjects: int) -> Tensor:
    """Theorem 4.5: one step on `facts` moves attention to *every* subject under its prompt the way of s_rel - p_rel.

    Tokens 0 to `subjects` - 1 are the subjects. Takes the step, in place. Assumes one fact a model: with several
    facts of one prompt the sign is that of their sum, and a subject among them may go its own way. (M,), boolean
    """
    push = attention_push(model, facts).sum(dim=1)
    prompts = facts.relations[:, :1].expand(-1, subjects)
    every_subject = torch.arange(subjects).expand(len(prompts), -1)
    before = log_odds(model, every_subject, prompts)
    sgd_step(model, facts, rate)
    shift = log_odds(model, every_subject, prompts) - before
    return (shift.sign() == push.sign().unsqueeze(-1)).all(dim=-1)


def salience_constant(facts: Triples, tokens: int, rate: float) -> float:
    """c1 of Theorem 4.6 for one epoch over `facts`, (1, N), from zero at a rate eps, one fact at a time.

        c1 = sigma(-2 B^2) (1 - e^(2B) / T) - rho sigma(2 B^2) e^(2B) / T

    B = eps · the most often a token was read bounds every |logit|: each reading moves a value by eps at most.
    So f <= e^(2B) / T for every token, |s_rel - p_rel| <= 4B, and the log-odds of attention stay within 2 B^2.
    A fact seen n times raises its salience by at least eps sigma(-2 B^2) (1 - e^(2B) / T) each time; the at most
    rho n other facts of its subject lower it by at most eps sigma(2 B^2) e^(2B) / T each.
    The theorem says something where c1 > 0; c1 goes to (1 - (1 + rho) / T) / 2 as eps goes to 0.
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


def limiting_constant(facts: Triples, tokens: int) -> float:
    """What `salience_constant` tends to as the rate goes to 0: a promise that only small rates keep."""
    return salience_constant(facts, tokens, rate=0.0)


def follows_salience_bound(model: OneLayer, facts: Triples, rate: float, constant: float) -> Tensor:
    """Theorem 4.6: S(s, r, a) >= n c1 eps for facts seen n times, after the epoch. (1, N), boolean"""
    return salience(model, facts) >= fact_counts(facts) * constant * rate - 1e-12


def fact_counts(facts: Triples) -> Tensor:
    """How many times the fact at each position occurs among all of them; one model. (1, N) -> (1, N)"""
    _, where, counts = torch.unique(
        torch.cat([facts.subjects, facts.relations]), dim=1, return_inverse=True, return_counts=True
    )
    return counts[where].unsqueeze(0)


def _times(tokens: Tensor) -> Tensor:
    return torch.bincount(tokens.flatten())[tokens]


def salience(model: OneLayer, facts: Triples) -> Tensor:
    """S(s, r, a) = phi(a)^T W_V phi(s): how strongly the subject alone speaks for the answer (Definition 4.1)."""
    return entries(model.values, facts.answers, facts.subjects)


def error(model: OneLayer, facts: Triples) -> Tensor:
    """phi(a) - f(s, r): the descent direction of the loss in the logits. (M, N, T)"""
    wrong = -probabilities(model, facts.subjects, facts.relations)
    answers = facts.answers.unsqueeze(-1)
    return wrong.scatter(-1, answers, wrong.gather(-1, answers) + 1)


def subject_relevance(model: OneLayer, facts: Triples) -> Tensor:
    """s_rel = (phi(a) - f(s, p_r))^T W_V phi(s): how much reading the subject would help (Definition 4.3)."""
    return (error(model, facts) * columns(model.values, facts.subjects)).sum(dim=-1)


def prompt_relevance(model: OneLayer, facts: Triples) -> Tensor:
    """p_rel = (phi(a) - f(s, p_r))^T W_V phi(p_r): how much reading the prompt token would help (Definition 4.4)."""
    return (error(model, facts) * columns(model.values, facts.relations)).sum(dim=-1)


def attention_push(model: OneLayer, facts: Triples) -> Tensor:
    """Att_s Att_r (s_rel - p_rel): the size and sign of a gradient step on W_KQ.

    For one fact, -dL/dW_KQ is this number times phi(s) phi(r)^T - phi(r) phi(r)^T (Section 4).
    """
    attended = subject_attention(model, facts.subjects, facts.relations)
    relevance = subject_relevance(model, facts) - prompt_relevance(model, facts)
    return attended * (1 - attended) * relevance


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
    for odds in (torch.from_numpy(rng.normal(scale=3, size=bound.shape)), bound - NEAR, bound + NEAR):
        model.attention[0, every.subjects, every.relations] = odds.clamp(min=-30)
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
    return statements(facts, np.arange(facts.subjects))


def _all_questions(facts: Facts) -> Triples:
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
