"""From settings to splits: the pool, evaluation sets, training splits, the token budget."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isnan
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.ids import hash_texts, keyed
from curate.data.layouts import default_template
from curate.data.stores import as_arrow
from curate.data.table import QATable
from curate.errors import SelectionError, setting
from curate.prompts import TEMPLATES, solution
from curate.records import Example
from curate.selection.groups import (
    accepted_answers,
    first_answers,
    groups_of,
    held_out,
    in_groups,
    most_frequent,
    other_answers,
    quotas,
    quotas_of_tail,
    role_column,
    rows_by_group,
    subject_codes,
    with_frequent_answer,
)
from curate.selection.ranking import (
    Band,
    Cut,
    Ranking,
    Size,
    Ties,
    between,
    bottom_rows,
    cut_of,
    drawn,
    ordered,
    parse_band,
    parse_size,
    top_rows,
)

Missing = Literal["exclude", "lowest", "error"]
MISSING: tuple[Missing, ...] = ("exclude", "lowest", "error")
Order = Literal["source", "popular-first", "obscure-first", "shuffled"]
ORDERS: tuple[Order, ...] = ("source", "popular-first", "obscure-first", "shuffled")


@dataclass(frozen=True, slots=True)
class Budget:
    """So many tokens of prompt and completion, counted by the tokenizer of `tokenizer` (a folder or Hub id)."""

    tokens: int
    tokenizer: Any

    def __str__(self) -> str:
        return f"{self.tokens} tokens"


@dataclass(frozen=True)
class Request:
    """All options of a selection; see `curate.select` for what each of them means."""

    sizes: Mapping[str, Size] = field(default_factory=dict)
    band: Band | None = None
    budget: Budget | None = None
    whole: bool = False
    by: tuple[str, ...] = ()
    missing: Missing = "exclude"
    seed: int = 0
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_score: float | None = None
    max_score: float | None = None
    stratify_by: str | None = None
    controlled_by: str | None = None
    holdout: Size | None = None
    holdout_by: str = "subject"
    order: Order = "source"

    def asks_for_splits(self) -> bool:
        """Whether any split was asked for by itself."""
        return bool(self.sizes or self.whole or self.band or self.budget)

    def filters(self) -> bool:
        """Whether the pool is narrowed, so that all that is left of it is a split worth having."""
        thresholds = self.min_score is not None or self.max_score is not None
        return bool(self.where or thresholds or self.controlled_by or self.holdout)

    def described(self) -> dict[str, Any]:
        """The options that were given and that change which rows are chosen, for the manifest."""
        given: dict[str, Any] = {
            "where": {column: list(values) for column, values in self.where.items()} or None,
            "min_score": self.min_score,
            "max_score": self.max_score,
            "stratify_by": self.stratify_by,
            "controlled_by": self.controlled_by,
            "holdout": None if self.holdout is None else {"size": str(self.holdout), "by": self.holdout_by},
        }
        return {name: value for name, value in given.items() if value is not None}


def parse_request(
    *,
    top: str | float | None = None,
    bottom: str | float | None = None,
    random: str | float | None = None,
    band: str | None = None,
    budget_tokens: int | None = None,
    tokenizer: Any = None,
    holdout: str | float | None = None,
    by: str | Sequence[str] | None = None,
    where: str | Sequence[str] | Mapping[str, Any] | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    **rest: Any,
) -> Request:
    """The options of `curate.select` as a Request; SelectionError for what cannot be meant."""
    sizes = {"top": top, "bottom": bottom, "random": random}
    if holdout is None and rest.get("holdout_by", "subject") != "subject":
        raise SelectionError(
            f"{setting('holdout_by')} without {setting('holdout')} does nothing.",
            try_next=f"{setting('holdout', 0.2)} {setting('holdout_by', '…')}",
        )
    request = Request(
        sizes={name: parse_size(value, name) for name, value in sizes.items() if value is not None},
        band=None if band is None else parse_band(band),
        budget=_budget(budget_tokens, tokenizer),
        holdout=None if holdout is None else parse_size(holdout, "holdout"),
        by=(by,) if isinstance(by, str) else tuple(by or ()),
        where=_where(where),
        min_score=_number("min_score", min_score),
        max_score=_number("max_score", max_score),
        **rest,
    )
    _check(request)
    return request


WRITING = ("output", "format", "to")
"""Options of `curate.select` that say where its splits go, not which rows they have."""

SPLITS = ("top", "bottom", "random", "band", "budget_tokens", "whole")


def change(given: Mapping[str, Any], **changes: Any) -> tuple[Request, dict[str, Any]]:
    """`given`, all options there are, with some replaced, parsed and as they are to be given next time.

    Asking for any split forgets the splits asked for before; the tokenizer is remembered for a later budget.
    """
    unknown = next((name for name in changes if name not in given), None)
    if unknown is not None:
        raise SelectionError(
            f"There is nothing called {unknown!r} to select by.",
            expected=f"one of {', '.join(sorted(given))}",
            try_next="selection.reselect(…).write(OUTPUT), to write it" if unknown in WRITING else None,
        )
    forgotten = {**dict.fromkeys(SPLITS), "whole": False} if changes.keys() & set(SPLITS) else {}
    options = {**given, **forgotten, **changes}
    unused = {"tokenizer": None} if options["budget_tokens"] is None and "tokenizer" not in changes else {}
    return parse_request(**options | unused), options


def with_holdout_key(request: Request, keys: Sequence[str], scores: Sequence[str]) -> Request:
    """`--holdout 0.2 --by subject`: a --by that names no score but a role or column tells what is held out."""
    named = [name for name in request.by if name in keys and name not in scores]
    if request.holdout is None or not named:
        return request
    return replace(request, by=tuple(n for n in request.by if n not in named), holdout_by=named[-1])


def _check(request: Request) -> None:
    _one_of("missing", request.missing, MISSING)
    _one_of("order", request.order, ORDERS)
    repeated = next((name for name in request.by if request.by.count(name) > 1), None)
    if repeated is not None:
        raise SelectionError(
            f"{setting('by', repeated)} is given twice.", expected="each score once", try_next=setting("by", repeated)
        )
    if not request.asks_for_splits() and not request.filters():
        raise SelectionError(
            "Nothing was asked for.",
            try_next=f"{setting('top', 0.3)}, {setting('bottom', 0.3)}, {setting('random', 0.3)}, "
            f"{setting('band', '30:70')} or {setting('whole')}",
        )
    if request.stratify_by and request.controlled_by and request.stratify_by != request.controlled_by:
        raise SelectionError(
            f"{setting('controlled_by')} takes its halves inside its own groups, not inside those of "
            f"{setting('stratify_by')}.",
            expected="one of the two",
        )
    if request.budget and (request.stratify_by or request.controlled_by):
        raise SelectionError(
            "A token budget is spent on the best known rows first, so it cannot be shared out over groups.",
            expected=f"{setting('budget_tokens')} without {setting('stratify_by')} and {setting('controlled_by')}",
        )
    for name, value in (("min_score", request.min_score), ("max_score", request.max_score)):
        if value is not None and math.isnan(value):
            raise SelectionError(f"{setting(name, value)} is not a number.", expected="a score")
    low, high = request.min_score, request.max_score
    if low is not None and high is not None and low > high:
        raise SelectionError(
            f"{setting('min_score', low)} is above {setting('max_score', high)}.", expected="the lower one first"
        )


def _number(name: str, value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise SelectionError(f"{setting(name, repr(value))} is not a number.", expected="a number") from None


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SelectionError(f"{setting(name, value)} is unknown.", expected=f"one of {', '.join(known)}")


def _budget(tokens: int | None, tokenizer: Any) -> Budget | None:
    number = _number("budget_tokens", tokens)
    if number is None and tokenizer is not None:
        raise SelectionError(
            f"{setting('tokenizer')} without {setting('budget_tokens')} does nothing.",
            try_next=setting("budget_tokens", 1000000),
        )
    if number is None:
        return None
    if number < 1 or not number.is_integer():
        raise SelectionError(
            f"{setting('budget_tokens', tokens)} buys nothing.", expected="a whole number of tokens above 0"
        )
    if tokenizer is None:
        raise SelectionError(
            f"{setting('budget_tokens')} needs a tokenizer to count with.",
            expected="the folder or Hub id of the model that will be finetuned",
            try_next=f"{setting('budget_tokens', tokens)} {setting('tokenizer', 'MODEL')}",
        )
    return Budget(int(number), tokenizer)


def _where(conditions: str | Sequence[str] | Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """`relation=country,sport` as {"relation": ("country", "sport")}; the values of a repeated column add up.

    A value with a comma is put in double quotes, as in CSV.
    """
    if isinstance(conditions, Mapping):
        several = (list, tuple, set, frozenset)
        return {c: tuple(map(str, v)) if isinstance(v, several) else (str(v),) for c, v in conditions.items()}
    parsed: dict[str, tuple[str, ...]] = {}
    for condition in [conditions] if isinstance(conditions, str) else conditions or []:
        column, sign, values = condition.partition("=")
        if not (column and sign and values):
            raise SelectionError(
                f"{setting('where', condition)} is not a condition.",
                expected="COLUMN=VALUE or COLUMN=VALUE,VALUE,…",
                try_next=setting("where", "relation=country,sport"),
            )
        parsed[column] = parsed.get(column, ()) + tuple(v.strip() for v in next(csv.reader([values.strip()])))
    return parsed


LEAST = -sys.float_info.max
"""What a score of minus infinity counts as where rows without a score are ranked below all others."""


@dataclass
class Pool:
    """Scores of the rows that can be chosen from, NaN for all others; `reasons` (N,) numbers into `labels`.

    Reason 0 is none: the row is in the pool. `before` (N,) are the rows that were in it before evaluation sets, and
    what goes with them, were taken out.
    """

    scores: NDArray[np.float64]
    reasons: NDArray[np.uint8]
    labels: list[str] = field(default_factory=lambda: [""])
    unmeasured: int = 0
    before: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.mask

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The rows in the pool: (N,)"""
        return self.reasons == 0

    def __len__(self) -> int:
        return len(self.reasons) - int(np.count_nonzero(self.reasons))

    def leave_out(self, rows: NDArray[np.bool_], why: str) -> int:
        """Take rows out of the pool, those that are still in; how many that were."""

        rows = rows & self.mask
        if why not in self.labels:
            self.labels.append(why)
        if rows.any():
            self.reasons[rows] = self.labels.index(why)
            self.scores = np.where(rows, np.nan, self.scores)  # a copy: the ranking keeps its scores
        return int(np.count_nonzero(rows))

    def left_out(self) -> dict[str, int]:
        """How many rows are out, by reason."""

        counts = {
            why: int(np.count_nonzero(self.reasons == number)) for number, why in enumerate(self.labels) if number
        }
        return {why: n for why, n in counts.items() if n}


