"""The one-layer transformer of Section 4, exactly; its theorems checked on random worlds; the experiment `one-layer`.

    f(s, r) = softmax(W_V X softmax(X^T W_KQ phi(r))),   X = [phi(s) phi(r)]

The embeddings phi are orthonormal and fixed: token i is the i-th unit vector, so phi(a)^T W phi(b) is W[a, b]. The
output head is the identity. W_V and W_KQ are all there is to learn. Tokens are the input tokens of `Facts`, then the
answers.

M models of one vocabulary stand side by side. Shapes throughout: M models, N facts a model, T tokens in the vocabulary,
K answers of a relation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.simulation.settings import OneLayerSettings, Row, Tables
from curate.simulation.synthetic import Facts, draw_statements, make_arms, make_facts, partition, top_rows


@dataclass(frozen=True)
class OneLayer:
    """M one-layer transformers."""

    values: Tensor  # W_V, (M, T, T): row for the token that is answered, column for the token that is read
    attention: Tensor  # W_KQ, (M, T, T): row for the token that is attended to, column for the last token


@dataclass(frozen=True)
class Triples:
    """N facts for each of M models, as tokens. (M, N) each"""

    subjects: Tensor
    relations: Tensor  # or the prompt tokens that stand for them
    answers: Tensor

    def at(self, positions: slice) -> Triples:
        """Some of the facts. -> (M, n)"""
        return Triples(self.subjects[:, positions], self.relations[:, positions], self.answers[:, positions])


def vocabulary(facts: Facts) -> int:
    """T, the number of tokens: input tokens and answers."""
    return facts.tokens + facts.n_answers


def statements(facts: Facts, subjects: NDArray[np.int64] | None = None) -> Triples:
    """`(s, r, a)` for every relation of the subjects (or all), subject by subject, for one model. -> (1, N)"""
    about, relations = facts.every_relation_of(subjects)
    return pairs(facts, facts.statements(about, relations), facts.answers[about, relations])


def questions(facts: Facts, subjects: NDArray[np.int64] | None = None) -> Triples:
    """`(s, p_r, a)` for every relation of the subjects (or all), subject by subject, for one model. -> (1, N)"""
    about, relations = facts.every_relation_of(subjects)
    return pairs(facts, facts.questions(about, relations), facts.answers[about, relations])


def pairs(facts: Facts, inputs: NDArray[np.int64], answers: NDArray[np.int64]) -> Triples:
    """Facts given as inputs (N, 2) and answers (N,) counted from 0, for one model. -> (1, N)"""
    tokens = torch.from_numpy(inputs).unsqueeze(0)
    return Triples(tokens[..., 0], tokens[..., 1], torch.from_numpy(answers + facts.tokens).unsqueeze(0))


def side_by_side(parts: Sequence[Triples]) -> Triples:
    """Facts of as many for every model, for the models side by side. (1, N) each -> (M, N)"""
    tokens = ([part.subjects, part.relations, part.answers] for part in parts)
    return Triples(*(torch.cat(each) for each in zip(*tokens, strict=True)))


def rivals(facts: Facts, answers: Tensor) -> Tensor:
    """A^r: all answers of the relation that each answer belongs to. (M, N) -> (M, N, K)"""
    each = facts.n_answers // facts.relations
    first = facts.tokens + (answers - facts.tokens) // each * each
    return first.unsqueeze(-1) + torch.arange(each)


def zero_weights(models: int, tokens: int, dtype: torch.dtype = torch.float64) -> OneLayer:
    """Weights that are all 0, where Theorem 4.6 starts."""
    # Columns are what training reads and writes, so they are what lies together in memory.
    values, attention = torch.zeros(2, models, tokens, tokens, dtype=dtype)
    return OneLayer(values.mT, attention)


def random_weights(
    models: int, tokens: int, std: float, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> OneLayer:
    """Normal weights with a standard deviation of `std`, which is 0.001 in Appendix C.1."""
    weights = zero_weights(models, tokens, dtype)
    weights.values.normal_(std=std, generator=generator)
    weights.attention.normal_(std=std, generator=generator)
    return weights


def repeated(model: OneLayer, models: int) -> OneLayer:
    """That many copies of a single model, to be trained apart. M must be 1."""
    # A clone of the transpose keeps columns together in memory.
    return OneLayer(model.values.mT.repeat(models, 1, 1).mT, model.attention.repeat(models, 1, 1))


def columns(weights: Tensor, tokens: Tensor) -> Tensor:
    """The columns of a (M, T, T) matrix at some tokens: what each of them reads out. (M, N) -> (M, N, T)"""
    return weights.mT[_each_model(tokens), tokens]


def entries(weights: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """phi(row)^T W phi(column) for pairs of tokens. (M, N), (M, N) -> (M, N)"""
    return weights[_each_model(rows), rows, columns]


def subject_attention(model: OneLayer, subjects: Tensor, relations: Tensor) -> Tensor:
    """Att_s: how much the last token attends to the subject, in [0, 1]; the rest, Att_r, goes to itself. (M, N)"""
    return torch.sigmoid(log_odds(model, subjects, relations))


def log_odds(model: OneLayer, subjects: Tensor, relations: Tensor) -> Tensor:
    """c = log(Att_s / Att_r) = phi(s)^T W_KQ phi(r) - phi(r)^T W_KQ phi(r). (M, N)"""
    return entries(model.attention, subjects, relations) - entries(model.attention, relations, relations)


def logits(model: OneLayer, subjects: Tensor, relations: Tensor) -> Tensor:
    """Of every token as the answer: Att_s W_V phi(s) + Att_r W_V phi(r). (M, N) -> (M, N, T)"""
    attended = subject_attention(model, subjects, relations).unsqueeze(-1)
    return torch.lerp(columns(model.values, relations), columns(model.values, subjects), attended)


def probabilities(model: OneLayer, subjects: Tensor, relations: Tensor) -> Tensor:
    """f(s, r). (M, N) -> (M, N, T)"""
    return torch.softmax(logits(model, subjects, relations), dim=-1)


def is_right(model: OneLayer, facts: Triples, among: Tensor | None = None) -> Tensor:
    """Whether the answer is more likely than every other token, or than the others `among` (M, N, K). (M, N), boolean

    A tie is wrong.
    """
    scores = logits(model, facts.subjects, facts.relations)
    right = scores.gather(-1, facts.answers.unsqueeze(-1))
    return ((scores if among is None else scores.gather(-1, among)) >= right).sum(dim=-1) == 1


def loss(model: OneLayer, facts: Triples) -> Tensor:
    """-log f(s, r)_a of each fact. (M, N)"""
    logs = torch.log_softmax(logits(model, facts.subjects, facts.relations), dim=-1)
    return -logs.gather(-1, facts.answers.unsqueeze(-1)).squeeze(-1)


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


def _each_model(of_models: Tensor) -> Tensor:
    """The number of every model, to index the first dimension of its weights by. (M, …) -> (M, 1)"""
    return torch.arange(len(of_models)).unsqueeze(-1)


def sgd_step(model: OneLayer, facts: Triples, rate: float) -> None:
    """One step, in place, on the mean loss of each model's own facts.

    -dL/dW_V  is (phi(a) - f)(Att_s phi(s) + Att_r phi(r))^T,
    -dL/dW_KQ is Att_s Att_r (s_rel - p_rel)(phi(s) phi(r)^T - phi(r) phi(r)^T), each summed over facts.
    """
    step = rate / facts.answers.shape[1]
    wrong = error(model, facts)
    attended = subject_attention(model, facts.subjects, facts.relations)
    by_subject, by_relation = columns(model.values, facts.subjects), columns(model.values, facts.relations)
    push = attended * (1 - attended) * (wrong * (by_subject - by_relation)).sum(dim=-1)

    _add_to_columns(model.values, facts.subjects, step * attended.unsqueeze(-1) * wrong)
    _add_to_columns(model.values, facts.relations, step * (1 - attended).unsqueeze(-1) * wrong)
    models = _each_model(push)
    model.attention.index_put_((models, facts.subjects, facts.relations), step * push, accumulate=True)
    model.attention.index_put_((models, facts.relations, facts.relations), -step * push, accumulate=True)


def one_epoch(model: OneLayer, facts: Triples, rate: float) -> None:
    """Every fact once, in order, one at a time, in place: the training of Theorem 4.6."""
    for position in range(facts.answers.shape[1]):
        sgd_step(model, facts.at(slice(position, position + 1)), rate)


def _add_to_columns(weights: Tensor, tokens: Tensor, amounts: Tensor) -> None:
    """Add (M, N, T) to the columns of (M, T, T) at tokens (M, N); tokens may repeat."""
    models, size = len(tokens), weights.shape[-1]
    rows = weights.mT.view(models * size, size)
    offsets = size * torch.arange(models).unsqueeze(-1)
    rows.index_add_(0, (tokens + offsets).flatten(), amounts.flatten(0, 1))


# The theorems of Section 4 and Appendix A, checked on many small random worlds, inside their assumptions and outside.
#
# The check of a theorem takes a small world and a random generator, and gives a boolean for every case in it: whether
# the statement holds. Told to go outside the assumptions it may break, which shows that the check can fail.


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
    models, push = _each_model(asked.answers), attention_push(model, asked)
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
    models = _each_model(facts.answers)
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


# The experiment: the theorems checked; pretraining and finetuning watched step by step (Appendix C.1).


WORLDS = 20  # random worlds a seed for every theorem
INITIAL_STD = 0.001  # Appendix C.1
EPOCH_STATEMENTS = 4000  # of the epoch of Theorem 4.6
EPOCH_RATE = 1e-4  # small enough that the theorem's constant is close to its limit


def run_one_layer(point: OneLayerSettings, seed: int) -> Tables:
    """Check the theorems; pretrain, and at every checkpoint finetune and watch all arms."""
    tables: Tables = {"results": [], "dynamics": [], "pretraining": [], "salience": [], "theorems": []}
    tables["theorems"] += [theorem.check(WORLDS, seed) for theorem in THEOREMS]

    rng = np.random.default_rng(seed)
    (alpha,) = point.alpha
    facts = make_facts(point.subjects, point.relations, point.answers, alpha, point.answer_alpha, rng)
    parts = partition(point.subjects, point.finetuning_subjects, 0, rng)
    arms = make_arms(parts.finetuning, point.share, rng)
    tables["salience"] += [{"alpha": alpha, "steps": None, **row} for row in salience_after_epoch(facts, rng)]
    for steps, model, counts in pretrain(facts, point, rng):
        columns = {"alpha": alpha, "steps": steps}
        tables["pretraining"].append({**columns, **stored(model, facts, parts.evaluation)})
        tables["salience"] += [{**columns, **row} for row in salience_by_count(facts, model, counts)]
        watched, right = finetune(model, facts, arms, parts.evaluation, point)
        tables["dynamics"] += [{**columns, **row} for row in watched]
        for arm, answered in right.items():
            size = {"n_train": len(arms[arm]) * facts.relations}
            tables["results"] += [{"arm": arm, **columns, **size, **row} for row in top_rows(answered)]
    return tables


def pretrain(
    facts: Facts, settings: OneLayerSettings, rng: np.random.Generator
) -> Iterator[tuple[int, OneLayer, NDArray[np.int64]]]:
    """The model after each number of `settings.steps`, fewest first, and how often it had seen each fact, (S, R)."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    model = random_weights(1, vocabulary(facts), INITIAL_STD, generator, torch.float32)
    counts = np.zeros(facts.answers.shape, dtype=np.int64)
    for step in range(1, max(settings.steps) + 1):
        subjects, relations, answers = draw_statements(facts, settings.batch_size, rng)
        np.add.at(counts, (subjects, relations), 1)
        sgd_step(model, pairs(facts, facts.statements(subjects, relations), answers), settings.learning_rate)
        if step in settings.steps:
            yield step, model, counts.copy()


