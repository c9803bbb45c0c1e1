"""From a request and a ranking to the pool and the splits that are cut from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Literal

from curate import selection
from curate.datasets.arrow import as_indices
from curate.datasets.rows import ScoredRows
from curate.errors import SelectionError
from curate.hashing import hash_texts, keyed
from curate.rules import controlled, strata
from curate.rules.budget import rows_within, token_counter
from curate.rules.holdout import held_out, subject_codes
from curate.rules.pool import Pool, apply_thresholds, make_pool
from curate.rules.ranking import Ranking
from curate.rules.request import Order, Request
from curate.rules.values import accepted_answers, first_answers, groups_of, role_column
from curate.selection import Cut, Size, Ties

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

HALVES = {"top": selection.parse_size("0.5"), "bottom": selection.parse_size("0.5")}

BEYOND = {
    "top": "below the cut of top",
    "bottom": "above the cut of bottom",
    "random": "not drawn for random",
    "band": "outside the band",
    "budget": "beyond the budget",
}
"""Why a row of the pool is not in a split."""


@dataclass(frozen=True)
class Split:
    """One split of a selection: its name, the mask of its rows (N,), and where it was cut.

    `positions` (k,) gives the place in source order of the first, second, … row in the order asked for; None for
    source order. A split whose `use` is evaluation is to be tested on, never trained on.
    """

    name: str
    mask: NDArray[np.bool_]
    asked: str
    cut: Cut | None = None
    use: Literal["training", "evaluation"] = "training"
    order: Order = "source"
    positions: NDArray[np.int64] | None = None
    tokens: int | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row numbers in source order: (k,)"""
        import numpy as np

        return np.flatnonzero(self.mask)

    @property
    def beyond(self) -> str:
        """Why a row of the pool is not in this split."""
        return BEYOND.get(self.name, "")

    def arranged(self, table: pa.Table) -> pa.Table:
        """A table of the split's rows in source order, put into the order asked for."""
        return table if self.positions is None else table.take(as_indices(self.positions))

    def summary(self) -> dict[str, Any]:
        """What goes into the manifest and into `--json`."""
        import numpy as np

        cut = self.cut
        return {
            "split": self.name,
            "asked": self.asked,
            "rows": int(np.count_nonzero(self.mask)),
            "cut": None if cut is None else asdict(cut) | {"score": None if isnan(cut.score) else cut.score},
            "use": self.use,
            "order": self.order,
            **({} if self.tokens is None else {"tokens": self.tokens}),
        }


def make_splits(data: ScoredRows, request: Request, ranking: Ranking) -> tuple[Pool, dict[str, Split]]:
    """Fill the pool, take the evaluation sets out of it, and cut the splits from what is left."""
    outside = [_outside(data, column, values) for column, values in request.where.items()]
    pool = make_pool(ranking.scores, outside, request.missing)
    apply_thresholds(pool, ranking.shown, request.min_score, request.max_score)
    pool.before = pool.mask
    evaluation = list(_evaluation_sets(data, request, ranking, pool))
    splits = {split.name: split for split in _training_splits(data, request, ranking, pool)}
    return pool, splits | {split.name: split for split in evaluation}


def _outside(data: ScoredRows, name: str, values: tuple[str, ...]) -> tuple[NDArray[np.bool_], str]:
    """The rows a --where leaves out, and its words; SelectionError for a value that no row has."""
    import numpy as np

    groups = groups_of(data.encoded(role_column(data, name, "where")), name)
    used = np.flatnonzero(np.bincount(groups.codes))  # a dictionary may have values that no row has
    found = [groups.labels[code] for code in used.tolist()]
    absent = [value for value in values if value not in found]
    if absent:
        some = [f'"{label}"' if "," in label else label for label in found[:12]]
        raise SelectionError(
            f"No row has {absent[0]!r} in {name}.",
            expected=f"one of: {', '.join(some)}{', …' if len(some) < len(found) else ''}",
        )
    wanted = np.array([label in values for label in groups.labels])
    return ~wanted[groups.codes], f"not {name}={','.join(values)}"


def _evaluation_sets(data: ScoredRows, request: Request, ranking: Ranking, pool: Pool) -> Iterator[Split]:
    """The held-out subjects and the test set of other answers; what is in them leaves the pool."""
    if request.holdout is not None:
        name = role_column(data, request.holdout_by, "holdout-by")
        subjects, texts = subject_codes(data.encoded(name), name)
        hashes = keyed(hash_texts(texts), request.seed, "holdout")
        mask = held_out(subjects, hashes, pool.mask, request.holdout.rows(len(pool))) & pool.mask
        pool.leave_out(mask, "held out")
        yield Split("holdout", mask, f"{request.holdout} by {request.holdout_by}", use="evaluation")
    if request.controlled_by is not None:
        mask = _keep_controlled(data, request.controlled_by, pool)
        yield Split("test", mask, "other answers", use="evaluation")


def _keep_controlled(data: ScoredRows, name: str, pool: Pool) -> NDArray[np.bool_]:
    """Leave in the pool only the most frequent answer of every group; the pool rows with other answers."""
    groups = groups_of(data.encoded(role_column(data, name, "controlled-by")), name)
    column = data.column(data.roles.answers)
    answers = first_answers(column)
    frequent = controlled.most_frequent(groups.codes, answers.codes, pool.mask)
    if not frequent:
        raise SelectionError("No row that can be ranked has an answer.", expected="rows with answers")
    kept = [answers.labels[answer] for answer in frequent.values()]
    others = controlled.other_answers(*accepted_answers(column), kept) & pool.mask
    stay = controlled.with_frequent_answer(groups.codes, answers.codes, frequent)
    pool.leave_out(others, "in the test set of other answers")
    pool.leave_out(~stay, f"not the most frequent answer of its {name}")
    return others


