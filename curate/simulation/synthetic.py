"""The synthetic experiments: facts, zipf and steps, and map, which varies one factor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import SettingError, setting
from curate.simulation.settings import EXPOSURES_KEPT, FACTS, ExperimentSettings, Row, SyntheticSettings, Tables
from curate.simulation.world import Facts, finetune, make_arms, make_facts, memorised, partition, pretrain, top_rows


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
            seen = exposures(facts, arms["bottom"], steps * chosen.batch_size)
            tables["pretraining"].append({**front, "memorisation": float(known.mean()), "bottom_exposures": seen})
            for arm in finetune(model, facts, parts, arms, chosen, np.random.default_rng([seed, 2])):
                sizes = {"n_train": len(arms[arm.name]) * facts.relations, "best_step": arm.step}
                tables["results"] += [
                    {"arm": arm.name, **front, **sizes, **best, "accuracy_at_last": last["accuracy"]}
                    for best, last in zip(top_rows(arm.right), top_rows(arm.right_at_last), strict=True)
                ]
    return tables


def exposures(facts: Facts, subjects: NDArray[np.int64], sequences: int) -> float:
    """How often a fact about the subjects is met on average in so many pretraining sequences."""
    return float(facts.popularity[subjects].mean() * sequences / facts.relations)


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
    found: dict[SyntheticSettings, list[Place]] = {}
    for place in places(middle):
        _check(place)
        same = {name: getattr(FACTS, name) for name in AFTER_PRETRAINING}
        found.setdefault(place.settings.changed(**same), []).append(place)
    return [Region(tuple(together)) for together in found.values()]


def run_region(region: Region, seed: int) -> Tables:
    """Pretrain, and finetune and test all arms at every place of the region.

    The rows of the middle are given for every factor, with its value there, so that each factor has a whole line.
    """
    variants = [(place.settings, {"factor": place.factor, "value": place.value}) for place in region.places]
    tables = run_variants(variants, seed)
    return {name: [each for row in rows for each in _whole_lines(row, region)] for name, rows in tables.items()}


def _whole_lines(row: Row, region: Region) -> Iterator[Row]:
    if row["factor"] != MIDDLE:
        yield {**row, "middle": False}
        return
    middle = next(place.settings for place in region.places if place.factor == MIDDLE)
    for factor in (*EXPONENTS, *MULTIPLES):
        yield {**row, "factor": factor, "value": value_of(middle, factor), "middle": True}


def places(middle: SyntheticSettings) -> list[Place]:
    """The middle of the map, then every factor's values around it, each once: a multiple may round to another."""
    around = [place for place in _around(middle) if place.settings != middle]
    return list(dict.fromkeys([Place(MIDDLE, 0.0, middle), *around]))


def _around(middle: SyntheticSettings) -> Iterator[Place]:
    for factor, exponents in EXPONENTS.items():
        for exponent in exponents:
            several = isinstance(getattr(middle, factor), tuple)
            yield Place(factor, exponent, middle.changed(**{factor: (exponent,) if several else exponent}))
    for factor, multiples in MULTIPLES.items():
        names = ("relations", "steps") if factor == EXPOSURES_KEPT else (factor,)
        for multiple in multiples:
            settings = middle.changed(**{name: _times(getattr(middle, name), multiple) for name in names})
            yield Place(factor, value_of(settings, factor), settings)


def _times(value: Any, multiple: float) -> Any:
    """A setting multiplied: counts are rounded and at least 1, tuples stay tuples."""
    if isinstance(value, tuple):
        return tuple(_times(each, multiple) for each in value)
    return max(1, round(value * multiple)) if isinstance(value, int) else round(value * multiple, 10)


def _check(place: Place) -> None:
    """SettingError for settings that cannot be, which says where the map goes for them."""
    try:
        place.settings.check()
    except SettingError as error:
        if place.factor == MIDDLE:
            raise
        found, expected, try_next = error.spelled(setting)  # left to be spelled
        at = setting(place.factor, f"{place.value:g}")
        raise SettingError(f"The map goes to {at}. {found}", expected, try_next) from None


def value_of(settings: SyntheticSettings, factor: str) -> float:
    """The value of a factor in some settings."""
    value = getattr(settings, "relations" if factor == EXPOSURES_KEPT else factor)
    return float(value[0] if isinstance(value, tuple) else value)
