"""What Section 4 measures on the one-layer transformer: salience, relevance, and what follows from them.

Pure functions of the weights; every one gives (M, N), a number for each fact of each model.
"""

from __future__ import annotations

from torch import Tensor

from curate.simulation.one_layer.model import OneLayer, Triples, columns, entries, probabilities, subject_attention


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
