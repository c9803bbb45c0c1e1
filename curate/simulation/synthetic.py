"""Section 3 of the paper: facts, transformers to learn them, and the experiments on both.

A subject, relation, prompt or answer is one token. Several transformers of one shape are computed side by side, so that
they train as one batch. The experiments are facts, zipf and steps, and map, which varies one factor at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from curate.errors import SettingError, setting
from curate.simulation.settings import EXPOSURES_KEPT, FACTS, ExperimentSettings, Row, SyntheticSettings, Tables


@dataclass(frozen=True)
class Facts:
    """S subjects, R relations, and the one answer of every pair of them.

    Subjects are numbered by popularity, 0 the most popular. As input tokens subjects come first, then relations,
    then the prompt tokens that stand for the relations in questions and never occur in pretraining.
    """

    answers: NDArray[np.int64]  # (S, R), the answer token of every fact: 0 … R·K-1, K of its own for every relation
    popularity: NDArray[np.float64]  # (S,), the chance that a pretraining sequence is about the subject
    n_answers: int

    @property
    def subjects(self) -> int:
        """How many subjects there are."""
        return self.answers.shape[0]

    @property
    def relations(self) -> int:
        """How many relations there are."""
        return self.answers.shape[1]

    @property
    def tokens(self) -> int:
        """How many input tokens there are: subjects, relations, prompts."""
        return self.subjects + 2 * self.relations

    def statements(self, subjects: NDArray[np.int64], relations: NDArray[np.int64]) -> NDArray[np.int64]:
        """The inputs `(s, r)` of pretraining sequences. (N,), (N,) -> (N, 2)"""
        return np.stack([subjects, self.subjects + relations], axis=-1)

    def questions(self, subjects: NDArray[np.int64], relations: NDArray[np.int64]) -> NDArray[np.int64]:
        """The inputs `(s, p_r)` of question answering. (N,), (N,) -> (N, 2)"""
        return np.stack([subjects, self.subjects + self.relations + relations], axis=-1)

    def every_relation_of(self, subjects: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All facts about the given subjects, or all, subject by subject. (n,) -> (n·R,), (n·R,)"""
        subjects = np.arange(self.subjects) if subjects is None else subjects
        return np.repeat(subjects, self.relations), np.tile(np.arange(self.relations), len(subjects))


@dataclass(frozen=True)
class Partition:
    """Subjects to finetune on, to choose the step by, and to test on; each most popular first."""

    finetuning: NDArray[np.int64]
    validation: NDArray[np.int64]
    evaluation: NDArray[np.int64]


def zipf(n: int, alpha: float) -> NDArray[np.float64]:
    """Probabilities proportional to rank to the power -alpha, ranks 1 to n. () -> (n,)"""
    weights = np.arange(1, n + 1, dtype=np.float64) ** -alpha
    return weights / weights.sum()


def make_facts(
    subjects: int, relations: int, answers: int, alpha: float, answer_alpha: float, rng: np.random.Generator
) -> Facts:
    """Facts with Zipf(alpha) subjects; the answer of each is Zipf(answer_alpha) among its relation's own `answers`."""
    drawn = rng.choice(answers, size=(subjects, relations), p=zipf(answers, answer_alpha))
    return Facts(drawn + answers * np.arange(relations), zipf(subjects, alpha), answers * relations)


