"""What the map shows: the gap at every place, and how it moves along every factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.report.figures import label
from curate.simulation.experiment import Row, Shown, Tables
from curate.simulation.map import EXPOSURES_KEPT
from curate.simulation.synthetic_summary import ARMS, correlation, in_points, mean_interval, moves, points, trend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


SHOWN = ("top", "bottom")


def summarise(tables: Tables) -> dict[str, Any]:
    """Every factor with its places, in order of its value, and the trend of the gap; and the verdict."""
    factors = [_factor(factor, tables) for factor in dict.fromkeys(row["factor"] for row in tables["results"])]
    return {"verdict": verdict(factors), "factors": factors}


def _factor(factor: str, tables: Tables) -> dict[str, Any]:
    import numpy as np

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
    import numpy as np

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
