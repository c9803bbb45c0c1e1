"""The report: one HTML page that needs no network, all text from the data escaped."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from curate.report.figures import label

SHOWN_QUESTIONS = 200


def report_page(
    summary: Mapping[str, Any], figures: Mapping[str, bytes], predictions: Sequence[Mapping[str, Any]]
) -> str:
    """The page of a run, from summary.json, the figures as PNG bytes and the prediction rows."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("curate.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = lambda share: "" if share is None else f"{100 * share:.1f}"
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}"
    environment.filters["label"] = label
    return environment.get_template("report.html.j2").render(
        summary=summary,
        figures={name: base64.b64encode(png).decode() for name, png in figures.items()},
        arms=[row["arm"] for row in summary["arms"]],
        questions=compared_answers(predictions, [row["arm"] for row in summary["arms"]]),
    )


def compared_answers(
    predictions: Sequence[Mapping[str, Any]], arms: Sequence[str], shown: int = SHOWN_QUESTIONS
) -> list[dict[str, Any]]:
    """Test questions with every arm's answer at its first seed, those the arms disagree on first."""
    by_id: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in predictions:
        by_id[row["id"]].setdefault(row["arm"], row)
    rows = []
    for said in by_id.values():
        first = next(iter(said.values()))
        rows.append(
            {
                "question": first["question"],
                "answers": ", ".join(first["answers"]),
                "percentile": first["popularity_percentile"],
                "said": [said[arm] for arm in arms],
            }
        )
    rows.sort(key=lambda row: -_disagreement(row["said"]))
    return rows[:shown]


def _disagreement(said: Sequence[Mapping[str, Any]]) -> int:
    """2 where top is right and bottom wrong, 1 where any finetuned arms differ, else 0."""
    right = {row["arm"]: row["correct"] for row in said}
    if right.get("top") and right.get("bottom") is False:
        return 2
    return len({row["correct"] for row in said if row["arm"] != "base"}) - 1
