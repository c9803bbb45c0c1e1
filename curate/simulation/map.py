"""`map`: the gap over a grid of settings, and its summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import SettingError, setting
from curate.report.figures import Drawing, label
from curate.simulation.settings import ExperimentSettings, SyntheticSettings
from curate.simulation.summary import ARMS, correlation, in_points, mean_interval, moves, points, trend
from curate.simulation.synthetic import FACTS, Row, Shown, Tables

MIDDLE = "middle"
EXPOSURES_KEPT = "relations, exposures kept"

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

FACTORS = (*EXPONENTS, *MULTIPLES)

AFTER_PRETRAINING = ("steps", "finetuning_subjects", "share", "finetuning_learning_rate", "finetuning_steps")
"""Settings that may differ between variants of one pretraining."""


@dataclass(frozen=True)
class MapSettings(SyntheticSettings):
    """The settings in the middle of the map."""

    def check(self) -> None:
        """Raise SettingError if the settings cannot be, or are several."""
        super().check()
        for name in ("alpha", "steps"):
            if len(getattr(self, name)) > 1:
                raise SettingError(
                    f"{setting(name)} has several values: map varies one factor at a time around a single setting.",
                    expected="one number",
                    try_next=f"curate simulate {'zipf' if name == 'alpha' else name} sweeps {setting(name)}",
                )


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


@dataclass(frozen=True)
class Map:
    """Follows the `Experiment` protocol."""

    name: str = "map"
    title: str = "What drives the gap between FT-Top and FT-Bottom?"

    def settings(self, full: bool) -> MapSettings:
        """The settings in the middle: those of `facts`."""
        return MapSettings(**vars(FACTS.settings(full)))

    def points(self, settings: SyntheticSettings) -> list[Region]:
        """The places of the map, put together by what is pretrained."""
        regions: dict[SyntheticSettings, list[Place]] = {}
        for place in places(SyntheticSettings(**vars(settings))):
            _check(place)
            same = {name: getattr(FACTS.default, name) for name in AFTER_PRETRAINING}
            regions.setdefault(replace(place.settings, **same), []).append(place)
        return [Region(tuple(together)) for together in regions.values()]

    def run(self, point: Region, seed: int) -> Tables:
        """Pretrain, and finetune and test all arms at every place of the region.

        The rows of the middle are given for every factor, with its value there, so that each factor has a whole line.
        """
        from curate.simulation.synthetic import Variant, run_variants

        variants = [Variant(p.settings, {"factor": p.factor, "value": p.value}) for p in point.places]
        tables = run_variants(variants, seed)
        return {name: list(_whole_lines(rows, point.places)) for name, rows in tables.items()}

    def summarise(self, tables: Tables) -> dict[str, Any]:
        """The gap at every place, how far it is from that of the default, and how it moves with every factor."""

        return {"experiment": self.name, **summarise(tables)}

    def shown(self, summary: Mapping[str, Any]) -> list[Shown]:
        """The summary as tables for a person."""

        return shown(summary)

    def figures(self, tables: Tables) -> dict[str, Drawing]:
        """The gap by factor, and against memorisation."""
        from curate.simulation.figures import map_figures

        return map_figures(self.summarise(tables))


def places(middle: SyntheticSettings) -> list[Place]:
    """The middle of the map, then every factor's values around it, each once: a multiple may round to another."""
    around = [place for place in _around(middle) if place.settings != middle]
    return list(dict.fromkeys([Place(MIDDLE, 0.0, middle), *around]))


def _around(middle: SyntheticSettings) -> Iterator[Place]:
    for factor, exponents in EXPONENTS.items():
        for exponent in exponents:
            yield Place(factor, exponent, replace(middle, **{factor: _like(getattr(middle, factor), exponent)}))
    for factor, multiples in MULTIPLES.items():
        names = ("relations", "steps") if factor == EXPOSURES_KEPT else (factor,)
        for multiple in multiples:
            changed = {name: _times(getattr(middle, name), multiple) for name in names}
            settings = replace(middle, **changed)
            yield Place(factor, value_of(settings, factor), settings)


def _check(place: Place) -> None:
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


def _whole_lines(rows: list[Row], places: tuple[Place, ...]) -> Iterator[Row]:
    for row in rows:
        if row["factor"] == MIDDLE:
            middle = next(place.settings for place in places if place.factor == MIDDLE)
            for factor in FACTORS:
                yield {**row, "factor": factor, "value": value_of(middle, factor), "middle": True}
        else:
            yield {**row, "middle": False}


def _times(value: Any, multiple: float) -> Any:
    """A setting multiplied: counts are rounded and at least 1, tuples stay tuples."""
    if isinstance(value, tuple):
        return tuple(_times(each, multiple) for each in value)
    return max(1, round(value * multiple)) if isinstance(value, int) else round(value * multiple, 10)


def _like(value: Any, number: float) -> Any:
    return (number,) if isinstance(value, tuple) else number


MAP = Map()

SHOWN = ("top", "bottom")