def make_pool(scores: NDArray[np.float64], outside: Sequence[tuple[NDArray[np.bool_], str]], missing: Missing) -> Pool:
    """The pool of the rows that are not `outside` (masks and their reasons) and have a score.

    A missing score is NaN: `exclude` leaves such rows out, `lowest` ranks them below all others, `error` refuses
    them. SelectionError when nothing is left.
    """

    pool = Pool(scores, np.zeros(len(scores), dtype=np.uint8))
    for rows, why in outside:
        pool.leave_out(rows, why)
    before = len(pool)
    if not before:
        raise SelectionError("No row is left to choose from.", expected="conditions that some row meets")
    unmeasured = np.isnan(scores) & pool.mask
    pool.unmeasured = int(np.count_nonzero(unmeasured))
    if pool.unmeasured == before:
        raise SelectionError(
            "All scores are null: there is nothing to rank.",
            expected="at least one row with a score",
            try_next="curate show FILE, to see why no row could be scored",
        )
    if pool.unmeasured and missing == "error":
        raise SelectionError(
            f"{pool.unmeasured} of {before} rows have no score.",
            expected="a score in every row, as --missing error asks",
            try_next="--missing exclude, to leave them out, or --missing lowest",
        )
    if missing == "lowest":
        pool.scores = np.where(unmeasured, -np.inf, np.maximum(pool.scores, LEAST))
    elif pool.unmeasured:
        pool.leave_out(unmeasured, "no score")
    return pool


