"""What every arm does on other tasks (lm-evaluation-harness), over its seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from curate.report.tables import Rows


def task_table(rows: Rows, arms: Sequence[str]) -> list[dict[str, Any]]:
    """A row a metric: `task`, `metric`, `n` questions, and for each arm `values` (mean, standard error).

    The error is that over seeds where there are several, else the one lm-eval gives, over the task's questions.
    Arms that were not asked have no value.
    """
    found: dict[tuple[str, str], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["task"], row["metric"]][row["arm"]].append(row)
    return [
        {
            "task": task,
            "metric": metric,
            "n": next(iter(by_arm.values()))[0]["n"],
            "higher_is_better": next(iter(by_arm.values()))[0]["higher_is_better"],
            "values": [_over_seeds(by_arm[arm]) if arm in by_arm else None for arm in arms],
        }
        for (task, metric), by_arm in found.items()
    ]


def _over_seeds(rows: Rows) -> tuple[float, float | None]:
    import numpy as np

    values = [float(row["value"]) for row in rows]  # an infinite perplexity is the text "inf" in summary.json
    if len(values) == 1:
        return values[0], None if rows[0]["stderr"] is None else float(rows[0]["stderr"])
    with np.errstate(invalid="ignore"):
        return float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
