"""The theorems of Section 4 and Appendix A, as constructions, bounds and statements about one world of facts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from curate.simulation.one_layer.model import (
    OneLayer,
    Triples,
    is_right_among,
    log_odds,
    zero_weights,
)
from curate.simulation.one_layer.salience import attention_push, erasure_bound, relation_lead, salience
from curate.simulation.one_layer.training import sgd_step


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