def apply_thresholds(pool: Pool, shown: NDArray[np.float64], low: float | None, high: float | None) -> None:
    """Leave out the rows whose score, as the user knows it, is below `low` or above `high`."""

    if low is None and high is None:
        return
    pool.leave_out(np.isnan(shown), "no score")
    if low is not None:
        pool.leave_out(shown < low, f"below --min-score {low:g}")
    if high is not None:
        pool.leave_out(shown > high, f"above --max-score {high:g}")
    if not len(pool):
        raise SelectionError(
            "No score lies in the range that was asked for.",
            expected="a wider --min-score and --max-score",
            try_next="curate show FILE, for the quantiles of the scores",
        )


HALVES = {"top": parse_size("0.5"), "bottom": parse_size("0.5")}

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

        return np.flatnonzero(self.mask)

    @property
    def beyond(self) -> str:
        """Why a row of the pool is not in this split."""
        return BEYOND.get(self.name, "")

    def arranged(self, table: pa.Table) -> pa.Table:
        """A table of the split's rows in source order, put into the order asked for."""
        return table if self.positions is None else table.take(as_arrow(self.positions))

    def summary(self) -> dict[str, Any]:
        """What goes into the manifest and into `--json`."""

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


def make_splits(data: QATable, request: Request, ranking: Ranking) -> tuple[Pool, dict[str, Split]]:
    """Fill the pool, take the evaluation sets out of it, and cut the splits from what is left."""
    outside = [rows_outside(data, column, values) for column, values in request.where.items()]
    pool = make_pool(ranking.scores, outside, request.missing)
    apply_thresholds(pool, ranking.shown, request.min_score, request.max_score)
    pool.before = pool.mask
    evaluation = list(_evaluation_sets(data, request, ranking, pool))
    splits = {split.name: split for split in _training_splits(data, request, ranking, pool)}
    return pool, splits | {split.name: split for split in evaluation}