def stored(model: OneLayer, facts: Facts, subjects: NDArray[np.int64]) -> Row:
    """What is in the model in (s, r) form: answered, answerable by some attention, attention paid, salience."""
    known = statements(facts, subjects)
    attentive = OneLayer(model.values, torch.zeros_like(model.attention))
    attentive.attention[:, : facts.subjects, :] = 50.0  # all attention to the subject
    return {
        "memorisation": is_right(model, known).double().mean().item(),
        "answerable": is_right(attentive, known, rivals(facts, known.answers)).double().mean().item(),
        "subject_attention": subject_attention(model, known.subjects, known.relations).mean().item(),
        "salience": salience(model, known).mean().item(),
    }


def finetune(
    model: OneLayer,
    facts: Facts,
    arms: Mapping[str, NDArray[np.int64]],
    tested: NDArray[np.int64],
    settings: OneLayerSettings,
) -> tuple[list[Row], dict[str, NDArray[np.bool_]]]:
    """Every arm step by step on the questions of the tested subjects, and which it answers at the end, (S, R).

    Each step is on all questions of the arm. Arms of one size are trained side by side.
    """
    watched = watched_steps(settings.finetuning_steps)
    rows: list[Row] = []
    right = {}
    sizes: dict[int, list[str]] = {}
    for arm, subjects in arms.items():
        sizes.setdefault(len(subjects), []).append(arm)
    for together in sizes.values():
        models = repeated(model, len(together))
        training = side_by_side([questions(facts, arms[arm]) for arm in together])
        testing = side_by_side([questions(facts, tested)] * len(together))
        for step in range(settings.finetuning_steps + 1):
            if step in watched:
                rows += _watch(models, facts, testing, together, step)
            if step < settings.finetuning_steps:
                sgd_step(models, training, settings.finetuning_learning_rate)
        for arm, answered in zip(together, is_right(models, testing).numpy(), strict=True):
            right[arm] = answered.reshape(len(tested), facts.relations)
    return rows, right


