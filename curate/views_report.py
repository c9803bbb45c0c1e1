"""What a file scored by `pageviews` holds: coverage, the most and least viewed subjects, agreement with `s_pop`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate.agreement import rank_correlation
from curate.estimators.column import score_of_number
from curate.records import Example
from curate.wikipedia.lookup import MEASURED

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 20
QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
STATUS, VIEWS = "pageviews_status", "pageviews_views"
KNOWN_VIEWS = "s_pop"


def describe_views(table: pa.Table, examples: Sequence[Example]) -> dict[str, Any] | None:
    """The report as plain values; None for a table that `pageviews` did not score.

    `quantiles` are of monthly views over examples; `most` and `least` list subjects once each, as (subject, views);
    `unanswered` gives, for each status without a score, the first subjects, or the questions of those without one.
    """
    if STATUS not in table.column_names or VIEWS not in table.column_names:
        return None
    statuses = table[STATUS].to_pylist()
    views = table[VIEWS].to_pylist()
    labels = _labels(table, examples)
    ranked = sorted(
        {label: v for label, v in zip(labels, views, strict=True) if v is not None}.items(), key=lambda x: (-x[1], x[0])
    )
    return {
        "statuses": dict(Counter(statuses).most_common()),
        "quantiles": _quantiles([v for v in views if v is not None]),
        "most": ranked[:SHOWN],
        "least": ranked[::-1][:SHOWN],
        "unanswered": _unanswered(statuses, labels),
        "agreement": _agreement(table, views),
    }


def _labels(table: pa.Table, examples: Sequence[Example]) -> list[str]:
    """What each row is about, in the best words there are."""
    columns = [
        table[name].to_pylist() for name in ("pageviews_title", "pageviews_subject") if name in table.column_names
    ]
    return [
        next((text for text in texts if text), None) or example.subject or example.question
        for example, *texts in zip(examples, *columns, strict=True)
    ]


def _quantiles(views: Sequence[float]) -> dict[str, float]:
    import numpy as np

    if not views:
        return {}
    values = np.quantile(views, QUANTILES, method="nearest")
    return {f"{q:g}": float(v) for q, v in zip(QUANTILES, values, strict=True)}


def _unanswered(statuses: Sequence[str], labels: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for status, label in zip(statuses, labels, strict=True):
        shown = found.setdefault(status, {})
        if status not in MEASURED and len(shown) < SHOWN:
            shown[label] = None
    return {status: list(shown) for status, shown in found.items() if shown}


def _agreement(table: pa.Table, views: Sequence[float | None]) -> dict[str, Any] | None:
    """Spearman's correlation with the views the data came with; None where it is not defined."""
    import numpy as np

    if KNOWN_VIEWS not in table.column_names:
        return None
    known = [score_of_number(value, KNOWN_VIEWS).value for value in table[KNOWN_VIEWS].to_pylist()]
    a, b = (np.array([np.nan if v is None else v for v in side], float) for side in (views, known))
    both = int((~(np.isnan(a) | np.isnan(b))).sum())
    correlation = rank_correlation(a, b)
    return {
        "column": KNOWN_VIEWS,
        "examples": both,
        "rank_correlation": None if np.isnan(correlation) else correlation,
    }