def rows_outside(data: QATable, name: str, values: tuple[str, ...], of: str = "") -> tuple[NDArray[np.bool_], str]:
    """The rows whose value in a role or column is none of these, (N,), and why; SelectionError for one no row has."""

    groups = groups_of(data.encoded(role_column(data, name, "where")), name)
    used = np.flatnonzero(np.bincount(groups.codes))  # a dictionary may have values that no row has
    found = [groups.labels[code] for code in used.tolist()]
    absent = [value for value in values if value not in found]
    if absent:
        some = [f'"{label}"' if "," in label else label for label in found[:12]]
        raise SelectionError(
            f"No row{of} has {absent[0]!r} in {name}.",
            expected=f"one of: {', '.join(some)}{', …' if len(some) < len(found) else ''}",
        )
    wanted = np.array([label in values for label in groups.labels])
    return ~wanted[groups.codes], f"not {name}={','.join(values)}"


def _evaluation_sets(data: QATable, request: Request, ranking: Ranking, pool: Pool) -> Iterator[Split]:
    """The held-out subjects and the test set of other answers; what is in them leaves the pool."""
    if request.holdout is not None:
        name = role_column(data, request.holdout_by, "holdout_by")
        subjects, texts = subject_codes(data.encoded(name), name)
        hashes = keyed(hash_texts(texts), request.seed, "holdout")
        mask = held_out(subjects, hashes, pool.mask, request.holdout.rows(len(pool))) & pool.mask
        pool.leave_out(mask, "held out")
        yield Split("holdout", mask, f"{request.holdout} by {request.holdout_by}", use="evaluation")
    if request.controlled_by is not None:
        mask = _keep_controlled(data, request.controlled_by, pool)
        yield Split("test", mask, "other answers", use="evaluation")


def _keep_controlled(data: QATable, name: str, pool: Pool) -> NDArray[np.bool_]:
    """Leave in the pool only the most frequent answer of every group; the pool rows with other answers."""
    groups = groups_of(data.encoded(role_column(data, name, "controlled_by")), name)
    column = data.column(data.roles.answers)
    answers = first_answers(column)
    frequent = most_frequent(groups.codes, answers.codes, pool.mask)
    if not frequent:
        raise SelectionError("No row that can be ranked has an answer.", expected="rows with answers")
    kept = [answers.labels[answer] for answer in frequent.values()]
    others = other_answers(*accepted_answers(column), kept) & pool.mask
    stay = with_frequent_answer(groups.codes, answers.codes, frequent)
    pool.leave_out(others, "in the test set of other answers")
    pool.leave_out(~stay, f"not the most frequent answer of its {name}")
    return others


def training_splits(request: Request) -> list[str]:
    """The names of the splits to train on: those asked for, else both halves of a controlled pool, or all of a pool."""
    asked = {**request.sizes, "band": request.band, "budget": request.budget, "whole": request.whole}
    named = [name for name, value in asked.items() if value]
    return named or (list(HALVES) if request.controlled_by else ["whole"])


def _training_splits(data: QATable, request: Request, ranking: Ranking, pool: Pool) -> Iterator[Split]:
    cutter = _Cutter(data, request, ranking, pool)
    for name in training_splits(request):
        if name == "whole":
            yield cutter.split("whole", pool.mask, "whole")
        elif name == "band":
            yield cutter.band()
        elif name == "budget":
            yield cutter.budget()
        else:
            yield cutter.sized(name, request.sizes.get(name) or HALVES[name])


