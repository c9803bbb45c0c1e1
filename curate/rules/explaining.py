"""The explanation of a selection: which columns it looks at, and at how many rows of a large table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curate.datasets.arrow import as_indices, empty_table
from curate.datasets.dictionaries import in_types_of
from curate.datasets.fields import columns_read, values_of
from curate.rules import mixes as arithmetic
from curate.rules.values import first_answers, groups_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from curate.datasets.rows import ScoredRows
    from curate.selecting import Selection

EXPLAINED = 100_000
"""Quantiles and mixes of a larger table are those of every 2nd, 3rd, … row: of at most this many."""


class MixSample:
    """Relations and answers of every `stride`-th row, gathered batch by batch while the rows stream by."""

    def __init__(self, data: ScoredRows) -> None:
        self.roles = {"relation": data.roles.relation, "answers": data.roles.answers}
        self.stride = -(-len(data) // EXPLAINED)
        self.fields = list(dict.fromkeys(name for name in self.roles.values() if name is not None))
        self._columns = columns_read(self.fields, data.schema.names)
        self._schema = empty_table(data.schema).select(self._columns).schema
        self._parts: list[pa.Table] = []

    def of(self, batch: pa.Table, start: int) -> pa.Table:
        """What to gather of the batch whose first row is row `start` of the table."""
        import numpy as np

        rows = np.arange(-start % self.stride, batch.num_rows, self.stride)
        part = batch.select(self._columns)
        return in_types_of(self._schema, part if self.stride == 1 else part.take(as_indices(rows)))

    def add(self, part: pa.Table) -> None:
        """Gather what `of` took from the next batch."""
        self._parts.append(part)

    def table(self) -> pa.Table:
        """The rows gathered."""
        import pyarrow as pa

        return pa.concat_tables(self._parts)


def sample(data: ScoredRows) -> MixSample:
    """Gather from the table by reading the two columns."""
    gathered = MixSample(data)
    gathered.add(gathered.of(data.table_of(gathered.fields), 0))
    return gathered


def explain(selection: Selection) -> dict[str, Any]:
    """Quantiles of the pool and of every split, rows that splits share, and how the mixes moved.

    The pool is here all rows that have a score and meet --where and the thresholds, evaluation sets among them.
    """
    return explain_scores(selection) | explain_mixes(selection, sample(selection.data))


def explain_scores(selection: Selection) -> dict[str, Any]:
    """The part that scores and masks tell."""
    masks = {split.name: split.mask for split in selection.splits.values()}
    shown = selection.ranking.shown
    return {
        "quantiles": {name: _quantiles(shown, mask) for name, mask in {"pool": selection.pool.before, **masks}.items()},
        "overlap": arithmetic.overlaps(masks),
    }


def explain_mixes(selection: Selection, gathered: MixSample) -> dict[str, Any]:
    """The part that relations and answers tell: how their mixes moved."""
    every = slice(None, None, gathered.stride)
    before = selection.pool.before[every]
    masks = {split.name: split.mask[every] for split in selection.splits.values()}
    table = gathered.table()
    mixes: dict[str, Any] = {"counted": "all rows" if gathered.stride == 1 else f"1 row in {gathered.stride}"}
    for role, column in gathered.roles.items():
        if column is not None:
            values = values_of(table, column)
            groups = first_answers(values) if role == "answers" else groups_of(values, column)
            mixes[role] = arithmetic.mix(groups, before, masks)
    return mixes


def _quantiles(shown: NDArray[np.float64], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Of at most EXPLAINED of the rows; the least and the greatest are always those of all."""
    import numpy as np

    values = shown if mask.all() else shown[np.flatnonzero(mask)]
    found = arithmetic.quantiles(values[:: max(1, -(-len(values) // EXPLAINED))])
    if found and len(values) > EXPLAINED:
        found |= {"0": float(np.nanmin(values)), "1": float(np.nanmax(values))}
    return found