def _training_splits(data: ScoredRows, request: Request, ranking: Ranking, pool: Pool) -> Iterator[Split]:
    asked = request.sizes
    if request.controlled_by and not request.asks_for_splits():
        asked = HALVES
    cutter = _Cutter(data, request, ranking, pool)
    for name, size in asked.items():
        yield cutter.sized(name, size)
    if request.band is not None:
        yield cutter.band()
    if request.budget is not None:
        yield cutter.budget()
    if request.whole or not (asked or request.band or request.budget):
        yield cutter.split("whole", pool.mask, "whole")


class _Cutter:
    """Cuts splits from one pool: over all of it, or inside every group."""

    def __init__(self, data: ScoredRows, request: Request, ranking: Ranking, pool: Pool) -> None:
        self.data, self.request, self.ranking, self.pool = data, request, ranking, pool
        self.scores = pool.scores
        by = request.stratify_by or request.controlled_by
        self.groups: list[NDArray[np.int64]] | None = None
        if by is not None:
            flag = "stratify-by" if request.stratify_by else "controlled-by"
            groups = groups_of(data.encoded(role_column(data, by, flag)), by)
            self.groups = strata.rows_by_group(groups.codes, pool.mask, len(groups.labels))

    def sized(self, name: str, size: Size) -> Split:
        """top, bottom or random."""
        k = size.rows(len(self.pool))
        if self.groups is None:
            return self.split(name, self._pick(name, self.scores, k, self._ties()), str(size))
        share_out = strata.quotas_of_tail if name == "bottom" else strata.quotas
        quotas = share_out([len(rows) for rows in self.groups], size.fraction(len(self.pool)))
        mask = strata.in_groups(
            len(self.scores),
            self.groups,
            lambda number, rows: self._pick(name, self.scores[rows], quotas[number], self._ties(rows), rows),
        )
        return self.split(name, mask, str(size))

    def band(self) -> Split:
        """The stretch of the order that was asked for."""
        band = self.request.band
        assert band is not None
        groups = [self.pool.mask.nonzero()[0]] if self.groups is None else self.groups
        mask = strata.in_groups(
            len(self.scores),
            groups,
            lambda _, rows: selection.between(self.scores[rows], *band.positions(len(rows)), self._ties(rows)),
        )
        if not mask.any():
            raise SelectionError(f"The band {band} of {len(self.pool)} rows is no row at all.", expected="a wider band")
        return self.split("band", mask, str(band))

    def budget(self) -> Split:
        """The best known rows whose tokens fit."""
        import numpy as np

        budget = self.request.budget
        assert budget is not None
        rows = np.flatnonzero(self.pool.mask)
        order = rows[selection.ordered(self.scores[rows], self._hashes(rows))]
        k, spent = rows_within(budget.tokens, order, token_counter(self.data, budget.tokenizer))
        mask = np.zeros(len(self.scores), dtype=bool)
        mask[order[:k]] = True
        return self.split("budget", mask, str(budget), tokens=spent)

    def split(self, name: str, mask: NDArray[np.bool_], asked: str, tokens: int | None = None) -> Split:
        """A split of these rows, its cut found and its rows ordered."""
        order = self.request.order
        return Split(
            name, mask, asked, self._cut(name, mask), order=order, positions=self._positions(mask), tokens=tokens
        )

    def _pick(
        self,
        name: str,
        scores: NDArray[np.float64],
        k: int,
        ties: Ties,
        rows: NDArray[np.int64] | None = None,
    ) -> NDArray[np.bool_]:
        import numpy as np

        if name == "random":
            return selection.drawn(~np.isnan(scores), k, self.ranking.hashes(self.request.seed, "random", rows))
        return (selection.top_rows if name == "top" else selection.bottom_rows)(scores, k, ties)

    def _cut(self, name: str, mask: NDArray[np.bool_]) -> Cut | None:
        """Of the splits that end at one place of the order: the score there, and the ties."""
        import numpy as np

        if name not in ("top", "bottom", "budget") or self.groups is not None:
            return None
        edge = (np.max if name == "bottom" else np.min)(self.scores[np.flatnonzero(mask)])
        return selection.cut_of(self.scores, mask, edge, self.ranking.shown)

    def _positions(self, mask: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        import numpy as np

        order = self.request.order
        if order == "source":
            return None
        rows = np.flatnonzero(mask)
        if order == "shuffled":
            return np.argsort(self.ranking.hashes(self.request.seed, "shuffle", rows), kind="stable")
        popular_first = selection.ordered(self.scores[rows], self._hashes(rows))
        return popular_first if order == "popular-first" else popular_first[::-1]

    def _hashes(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        return self.ranking.hashes(self.request.seed, "ties", rows)

    def _ties(self, rows: NDArray[np.int64] | None = None) -> Ties:
        """Hashes of rows by their place in `rows`, or in the table."""
        return lambda at: self._hashes(at if rows is None else rows[at])