class _Cutter:
    """Cuts splits from one pool: over all of it, or inside every group."""

    def __init__(self, data: QATable, request: Request, ranking: Ranking, pool: Pool) -> None:
        self.data, self.request, self.ranking, self.pool = data, request, ranking, pool
        self.scores = pool.scores
        by = request.stratify_by or request.controlled_by
        self.groups: list[NDArray[np.int64]] | None = None
        if by is not None:
            option = "stratify_by" if request.stratify_by else "controlled_by"
            groups = groups_of(data.encoded(role_column(data, by, option)), by)
            self.groups = rows_by_group(groups.codes, pool.mask, len(groups.labels))

    def sized(self, name: str, size: Size) -> Split:
        """top, bottom or random."""
        k = size.rows(len(self.pool))
        if self.groups is None:
            return self.split(name, self._pick(name, self.scores, k, self._ties()), str(size))
        share_out = quotas_of_tail if name == "bottom" else quotas
        counts = share_out([len(rows) for rows in self.groups], size.fraction(len(self.pool)))
        mask = in_groups(
            len(self.scores),
            self.groups,
            lambda number, rows: self._pick(name, self.scores[rows], counts[number], self._ties(rows), rows),
        )
        return self.split(name, mask, str(size))

    def band(self) -> Split:
        """The stretch of the order that was asked for."""
        band = self.request.band
        assert band is not None
        groups = [self.pool.mask.nonzero()[0]] if self.groups is None else self.groups
        mask = in_groups(
            len(self.scores),
            groups,
            lambda _, rows: between(self.scores[rows], *band.positions(len(rows)), self._ties(rows)),
        )
        if not mask.any():
            raise SelectionError(f"The band {band} of {len(self.pool)} rows is no row at all.", expected="a wider band")
        return self.split("band", mask, str(band))

    def budget(self) -> Split:
        """The best known rows whose tokens fit."""

        budget = self.request.budget
        assert budget is not None
        rows = np.flatnonzero(self.pool.mask)
        order = rows[ordered(self.scores[rows], self._hashes(rows))]
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
        if name == "random":
            return drawn(~np.isnan(scores), k, self.ranking.hashes(self.request.seed, "random", rows))
        return (top_rows if name == "top" else bottom_rows)(scores, k, ties)

    def _cut(self, name: str, mask: NDArray[np.bool_]) -> Cut | None:
        """Of the splits that end at one place of the order: the score there, and the ties."""

        if name not in ("top", "bottom", "budget") or self.groups is not None:
            return None
        edge = (np.max if name == "bottom" else np.min)(self.scores[np.flatnonzero(mask)])
        return cut_of(self.scores, mask, edge, self.ranking.shown)

    def _positions(self, mask: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        order = self.request.order
        if order == "source":
            return None
        rows = np.flatnonzero(mask)
        if order == "shuffled":
            return np.argsort(self.ranking.hashes(self.request.seed, "shuffle", rows), kind="stable")
        popular_first = ordered(self.scores[rows], self._hashes(rows))
        return popular_first if order == "popular-first" else popular_first[::-1]

    def _hashes(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        return self.ranking.hashes(self.request.seed, "ties", rows)

    def _ties(self, rows: NDArray[np.int64] | None = None) -> Ties:
        """Hashes of rows by their place in `rows`, or in the table."""
        return lambda at: self._hashes(at if rows is None else rows[at])


CHUNK = 10_000


def rows_within(
    budget: int, order: NDArray[np.int64], tokens_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> tuple[int, int]:
    """How many rows from the head of `order` fit a budget, and the tokens they take.

    `tokens_of` is asked for the tokens of CHUNK rows at a time, and no further than the budget reaches.
    SelectionError when not even the first row fits.
    """

    rows = spent = 0
    for start in range(0, len(order), CHUNK):
        total = spent + np.cumsum(tokens_of(order[start : start + CHUNK]))
        fits = int(np.searchsorted(total, budget, side="right"))
        if fits:
            rows, spent = start + fits, int(total[fits - 1])
        if fits < len(total):
            break
    if not rows:
        raise SelectionError(f"{budget} tokens do not hold the best known example.", expected="a larger budget")
    return rows, spent


def token_counter(data: QATable, tokenizer: Any) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """Counts the tokens of rows as prompt and completion of the template that fits the data, without end-of-text."""

    from curate.lm.model import load_tokenizer

    tokenize = load_tokenizer(tokenizer) if isinstance(tokenizer, str) or hasattr(tokenizer, "joinpath") else tokenizer
    template = TEMPLATES[default_template(data.roles)]
    table = data.table_of(data.roles.fields())

    def text(example: Example) -> str:
        answer = solution(template, example)
        return template.head(example) + template.ask(example) + (template.render_completion(answer) if answer else "")

    def count(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        texts = [text(example) for example in data.examples_of(table.take(as_arrow(rows)))]
        return np.array([len(ids) for ids in tokenize(texts)["input_ids"]], dtype=np.int64)

    return count
