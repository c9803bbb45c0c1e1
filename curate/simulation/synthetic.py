"""The synthetic experiments: facts, zipf and steps, and map, which varies one factor at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.errors import SettingError, setting
from curate.simulation.settings import EXPOSURES_KEPT, FACTS, ExperimentSettings, Row, SyntheticSettings, Tables
from curate.simulation.world import finetune, make_arms, make_facts, memorised, partition, pretrain, top_rows


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
