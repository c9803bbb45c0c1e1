"""Select: from a scored table to splits (the rules are in selection.py and rules/; here they are put together)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.frames import keep_range_index
from curate.datasets.memory import memory_for_streams
from curate.datasets.rows import ScoredRows, open_rows
from curate.errors import SelectionError
from curate.manifest import manifest_for
from curate.rules.pool import Pool
from curate.rules.ranking import SCORE_PREFIX, Ranking, make_ranking, score_column
from curate.rules.request import Missing, Order, Request, change, parse_request, with_holdout_key
from curate.rules.splits import Split, make_splits
from curate.rules.values import as_float

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["SCORE_PREFIX", "Selection", "score_column", "score_values", "select"]

Progress = Callable[[str, int, int], None]
"""Called with ("select", rows done, rows in all)."""

DROPPED_COLUMN = "curate_dropped"


@dataclass
class Selection:
    """The outcome of a selection: splits of one scored table, each with its rows and its cut.

    `selection["top"]` and `.kept` give rows, `.dropped` the others and why, `.cut` where the split ends,
    `.explanation` what changed, `.reselect(top=0.2)` another selection of the same scores.
    """

    data: ScoredRows
    request: Request
    options: Mapping[str, Any]
    ranking: Ranking
    pool: Pool
    splits: Mapping[str, Split]
    without_answer: dict[str, int] = field(default_factory=dict)
    """Of splits that were written in a trainer's format, how many rows are not in it."""

    def __getitem__(self, name: str) -> Any:
        """The rows of one split, as the kind of thing that was given to `select`."""
        split = self.splits[name]
        rows = split.rows if split.positions is None else split.rows[split.positions]
        return self._in_kind(self.table(name), rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    @property
    def kept(self) -> Any:
        """The rows of the only split that is for training; SelectionError if there are several."""
        return self[self._only("kept").name]

    @property
    def cut(self) -> Any:
        """The cut of the same split: its last score, and the ties there; None if it was not cut by rank."""
        return self._only("cut").cut

    @property
    def dropped(self) -> Any:
        """The rows in no split, in source order, with the reason in a column `curate_dropped`."""
        import numpy as np
        import pyarrow as pa

        in_none = ~np.logical_or.reduce([split.mask for split in self.splits.values()])
        rows = np.flatnonzero(in_none)
        labels = ["; ".join(split.beyond for split in self.splits.values() if split.beyond), *self.pool.labels[1:]]
        reasons = pa.DictionaryArray.from_arrays(pa.array(self.pool.reasons[rows]), pa.array(labels))
        table = self.data.take(rows)
        if DROPPED_COLUMN in table.column_names:  # of a selection before
            table = table.drop_columns(DROPPED_COLUMN)
        return self._in_kind(table.append_column(DROPPED_COLUMN, reasons.dictionary_decode()), rows)

    def reselect(self, **changes: Any) -> Selection:
        """The same scores with other options of `select`; asking for a split forgets the ones asked for before."""
        request, options = change(self.options, **changes)
        return choose(self.data, request, options, self.ranking)

    def table(self, name: str) -> pa.Table:
        """The rows of one split as an Arrow table, in the order asked for, every column of the scored file."""
        split = self.splits[name]
        return split.arranged(self.data.take(split.rows))

    @cached_property
    def explanation(self) -> dict[str, Any]:
        """Quantiles, overlaps between splits, and the mix of relations and answers before and after."""
        from curate.rules.explaining import explain

        return explain(self)

    def summary(self) -> dict[str, Any]:
        """Counts, cuts and sizes of every split."""
        return {
            "by": self.ranking.name,
            "rows": len(self.data),
            "pool": len(self.pool),
            "missing": {"policy": self.request.missing, "rows": self.pool.unmeasured},
            "left_out": self.pool.left_out(),
            "seed": self.request.seed,
            **self.request.described(),
            "splits": [
                split.summary() | ({"without_answer": n} if (n := self.without_answer.get(name)) else {})
                for name, split in self.splits.items()
            ],
        }

    def manifest(self, name: str) -> dict[str, Any]:
        """How one split was made; the manifest of the scored file is inside it."""
        summary = self.summary()
        splits = summary.pop("splits")
        split = next(s for s in splits if s["split"] == name)
        data = self.data
        return manifest_for(
            "select",
            {"name": data.name, "sha256": data.fingerprint, "rows": len(data)},
            data.roles.as_dict(),
            selection=summary | split,
            scored=data.manifest,
        )

    def write(
        self, output: str | Path, *, format: str = "original", to: str | None = None, progress: Progress | None = None
    ) -> None:
        """Write one file (one split) or a folder of them, with the options of `select`."""
        from curate.writing import check_output, write_selection

        check_output(self.data.path, Path(output), format, to)
        with self.data.hashing(), memory_for_streams():
            write_selection(self, Path(output), progress, format, to)

    def _in_kind(self, table: pa.Table, rows: NDArray[np.int64]) -> Any:
        return keep_range_index(self.data.restore(table), self.data.schema, rows)

    def _only(self, what: str) -> Split:
        training = [split for split in self.splits.values() if split.use == "training"]
        if len(training) != 1:
            raise SelectionError(
                f"There are {len(training)} splits to train on: {', '.join(split.name for split in training)}.",
                expected=f"one split for .{what}",
                try_next=f"selection[{training[0].name!r}]",
            )
        return training[0]


def select(
    scored: Any,
    *,
    top: str | float | None = None,
    bottom: str | float | None = None,
    random: str | float | None = None,
    band: str | None = None,
    budget_tokens: int | None = None,
    tokenizer: Any = None,
    whole: bool = False,
    by: str | list[str] | None = None,
    missing: Missing = "exclude",
    where: str | list[str] | Mapping[str, Any] | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    stratify_by: str | None = None,
    controlled_by: str | None = None,
    holdout: str | float | None = None,
    holdout_by: str = "subject",
    order: Order = "source",
    seed: int = 0,
    output: str | Path | None = None,
    format: str = "original",
    to: str | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Choose rows of a scored table by popularity; the Python twin of `curate select`.

    `top`, `bottom` and `random` take a share of the pool (0.3 or "30%") or a count (500), `band` a stretch of the
    order ("30:70"), `budget_tokens` the best known examples that fit; they can be asked for together. The pool is
    the rows that have a score and meet `where`, `min_score` and `max_score`. `by` names the score, or several to
    rank by the mean of their percentile ranks. The exact rules are in docs/selecting.md. With `output`, writes one
    file (one split), or a folder of them that `datasets.load_dataset` reads: Parquet, or as `to` or the ending says
    (`parquet`, `jsonl`, `csv`), the rows as they are or in the shape of a trainer (`format`: `prompt-completion`,
    `messages`, `alpaca`).

    Raises SelectionError for what cannot be selected from this pool: no score or several without `by`, a share that is
    no row, a count above the pool.

    Examples:
        >>> rows = [{"question": q, "answer": "x", "score_views": v} for q, v in [("a", 1.0), ("b", 3.0)]]
        >>> [row["question"] for row in select(rows, top=0.5).kept]
        ['b']
    """
    from curate.writing import check_output, write_selection

    options = {k: v for k, v in locals().items() if k in OPTIONS}
    request = parse_request(**options)
    if output is not None:
        check_output(scored, Path(output), format, to)
    with memory_for_streams():
        data = open_rows(scored)
        if output is None:
            return choose(data, request, options)
        with data.hashing():
            chosen = choose(data, request, options)
            write_selection(chosen, Path(output), progress, format, to)
    return chosen


OPTIONS = frozenset(select.__kwdefaults__ or ()) - {"output", "format", "to", "progress"}


def choose(data: ScoredRows, request: Request, options: Mapping[str, Any], ranking: Ranking | None = None) -> Selection:
    """Rank once, or reuse a `ranking` of the same scores, and cut every split from that one order."""
    keys = [*(role for role, name in data.roles.as_dict().items() if name), *data.schema.names]
    scores = [n.removeprefix(SCORE_PREFIX) for n in data.schema.names if n.startswith(SCORE_PREFIX)]
    request = with_holdout_key(request, keys, [*scores, *(SCORE_PREFIX + name for name in scores)])
    if ranking is None or ranking.by != request.by:
        ranking = make_ranking(data, request.by)
    pool, splits = make_splits(data, request, ranking)
    return Selection(data, request, options, ranking, pool, splits)


def score_values(table: pa.Table, column: str) -> NDArray[np.float64]:
    """A score column as float64, NaN where there is no score. (N,)"""
    return as_float(table[column])