def watched_steps(last: int) -> list[int]:
    """Every step at first, every tenth after the twentieth, and the last."""
    return sorted({*range(min(20, last)), *range(20, last, 10), last})


def salience_by_count(facts: Facts, model: OneLayer, counts: NDArray[np.int64]) -> list[Row]:
    """Count and salience of every fact of a pretrained model."""
    each = salience(model, statements(facts))[0].tolist()
    return [
        {"training": "pretraining", "count": int(n), "salience": s, "bound": None}
        for n, s in zip(counts.flatten(), each, strict=True)
    ]


def salience_after_epoch(facts: Facts, rng: np.random.Generator) -> list[Row]:
    """Count, salience and the lower bound of Theorem 4.6 for every fact seen in one epoch from zero."""
    subjects, relations, answers = draw_statements(facts, EPOCH_STATEMENTS, rng)
    drawn = pairs(facts, facts.statements(subjects, relations), answers)
    model = zero_weights(1, vocabulary(facts))
    one_epoch(model, drawn, EPOCH_RATE)
    constant = salience_constant(drawn, vocabulary(facts), EPOCH_RATE)
    measured = zip(fact_counts(drawn)[0].tolist(), salience(model, drawn)[0].tolist(), strict=True)
    seen = dict(zip(zip(subjects, relations, strict=True), measured, strict=True))  # each fact once
    return [
        {"training": "epoch", "count": n, "salience": value, "bound": n * constant * EPOCH_RATE}
        for n, value in seen.values()
    ]


def _watch(models: OneLayer, facts: Facts, testing: Triples, arms: Sequence[str], step: int) -> list[Row]:
    measured = {
        "subject_attention": subject_attention(models, testing.subjects, testing.relations),
        "accuracy": is_right(models, testing).float(),
        "accuracy_among": is_right(models, testing, rivals(facts, testing.answers)).float(),
        "salience": salience(models, testing),
    }
    means = {name: values.double().mean(dim=1).tolist() for name, values in measured.items()}
    return [
        {"arm": arm, "step": step, **{name: values[place] for name, values in means.items()}}
        for place, arm in enumerate(arms)
    ]
