"""How popular the examples of every arm and of the test set are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from curate.datasets.read import QATable, read
from curate.selecting import score_values
from curate.validation.arms import named_splits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BINS = 24


def popularity_of(splits: Any, test: QATable, column: str | None) -> dict[str, Any] | None:
    """Histograms of `column` in every split that has it and in the test set; None without such a column."""
    if column is None:
        return None
    tables = {name: read(data).table for name, data in named_splits(splits).items()} | {"test": test.table}
    values = {name: score_values(table, column) for name, table in tables.items() if column in table.column_names}
    return histograms(values, column)


def histograms(values: Mapping[str, NDArray[np.float64]], column: str) -> dict[str, Any] | None:
    """Shares of each arm's examples in bins that all arms have in common: `edges` (E+1), `shares` {arm: E}.

    Bins are even, or even on a logarithmic scale (`log`) when the largest value, none being negative, is over a
    hundred times the median: raw page views are like that, their logarithms are not.
    """
    import numpy as np

    measured = {name: found[np.isfinite(found)] for name, found in values.items()}
    measured = {name: found for name, found in measured.items() if len(found)}
    if not measured:
        return None
    everything = np.concatenate(list(measured.values()))
    low, high = float(everything.min()), float(everything.max())
    high = max(high, low + 1e-9 * max(1.0, abs(low)))  # all the same: bins need some width
    log = low >= 0 and high > 100 * max(1.0, float(np.median(everything)))
    edges = np.expm1(np.linspace(np.log1p(low), np.log1p(high), BINS + 1)) if log else np.linspace(low, high, BINS + 1)
    edges[0], edges[-1] = low, high
    shares = {name: (np.histogram(found, edges)[0] / len(found)).tolist() for name, found in measured.items()}
    return {"column": column, "log": bool(log), "edges": edges.tolist(), "shares": shares}
