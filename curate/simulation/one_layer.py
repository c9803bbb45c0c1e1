"""The one-layer transformer of Section 4: the model, its world and its experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curate.report.figures import Drawing
from curate.simulation.settings import OneLayerSettings
from curate.simulation.synthetic import Shown, Tables
from curate.simulation.world import Facts


def vocabulary(facts: Facts) -> int:
    """T, the number of tokens: input tokens and answers."""
    return facts.tokens + facts.n_answers


def statements(facts: Facts, subjects: NDArray[np.int64]) -> Triples:
    """`(s, r, a)` for every relation of the subjects, subject by subject, for one model. -> (1, N)"""
    about, relations = facts.every_relation_of(subjects)
    return pairs(facts, facts.statements(about, relations), facts.answers[about, relations])


def questions(facts: Facts, subjects: NDArray[np.int64]) -> Triples:
    """`(s, p_r, a)` for every relation of the subjects, subject by subject, for one model. -> (1, N)"""
    about, relations = facts.every_relation_of(subjects)
    return pairs(facts, facts.questions(about, relations), facts.answers[about, relations])


def pairs(facts: Facts, inputs: NDArray[np.int64], answers: NDArray[np.int64]) -> Triples:
    """Facts given as inputs (N, 2) and answers (N,) counted from 0, for one model. -> (1, N)"""
    tokens = torch.from_numpy(inputs).unsqueeze(0)
    return Triples(tokens[..., 0], tokens[..., 1], torch.from_numpy(answers + facts.tokens).unsqueeze(0))


def side_by_side(parts: Sequence[Triples]) -> Triples:
    """Facts of as many for every model, for the models side by side. (1, N) each -> (M, N)"""
    return Triples(
        torch.cat([part.subjects for part in parts]),
        torch.cat([part.relations for part in parts]),
        torch.cat([part.answers for part in parts]),
    )


def rivals(facts: Facts, answers: Tensor) -> Tensor:
    """A^r: all answers of the relation that each answer belongs to. (M, N) -> (M, N, K)"""
    each = facts.n_answers // facts.relations
    first = facts.tokens + (answers - facts.tokens) // each * each
    return first.unsqueeze(-1) + torch.arange(each)


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


def zero_weights(models: int, tokens: int, dtype: torch.dtype = torch.float64) -> OneLayer:
    """Weights that are all 0, where Theorem 4.6 starts."""
    # Columns are what training reads and writes, so they are what lies together in memory.
    return OneLayer(
        torch.zeros(models, tokens, tokens, dtype=dtype).mT, torch.zeros(models, tokens, tokens, dtype=dtype)
    )


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
    return OneLayer(
        model.values.mT.repeat(models, 1, 1).mT,
        model.attention.repeat(models, 1, 1),
    )


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


def is_right(model: OneLayer, facts: Triples) -> Tensor:
    """Whether the answer is more likely than every other token of the vocabulary; a tie is wrong. (M, N), boolean"""
    scores = logits(model, facts.subjects, facts.relations)
    right = scores.gather(-1, facts.answers.unsqueeze(-1))
    return (scores >= right).sum(dim=-1) == 1


def is_right_among(model: OneLayer, facts: Triples, rivals: Tensor) -> Tensor:
    """Whether the answer is more likely than the other rivals, (M, N, K), the answers of its relation. (M, N)"""
    scores = logits(model, facts.subjects, facts.relations)
    right = scores.gather(-1, facts.answers.unsqueeze(-1))
    return (scores.gather(-1, rivals) >= right).sum(dim=-1) == 1


def loss(model: OneLayer, facts: Triples) -> Tensor:
    """-log f(s, r)_a of each fact. (M, N)"""
    logs = torch.log_softmax(logits(model, facts.subjects, facts.relations), dim=-1)
    return -logs.gather(-1, facts.answers.unsqueeze(-1)).squeeze(-1)


def _each_model(tokens: Tensor) -> Tensor:
    return torch.arange(len(tokens)).unsqueeze(-1)


def sgd_step(model: OneLayer, facts: Triples, rate: float) -> None:
    """One step, in place, on the mean loss of each model's own facts.

    -dL/dW_V  is (phi(a) - f)(Att_s phi(s) + Att_r phi(r))^T,
    -dL/dW_KQ is Att_s Att_r (s_rel - p_rel)(phi(s) phi(r)^T - phi(r) phi(r)^T), each summed over facts.
    """
    step = rate / facts.answers.shape[1]
    from curate.simulation.theorems import error

    wrong = error(model, facts)
    attended = subject_attention(model, facts.subjects, facts.relations)
    by_subject, by_relation = columns(model.values, facts.subjects), columns(model.values, facts.relations)
    push = attended * (1 - attended) * (wrong * (by_subject - by_relation)).sum(dim=-1)

    _add_to_columns(model.values, facts.subjects, step * attended.unsqueeze(-1) * wrong)
    _add_to_columns(model.values, facts.relations, step * (1 - attended).unsqueeze(-1) * wrong)
    models = torch.arange(len(push)).unsqueeze(-1)
    model.attention.index_put_((models, facts.subjects, facts.relations), step * push, accumulate=True)
    model.attention.index_put_((models, facts.relations, facts.relations), -step * push, accumulate=True)


def one_epoch(model: OneLayer, facts: Triples, rate: float) -> None:
    """Every fact once, in order, one at a time, in place: the training of Theorem 4.6."""
    for position in range(facts.answers.shape[1]):
        one = slice(position, position + 1)
        fact = Triples(facts.subjects[:, one], facts.relations[:, one], facts.answers[:, one])
        sgd_step(model, fact, rate)


def _add_to_columns(weights: Tensor, tokens: Tensor, amounts: Tensor) -> None:
    """Add (M, N, T) to the columns of (M, T, T) at tokens (M, N); tokens may repeat."""
    models, size = len(tokens), weights.shape[-1]
    rows = weights.mT.view(models * size, size)
    offsets = size * torch.arange(models).unsqueeze(-1)
    rows.index_add_(0, (tokens + offsets).flatten(), amounts.flatten(0, 1))


WORLDS = 20  # random worlds a seed for every theorem


@dataclass(frozen=True)
class OneLayerExperiment:
    """Follows the `Experiment` protocol."""

    name: str = "one-layer"
    title: str = "Why does finetuning on unpopular facts suppress facts that stay stored?"

    def settings(self, full: bool) -> OneLayerSettings:
        """The default settings; with `full` after pretraining of several lengths."""
        settings = OneLayerSettings()
        return replace(settings, steps=(250, 350, 500, 700, 1000, 2000)) if full else settings

    def points(self, settings: OneLayerSettings) -> list[OneLayerSettings]:
        """One world and one pretraining for every alpha; the steps are checkpoints of the same pretraining."""
        return [replace(settings, alpha=(alpha,)) for alpha in settings.alpha]

    def run(self, point: OneLayerSettings, seed: int) -> Tables:
        """Check the theorems; pretrain, and at every checkpoint finetune and watch all arms."""

        from curate.simulation.dynamics import finetune, pretrain, salience_after_epoch, salience_by_count, stored
        from curate.simulation.synthetic import top_rows
        from curate.simulation.theorems import THEOREMS
        from curate.simulation.world import make_arms, make_facts, partition

        tables: Tables = {"results": [], "dynamics": [], "pretraining": [], "salience": [], "theorems": []}
        tables["theorems"] += [asdict(theorem.check(WORLDS, seed)) for theorem in THEOREMS]

        rng = np.random.default_rng(seed)
        (alpha,) = point.alpha
        facts = make_facts(point.subjects, point.relations, point.answers, alpha, point.answer_alpha, rng)
        parts = partition(point.subjects, point.finetuning_subjects, 0, rng)
        arms = make_arms(parts.finetuning, point.share, rng)
        tables["salience"] += [{"alpha": alpha, "steps": None, **row} for row in salience_after_epoch(facts, rng)]
        for steps, model, counts in pretrain(facts, point, rng):
            setting = {"alpha": alpha, "steps": steps}
            tables["pretraining"].append({**setting, **stored(model, facts, parts.evaluation)})
            tables["salience"] += [{**setting, **row} for row in salience_by_count(facts, model, counts)]
            watched, right = finetune(model, facts, arms, parts.evaluation, point)
            tables["dynamics"] += [{**setting, **row} for row in watched]
            for arm, answered in right.items():
                size = {"n_train": len(arms[arm]) * facts.relations}
                tables["results"] += [{"arm": arm, **setting, **size, **row} for row in top_rows(answered)]
        return tables

    def summarise(self, tables: Tables) -> dict[str, Any]:
        """Attention and accuracy of every arm before and after, what stayed stored, and the theorems."""
        from curate.simulation.dynamics import summarise

        return {"experiment": self.name, **summarise(tables)}

    def shown(self, summary: Mapping[str, Any]) -> list[Shown]:
        """The theorems and the arms as tables for a person."""
        from curate.simulation.dynamics import shown

        return shown(summary)

    def figures(self, tables: Tables) -> dict[str, Drawing]:
        """Attention and accuracy over finetuning steps, salience against count."""
        from curate.simulation.figures import one_layer_figures

        return one_layer_figures(tables)


ONE_LAYER = OneLayerExperiment()
