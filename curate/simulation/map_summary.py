"""What the map shows: the gap at every place, and how it moves along every factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.report.figures import label
from curate.simulation.experiment import Row, Shown, Tables
from curate.simulation.synthetic_summary import ARMS, correlation, in_points, mean_interval, moves, trend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
                "gap": mean_interval(gap[number], "difference"),
                "change": mean_interval(gap[number] - gap[values.index(middle)], "difference"),
                "gap_at_last": mean_interval(gaps(results, value, "accuracy_at_last"), "difference"),
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
        {row["seed"]: row[column] for row in results if row["arm"] == arm and row["value"] == value}
        for arm in ("top", "bottom")
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
    return {"alpha": "skew of popularity", "answer_alpha": "skew of answers"}.get(factor, factor.replace("_", " "))


def shown(summary: Mapping[str, Any]) -> list[Shown]:
    """A table of all places, then one of the trends."""
    factors = summary["factors"]
    rows = [
        [
            spoken(found["factor"]),
            f"{place['value']:g}{' (default)' if place['middle'] else ''}",
            f"{100 * place['memorisation']:.1f}",
            f"{place['bottom_exposures']:.0f}",
            *(f"{100 * place['arms'][arm]:.1f}" for arm in ("top", "bottom")),
            in_points(place["gap"]),
            "" if place["middle"] else in_points(place["change"]),
            f"{100 * place['gap_at_last']['difference']:+.1f}",
        ]
        for found in factors
        for place in found["places"]
    ]
    headers = ["factor", "value", "memorised %", "exposures*", label("top"), label("bottom"), "gap", "minus default's"]
    trends = [[spoken(found["factor"]), moves(found["trend"]), correlation(found["trend"])] for found in factors]
    seeds = factors[0]["places"][0]["seeds"]
    return [
        Shown("How the gap moves with each factor", ["factor", "the gap", "over seeds"], trends),
        Shown(
            f"FT-Top minus FT-Bottom in points, one factor at a time, mean of {seeds} seeds "
            "(* how often a fact of FT-Bottom was met in pretraining)",
            [*headers, "gap, last step"],
            rows,
        ),
    ]