def summarise(tables: Tables) -> dict[str, Any]:
    """Every factor with its places, in order of its value, and the trend of the gap; and the verdict."""
    factors = [_factor(factor, tables) for factor in dict.fromkeys(row["factor"] for row in tables["results"])]
    return {"verdict": verdict(factors), "factors": factors}


def _factor(factor: str, tables: Tables) -> dict[str, Any]:
    results, pretraining = ([r for r in tables[name] if r["factor"] == factor] for name in ("results", "pretraining"))
    results = [row for row in results if row["top_percent"] == 100]
    values = sorted({row["value"] for row in results})
    middle = next(row["value"] for row in results if row["middle"])
    gap = np.array([gaps(results, value, "accuracy") for value in values])  # (values, seeds)
    return {
        "factor": factor,
        "places": [
            {
                "value": value,
                "middle": value == middle,
                **_place([r for r in results if r["value"] == value], [r for r in pretraining if r["value"] == value]),
                "gap": mean_interval(gap[number].tolist(), "difference"),
                "change": mean_interval((gap[number] - gap[values.index(middle)]).tolist(), "difference"),
                "gap_at_last": mean_interval(gaps(results, value, "accuracy_at_last").tolist(), "difference"),
            }
            for number, value in enumerate(values)
        ],
        "trend": trend(np.array(values), gap.T),
    }


def _place(results: Sequence[Row], pretraining: Sequence[Row]) -> dict[str, Any]:
    def mean(rows: Sequence[Row], column: str) -> float:
        return sum(row[column] for row in rows) / len(rows)

    return {
        "seeds": len(pretraining),
        "memorisation": mean(pretraining, "memorisation"),
        "bottom_exposures": mean(pretraining, "bottom_exposures"),
        "arms": {arm: mean([row for row in results if row["arm"] == arm], "accuracy") for arm in ARMS},
    }


def gaps(results: Sequence[Row], value: float, column: str) -> NDArray[np.float64]:
    """FT-Top minus FT-Bottom at a value of the factor, a number a seed."""

    top, bottom = (
        {row["seed"]: row[column] for row in results if row["arm"] == arm and row["value"] == value} for arm in SHOWN
    )
    return np.array([top[seed] - bottom[seed] for seed in sorted(top)])


def verdict(factors: Sequence[Mapping[str, Any]]) -> str:
    """The gap in the middle, and the factors along which it grows, shrinks, or neither."""
    middle = next(place for place in factors[0]["places"] if place["middle"])
    named: dict[str, list[str]] = {"grows": [], "shrinks": [], "does not clearly move": []}
    for found in factors:
        named[moves(found["trend"])].append(spoken(found["factor"]))
    said = "; ".join(f"{does} with {', '.join(names)}" for does, names in named.items() if names)
    return (
        f"In the middle of the map FT-Top minus FT-Bottom is {100 * middle['gap']['difference']:+.1f} points with "
        f"{100 * middle['memorisation']:.1f}% of all facts memorised. The gap {said}."
    )


def spoken(factor: str) -> str:
    """A factor in words."""
    words = {
        "alpha": "skew of popularity",
        "answer_alpha": "skew of answers",
        EXPOSURES_KEPT: "relations at equal exposures",
    }
    return words.get(factor, factor.replace("_", " "))


def shown(summary: Mapping[str, Any]) -> list[Shown]:
    """The trends, all places, and how they compare with the default."""
    factors = summary["factors"]
    trends = [[spoken(found["factor"]), moves(found["trend"]), correlation(found["trend"])] for found in factors]
    found_at = [(_named(found, place), place) for found in factors for place in found["places"]]
    seeds = factors[0]["places"][0]["seeds"]
    return [
        Shown("How the gap between FT-Top and FT-Bottom moves", ["with", "it", "over seeds"], trends),
        Shown(
            f"The gap in points, one factor at a time, mean of {seeds} seeds; exposures: how often a fact of FT-Bottom "
            "was met in pretraining; *: the default",
            ["factor", "value", "memorised %", "exposures", "gap", "95% interval"],
            [
                [
                    *named,
                    f"{100 * place['memorisation']:.1f}",
                    f"{place['bottom_exposures']:.0f}",
                    f"{100 * place['gap']['difference']:+.1f}",
                    points(place["gap"]),
                ]
                for named, place in found_at
            ],
        ),
        Shown(
            "Accuracy (%), the gap minus that of the default in the same seed, and the gap without early stopping",
            ["factor", "value", *map(label, SHOWN), "minus the default's", "after the last step"],
            [
                [
                    *named,
                    *(f"{100 * place['arms'][arm]:.1f}" for arm in SHOWN),
                    "" if place["middle"] else in_points(place["change"]),
                    in_points(place["gap_at_last"]),
                ]
                for named, place in found_at
            ],
        ),
    ]


def _named(found: Mapping[str, Any], place: Mapping[str, Any]) -> tuple[str, str]:
    return spoken(found["factor"]), f"{place['value']:g}{' *' if place['middle'] else ''}"