def draw_statements(
    facts: Facts, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pretraining sequences, drawn i.i.d.: s ~ Zipf(alpha), r ~ Uniform. -> subjects, relations, answers, (n,) each"""
    ends = np.cumsum(facts.popularity)
    subjects = np.searchsorted(ends / ends[-1], rng.random(n), side="right")
    relations = rng.integers(facts.relations, size=n)
    return subjects, relations, facts.answers[subjects, relations]


def partition(subjects: int, finetuning: int, validation: int, rng: np.random.Generator) -> Partition:
    """A random partition of the subjects; what is left over is for evaluation."""
    shuffled = rng.permutation(subjects)
    parts = np.split(shuffled, [finetuning, finetuning + validation])
    return Partition(*(np.sort(part) for part in parts))


def make_arms(finetuning: NDArray[np.int64], share: float, rng: np.random.Generator) -> Mapping[str, NDArray[np.int64]]:
    """The finetuning subjects of every arm; top, bottom and random have the same number, whole has all."""
    k = max(1, int(share * len(finetuning) + 0.5))
    return {
        "top": finetuning[:k],
        "bottom": finetuning[-k:],
        "random": np.sort(rng.choice(finetuning, size=k, replace=False)),
        "whole": finetuning,
    }


TOP_PERCENTS = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


def top_rows(right: NDArray[np.bool_]) -> list[Row]:
    """Accuracy on the facts of the most popular x% of test subjects. (subjects by popularity, relations) -> rows"""
    rows = []
    for percent in TOP_PERCENTS:
        n = max(1, round(len(right) * percent / 100))
        rows.append({"top_percent": percent, "accuracy": float(right[:n].mean()), "n": right[:n].size})
    return rows


LENGTH = 2  # a subject and a relation; the answer is predicted at the second
EMBEDDING_STD = 0.02


@dataclass(frozen=True)
class Shape:
    """The sizes of one transformer."""

    tokens: int
    answers: int
    width: int
    layers: int
    heads: int


class Transformers(nn.Module):
    """M transformers of one shape: pre-norm, no biases; every parameter has a first dimension of M.

    The output head covers the answer tokens, the only ones a loss is ever taken on.
    """

    def __init__(self, shape: Shape, models: int, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        self.count = models
        self.embedding = _weight(models, shape.tokens, shape.width, EMBEDDING_STD, generator)
        self.position = _weight(models, LENGTH, shape.width, EMBEDDING_STD, generator)
        self.blocks = nn.ModuleList(Block(shape, models, generator) for _ in range(shape.layers))
        self.head = _weight(models, shape.width, shape.answers, shape.width**-0.5, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of the answer at the last position. (M, B, 2) -> (M, B, answers)"""
        offsets = self.shape.tokens * torch.arange(self.count).view(-1, 1, 1)
        x = F.embedding(inputs + offsets, self.embedding.flatten(0, 1)) + self.position[:, None]
        for number, block in enumerate(self.blocks, start=1):
            # What follows the last block reads the last position only.
            x = block(x, kept=1 if number == len(self.blocks) else LENGTH)
        return torch.bmm(_norm(x[:, :, -1]), self.head)

    def repeated(self, models: int) -> Transformers:
        """That many copies of a single transformer (M = 1), to be trained apart."""
        copies = Transformers(self.shape, models, torch.Generator())
        copies.load_state_dict({name: w.expand(models, *w.shape[1:]) for name, w in self.state_dict().items()})
        return copies


class Block(nn.Module):
    """Attention, then a GELU network four times as wide."""

    def __init__(self, shape: Shape, models: int, generator: torch.Generator) -> None:
        super().__init__()
        d = shape.width
        self.heads = shape.heads
        self.query = _weight(models, d, d, d**-0.5, generator)
        self.key = _weight(models, d, d, d**-0.5, generator)
        self.value = _weight(models, d, d, d**-0.5, generator)
        self.out = _weight(models, d, d, d**-0.5, generator)
        self.up = _weight(models, d, 4 * d, d**-0.5, generator)
        self.down = _weight(models, 4 * d, d, (4 * d) ** -0.5, generator)

    def forward(self, x: Tensor, kept: int) -> Tensor:
        """The last `kept` positions after attending to those up to them. (M, B, T, d) -> (M, B, kept, d)"""
        y = _norm(x)
        query, key, value = (
            self._project(y[:, :, -kept:], self.query),
            self._project(y, self.key),
            self._project(y, self.value),
        )
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=kept > 1)
        x = x[:, :, -kept:]
        x = x + torch.bmm(attended.transpose(1, 2).reshape(x.flatten(1, 2).shape), self.out).view_as(x)
        hidden = F.gelu(torch.bmm(_norm(x).flatten(1, 2), self.up))
        return x + torch.bmm(hidden, self.down).view_as(x)

    def _project(self, x: Tensor, weight: Tensor) -> Tensor:
        """A projection split into heads. (M, B, t, d) -> (M·B, heads, t, d / heads)"""
        models, batch, length, d = x.shape
        y = torch.bmm(x.flatten(1, 2), weight).view(models * batch, length, self.heads, d // self.heads)
        return y.transpose(1, 2)


def _weight(models: int, rows: int, columns: int, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(models, rows, columns, generator=generator) * std)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


TEST_BATCH = 4096


def make_optimizer(models: Transformers, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW without weight decay, so that tokens that do not occur stay as they were."""
    return torch.optim.AdamW(models.parameters(), lr=learning_rate, weight_decay=0.0, fused=True)


def train_step(
    models: Transformers, optimizer: torch.optim.Optimizer, inputs: NDArray[np.int64], answers: NDArray[np.int64]
) -> None:
    """One step of every model on a batch of its own; the loss is on the answer only. (M, B, 2), (M, B)"""
    targets = torch.from_numpy(answers)
    # Summed over models, so that each gets the gradient of its own mean loss.
    loss = F.cross_entropy(models(torch.from_numpy(inputs)).flatten(0, 1), targets.flatten(), reduction="sum")
    optimizer.zero_grad()
    (loss / targets.shape[1]).backward()
    optimizer.step()


@torch.no_grad()
def is_right(models: Transformers, inputs: NDArray[np.int64], answers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the most likely answer is the right one; every model gets the same inputs. (N, 2), (N,) -> (M, N)"""
    batches = zip(torch.from_numpy(inputs).split(TEST_BATCH), torch.from_numpy(answers).split(TEST_BATCH), strict=True)
    right = [models(batch.expand(models.count, -1, -1)).argmax(-1) == answer for batch, answer in batches]
    return torch.cat(right, dim=1).numpy()


def pretrain(facts: Facts, settings: SyntheticSettings, rng: np.random.Generator) -> Iterator[tuple[int, Transformers]]:
    """The model after each number of `settings.steps`, fewest first.

    The learning rate is constant, so what is given is the same as if pretraining had ended there.
    """
    shape = Shape(facts.tokens, facts.n_answers, settings.width, settings.layers, settings.heads)
    model = Transformers(shape, 1, torch.Generator().manual_seed(int(rng.integers(2**63))))
    optimizer = make_optimizer(model, settings.learning_rate)
    for step in range(1, max(settings.steps) + 1):
        subjects, relations, answers = draw_statements(facts, settings.batch_size, rng)
        train_step(model, optimizer, facts.statements(subjects, relations)[None], answers[None])
        if step in settings.steps:
            yield step, model


def memorised(model: Transformers, facts: Facts) -> NDArray[np.bool_]:
    """Which facts the model completes in pretraining form. -> (subjects, relations)"""
    subjects, relations = facts.every_relation_of(None)
    right = is_right(model, facts.statements(subjects, relations), facts.answers[subjects, relations])
    return right[0].reshape(facts.answers.shape)


CHECKS = 10
"""How often accuracy on the validation facts is looked at."""


@dataclass(frozen=True)
class FinetunedArm:
    """What a finetuned model answers right at its best step, and at the last. (evaluation subjects, relations) each"""

    name: str
    step: int
    right: NDArray[np.bool_]
    right_at_last: NDArray[np.bool_]


def finetune(
    pretrained: Transformers,
    facts: Facts,
    parts: Partition,
    arms: Mapping[str, NDArray[np.int64]],
    settings: SyntheticSettings,
    rng: np.random.Generator,
) -> Iterator[FinetunedArm]:
    """Finetune a copy of the model on every arm: same number of steps, batches drawn from the arm's own facts.

    Every `finetuning_steps / CHECKS` steps accuracy on the validation subjects is taken; an arm is tested as it was
    at its best. The validation subjects are drawn like the test subjects and are the same for all arms.
    """
    models = pretrained.repeated(len(arms))
    optimizer = make_optimizer(models, settings.finetuning_learning_rate)
    pools = [facts.every_relation_of(subjects) for subjects in arms.values()]
    every = max(1, settings.finetuning_steps // CHECKS)
    best = {name: weight.clone() for name, weight in models.state_dict().items()}
    best_accuracy = np.full(len(arms), -1.0)
    best_step = np.zeros(len(arms), dtype=int)
    for step in range(1, settings.finetuning_steps + 1):
        drawn = [rng.integers(len(pool[0]), size=settings.finetuning_batch_size) for pool in pools]
        subjects = np.stack([pool[0][rows] for pool, rows in zip(pools, drawn, strict=True)])
        relations = np.stack([pool[1][rows] for pool, rows in zip(pools, drawn, strict=True)])
        train_step(models, optimizer, facts.questions(subjects, relations), facts.answers[subjects, relations])
        if step % every == 0:
            accuracy = answered(models, facts, parts.validation).mean(axis=(1, 2))
            better = accuracy > best_accuracy
            best_accuracy[better], best_step[better] = accuracy[better], step
            for name, weight in models.state_dict().items():
                best[name][better] = weight[better]
    right_at_last = answered(models, facts, parts.evaluation)
    models.load_state_dict(best)
    right = answered(models, facts, parts.evaluation)
    for position, name in enumerate(arms):
        yield FinetunedArm(name, int(best_step[position]), right[position], right_at_last[position])


def answered(models: Transformers, facts: Facts, subjects: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which questions about the subjects every model answers right. -> (M, subjects, relations)"""
    s, r = facts.every_relation_of(subjects)
    right = is_right(models, facts.questions(s, r), facts.answers[s, r])
    return right.reshape(-1, len(subjects), facts.relations)


def run_sweep(point: SyntheticSettings, seed: int) -> Tables:
    """Pretrain, and at every checkpoint finetune and test all arms."""
    return run_variants([(point, {})], seed)


def run_variants(variants: Sequence[tuple[SyntheticSettings, Row]], seed: int) -> Tables:
    """Pretrain once, and at each variant's checkpoints finetune and test all its arms.

    A variant is its settings, and the columns that tell its rows from others'. All have the same settings of the world,
    the transformer and its pretraining, but for its steps.
    """
    # Streams of their own: every alpha has the same facts and arms, every variant the same finetuning batches.
    world, pretraining = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    shared, _ = variants[0]
    (alpha,) = shared.alpha
    facts = make_facts(shared.subjects, shared.relations, shared.answers, alpha, shared.answer_alpha, world)
    tables: Tables = {"results": [], "pretraining": []}
    checkpoints = {steps for chosen, _ in variants for steps in chosen.steps}
    for steps, model in pretrain(facts, shared.changed(steps=tuple(sorted(checkpoints))), pretraining):
        known = memorised(model, facts)
        for chosen, columns in variants:
            if steps not in chosen.steps:
                continue
            drawn = deepcopy(world)
            parts = partition(chosen.subjects, chosen.finetuning_subjects, chosen.validation_subjects, drawn)
            arms = make_arms(parts.finetuning, chosen.share, drawn)
            front = {**columns, "alpha": alpha, "steps": steps}
            # How often a fact of FT-Bottom was met in pretraining, on average.
            met = float(facts.popularity[arms["bottom"]].mean() * (steps * chosen.batch_size) / facts.relations)
            tables["pretraining"].append({**front, "memorisation": float(known.mean()), "bottom_exposures": met})
            for arm in finetune(model, facts, parts, arms, chosen, np.random.default_rng([seed, 2])):
                sizes = {"n_train": len(arms[arm.name]) * facts.relations, "best_step": arm.step}
                tables["results"] += [
                    {"arm": arm.name, **front, **sizes, **best, "accuracy_at_last": last["accuracy"]}
                    for best, last in zip(top_rows(arm.right), top_rows(arm.right_at_last), strict=True)
                ]
    return tables


MIDDLE = "middle"

MULTIPLES: Mapping[str, tuple[float, ...]] = {
    "steps": (0.6, 2, 4),
    "relations": (0.25, 0.5, 2),
    EXPOSURES_KEPT: (0.25, 0.5, 2),
    "answers": (0.5, 2),
    "width": (0.5, 2),
    "layers": (2, 4),
    "finetuning_subjects": (0.25, 0.5, 1.4),
    "share": (0.5, 1.75, 2.5),
    "finetuning_learning_rate": (0.1, 0.3, 3, 10),
    "finetuning_steps": (0.25, 0.5, 2, 4),
}
"""What the default of a factor is multiplied by; with more relations and exposures kept, steps are too."""

EXPONENTS: Mapping[str, tuple[float, ...]] = {"alpha": (0.0, 0.5, 1.5), "answer_alpha": (0.0, 2.0)}
"""Zipf exponents, tried as they are."""

AFTER_PRETRAINING = ("steps", "finetuning_subjects", "share", "finetuning_learning_rate", "finetuning_steps")
"""Settings that may differ between variants of one pretraining."""


@dataclass(frozen=True)
class Place:
    """One place on the map: a factor, its value there, and the settings it makes."""

    factor: str
    value: float
    settings: SyntheticSettings


@dataclass(frozen=True)
class Region(ExperimentSettings):
    """The places of the map that share a pretraining; one run."""

    places: tuple[Place, ...]


def regions(middle: SyntheticSettings) -> list[Region]:
    """The places of the map, put together by what is pretrained. SettingError for settings that already sweep."""
    for name in ("alpha", "steps"):
        if len(getattr(middle, name)) > 1:
            raise SettingError(
                f"{setting(name)} has several values: map varies one factor at a time around a single setting.",
                expected="one number",
                try_next=f"curate simulate {'zipf' if name == 'alpha' else name} sweeps {setting(name)}",
            )
    together: dict[SyntheticSettings, list[Place]] = {}
    for place in places_around(middle):
        try:
            place.settings.check()
        except SettingError as error:
            if place.factor == MIDDLE:
                raise
            found, expected, try_next = error.spelled(setting)  # left to be spelled
            at = setting(place.factor, f"{place.value:g}")
            raise SettingError(f"The map goes to {at}. {found}", expected, try_next) from None
        same = {name: getattr(FACTS, name) for name in AFTER_PRETRAINING}
        together.setdefault(place.settings.changed(**same), []).append(place)
    return [Region(tuple(places)) for places in together.values()]


def run_region(region: Region, seed: int) -> Tables:
    """Pretrain, and finetune and test all arms at every place of the region.

    The rows of the middle are given for every factor, with its value there, so that each factor has a whole line.
    """
    variants = [(place.settings, {"factor": place.factor, "value": place.value}) for place in region.places]
    tables = run_variants(variants, seed)
    return {name: [each for row in rows for each in _whole_lines(row, region)] for name, rows in tables.items()}


def _whole_lines(row: Row, region: Region) -> list[Row]:
    if row["factor"] != MIDDLE:
        return [{**row, "middle": False}]
    middle = next(place.settings for place in region.places if place.factor == MIDDLE)
    factors = (*EXPONENTS, *MULTIPLES)
    return [{**row, "factor": factor, "value": value_of(middle, factor), "middle": True} for factor in factors]


def places_around(middle: SyntheticSettings) -> list[Place]:
    """The middle of the map, then every factor's values around it, each once: a multiple may round to another."""
    places = [Place(MIDDLE, 0.0, middle)]
    for factor, numbers in {**EXPONENTS, **MULTIPLES}.items():
        names = ("relations", "steps") if factor == EXPOSURES_KEPT else (factor,)
        for number in numbers:
            moved = {name: _moved(getattr(middle, name), number, factor in EXPONENTS) for name in names}
            settings = middle.changed(**moved)
            if settings != middle:
                places.append(Place(factor, value_of(settings, factor), settings))
    return list(dict.fromkeys(places))


def _moved(value: Any, number: float, is_exponent: bool) -> Any:
    """An exponent, or a setting multiplied: counts are rounded and at least 1. Tuples stay tuples."""
    if isinstance(value, tuple):
        return tuple(_moved(each, number, is_exponent) for each in value)
    if is_exponent:
        return number
    return max(1, round(value * number)) if isinstance(value, int) else round(value * number, 10)


def value_of(settings: SyntheticSettings, factor: str) -> float:
    """The value of a factor in some settings."""
    value = getattr(settings, "relations" if factor == EXPOSURES_KEPT else factor)
    return float(value[0] if isinstance(value, tuple) else value)
