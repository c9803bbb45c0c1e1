"""From settings to splits: the pool, evaluation sets, training splits, the token budget."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.ids import hash_texts, keyed
from curate.data.stores import as_arrow
from curate.data.table import QATable
from curate.errors import SelectionError, setting
from curate.prompts import solution
from curate.records import Example
from curate.selection.groups import (
    Groups,
    accepted_answers,
    first_answers,
    groups_by,
    held_out,
    most_frequent,
    other_answers,
    quotas,
    quotas_of_tail,
    role_column,
    rows_by_group,
    rows_with,
    subjects_of,
)
from curate.selection.ranking import (
    SCORE_PREFIX,
    Band,
    Cut,
    Ranking,
    Size,
    Ties,
    between,
    bottom_rows,
    cut_of,
    draw_random,
    ordered,
    parse_band,
    parse_size,
    top_rows,
)
from curate.settings import Order, SelectSettings

Mask = NDArray[np.bool_]

Pick = Callable[[NDArray[np.float64], int, Ties], Mask]
"""What takes so many of the rows with some scores, such as `top_rows`: (n,) -> (n,)"""


@dataclass(frozen=True)
class Rules:
    """What the settings of a selection mean: their texts parsed, what is left open filled in, contradictions refused.

    `asked` are the training splits to make: by the setting that asks for one (see SPLITS), what it asks for.
    """

    settings: SelectSettings
    asked: Mapping[str, Any]
    by: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]]
    min_score: float | None
    max_score: float | None
    holdout: Size | None
    holdout_by: str

    @classmethod
    def of(cls, settings: SelectSettings) -> Rules:
        """SelectionError for what cannot be meant."""
        rules = cls(
            settings,
            asked={
                name: rule.parse(value)
                for name, rule in SPLITS.items()
                if (value := getattr(settings, name)) is not None and value is not False
            },
            by=(settings.by,) if isinstance(settings.by, str) else tuple(settings.by or ()),
            where=parse_where(settings.where),
            min_score=_number("min_score", settings.min_score),
            max_score=_number("max_score", settings.max_score),
            holdout=None if settings.holdout is None else parse_size(settings.holdout, "holdout"),
            holdout_by=settings.holdout_by,
        )
        rules._check()
        if rules.asked:
            return rules
        return replace(rules, asked=HALVES if settings.controlled_by else {"whole": True})

    def _check(self) -> None:
        asked, settings = self.asked, self.settings
        if self.holdout is None and self.holdout_by != "subject":
            raise SelectionError(
                f"{setting('holdout_by')} without {setting('holdout')} does nothing.",
                try_next=f"{setting('holdout', 0.2)} {setting('holdout_by', '…')}",
            )
        if "budget_tokens" in asked and settings.tokenizer is None:
            raise SelectionError(
                f"{setting('budget_tokens')} needs a tokenizer to count with.",
                expected="the folder or Hub id of the model that will be finetuned",
                try_next=f"{setting('budget_tokens', settings.budget_tokens)} {setting('tokenizer', 'MODEL')}",
            )
        repeated = next((name for name in self.by if self.by.count(name) > 1), None)
        if repeated is not None:
            again = setting("by", repeated)
            raise SelectionError(f"{again} is given twice.", expected="each score once", try_next=again)
        filters = (self.where, self.min_score is not None, self.max_score is not None, self.holdout)
        if not asked and not any(filters) and not settings.controlled_by:
            sizes = ", ".join(setting(name, 0.3) for name in ("top", "bottom", "random"))
            raise SelectionError(
                "Nothing was asked for.", try_next=f"{sizes}, {setting('band', '30:70')} or {setting('whole')}"
            )
        if settings.controlled_by and settings.stratify_by not in (None, settings.controlled_by):
            raise SelectionError(
                f"{setting('controlled_by')} takes its halves inside its own groups, "
                f"not inside those of {setting('stratify_by')}.",
                expected="one of the two",
            )
        if "budget_tokens" in asked and (settings.stratify_by or settings.controlled_by):
            raise SelectionError(
                "A token budget is spent on the best known rows first, so it cannot be shared out over groups.",
                expected=f"{setting('budget_tokens')} without {setting('stratify_by')} and {setting('controlled_by')}",
            )
        low, high = self.min_score, self.max_score
        if low is not None and high is not None and low > high:
            raise SelectionError(
                f"{setting('min_score', low)} is above {setting('max_score', high)}.", expected="the lower one first"
            )

    @property
    def training(self) -> list[str]:
        """The names of the splits to train on."""
        return [SPLITS[name].name for name in self.asked]

    def for_table(self, data: QATable) -> Rules:
        """`--holdout 0.2 --by subject`: a `by` that names no score but a role or a column tells what is held out."""
        scores = {name for name in data.schema.names if name.startswith(SCORE_PREFIX)}
        scores |= {name.removeprefix(SCORE_PREFIX) for name in scores}
        columns = {role for role, name in data.roles.as_dict().items() if name} | {*data.schema.names}
        keys = [name for name in self.by if name in columns - scores]
        if self.holdout is None or not keys:
            return self
        return replace(self, by=tuple(name for name in self.by if name not in keys), holdout_by=keys[-1])

    def described(self) -> dict[str, Any]:
        """What was given of all that narrows the pool or shares it out, for the manifest."""
        given: dict[str, Any] = {
            "where": {column: list(values) for column, values in self.where.items()} or None,
            "min_score": self.min_score,
            "max_score": self.max_score,
            "stratify_by": self.settings.stratify_by,
            "controlled_by": self.settings.controlled_by,
            "holdout": self.holdout and {"size": str(self.holdout), "by": self.holdout_by},
        }
        return {name: value for name, value in given.items() if value is not None}


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise SelectionError(f"{setting(name, value)} is not a number.", expected="a score")
    return number


def parse_tokens(value: Any) -> int:
    """A budget of tokens; SelectionError for what is no whole number above 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or not number.is_integer():
        raise SelectionError(
            f"{setting('budget_tokens', value)} buys nothing.", expected="a whole number of tokens above 0"
        )
    return int(number)


def parse_where(conditions: str | Sequence[str] | Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """`relation=country,sport` as {"relation": ("country", "sport")}; the values of a repeated column add up.

    A value with a comma is put in double quotes, as in CSV.
    """
    if isinstance(conditions, Mapping):
        several = (list, tuple, set, frozenset)
        return {c: tuple(map(str, v)) if isinstance(v, several) else (str(v),) for c, v in conditions.items()}
    parsed: dict[str, tuple[str, ...]] = {}
    for condition in [conditions] if isinstance(conditions, str) else conditions or []:
        column, _, values = condition.partition("=")
        try:
            found = tuple(value.strip() for value in next(csv.reader([values.strip()])))
        except (csv.Error, StopIteration):  # no value, or a line break outside of quotes
            found = ()
        if not (column and found):
            raise SelectionError(
                f"{setting('where', condition)} is not a condition.",
                expected="COLUMN=VALUE or COLUMN=VALUE,VALUE,…",
                try_next=setting("where", "relation=country,sport"),
            )
        parsed[column] = parsed.get(column, ()) + found
    return parsed


@dataclass(frozen=True)
class Split:
    """One split of a selection: its name, the mask of its rows (N,), and where it was cut.

    `beyond` says why a row of the pool is not in it. `positions` (k,) gives the place in source order of the first,
    second, … row in the order asked for; None for source order. A split whose `use` is evaluation is to be tested on,
    never trained on.
    """

    name: str
    mask: Mask
    asked: str
    beyond: str = ""
    cut: Cut | None = None
    use: Literal["training", "evaluation"] = "training"
    order: Order = "source"
    positions: NDArray[np.int64] | None = None
    tokens: int | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row numbers in source order. (k,)"""
        return np.flatnonzero(self.mask)

    def arranged(self, table: pa.Table) -> pa.Table:
        """A table of the split's rows in source order, put into the order asked for."""
        return table if self.positions is None else table.take(as_arrow(self.positions))

    def summary(self) -> dict[str, Any]:
        """What goes into the manifest and into `--json`."""
        cut = None if self.cut is None else asdict(self.cut)
        if cut is not None and math.isnan(cut["score"]):
            cut["score"] = None
        return {
            "split": self.name,
            "asked": self.asked,
            "rows": int(np.count_nonzero(self.mask)),
            "cut": cut,
            "use": self.use,
            "order": self.order,
            **({} if self.tokens is None else {"tokens": self.tokens}),
        }


LEAST = -sys.float_info.max
"""What a score of minus infinity counts as where rows without a score are ranked below all others."""

EVERY = slice(None)


@dataclass
class Pool:
    """The rows that can be chosen from, in their total order.

    `scores` (N,) are NaN for all other rows; `reasons` (N,) tell why those are out, as numbers into `labels`, 0 for
    rows that are in. `before` (N,) are the rows that were in before evaluation sets, and what goes with them, were
    taken out. `strata` are the row numbers of the groups inside which every split takes its share; None: all are one.
    """

    ranking: Ranking
    settings: SelectSettings
    labels: list[str] = field(default_factory=lambda: [""])
    unmeasured: int = 0
    strata: list[NDArray[np.int64]] | None = None

    def __post_init__(self) -> None:
        self.scores = self.ranking.scores
        self.reasons = np.zeros(len(self.scores), dtype=np.uint8)
        self.before = self.mask

    def __len__(self) -> int:
        return len(self.reasons) - int(np.count_nonzero(self.reasons))

    @property
    def mask(self) -> Mask:
        """The rows in the pool. (N,)"""
        return self.reasons == 0

    def leave_out(self, rows: Mask, why: str) -> None:
        """Take rows out of the pool, those that are still in. (N,)"""
        rows = rows & self.mask
        if why not in self.labels:
            self.labels.append(why)
        if rows.any():
            self.reasons[rows] = self.labels.index(why)
            self.scores = np.where(rows, np.nan, self.scores)  # a copy: the ranking keeps its scores

    def left_out(self) -> dict[str, int]:
        """How many rows are out, by reason."""
        counts = [int(np.count_nonzero(self.reasons == number)) for number in range(len(self.labels))]
        return {why: n for why, n in zip(self.labels[1:], counts[1:], strict=True) if n}

    @property
    def sizes(self) -> list[int]:
        """How many rows each stratum has."""
        return [len(self)] if self.strata is None else [len(rows) for rows in self.strata]

    def share_out(self, size: Size, rounded: Callable[[Sequence[int], Fraction], list[int]] = quotas) -> list[int]:
        """How many rows of each stratum make up a size."""
        size.rows(len(self))  # raises for what is no size of this pool
        return rounded(self.sizes, size.fraction(len(self)))

    def take(self, pick: Pick, counts: Sequence[int], salt: str = "ties") -> Mask:
        """So many rows of each stratum as `counts` says, those that `pick` takes. (N,)"""
        if self.strata is None:
            return pick(self.scores, counts[0], partial(self.hashes, salt))
        mask = np.zeros(len(self.scores), dtype=bool)
        for rows, count in zip(self.strata, counts, strict=True):
            mask[rows] = pick(self.scores[rows], count, partial(self.hashes, salt, rows))
        return mask

    def hashes(
        self, salt: str, rows: NDArray[np.int64], places: NDArray[np.int64] | slice = EVERY
    ) -> NDArray[np.uint64]:
        """What puts rows, or those at some places of `rows`, into a seeded order; another salt gives another. (k,)"""
        return self.ranking.hashes(rows[places], self.settings.seed, salt)

    def ordered(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in `rows` (k,), the best known first. (k,)"""
        return ordered(self.scores[rows], self.hashes("ties", rows))

    def split(
        self,
        name: str,
        mask: Mask,
        asked: object,
        beyond: str = "",
        end: Callable[[NDArray[np.float64]], Any] | None = None,
        tokens: int | None = None,
    ) -> Split:
        """A training split of these rows in the order asked for, cut (if it is ranked) at the `end` of their scores."""
        cut = None
        if end is not None and self.strata is None:
            cut = cut_of(self.scores, mask, end(self.scores[np.flatnonzero(mask)]), self.ranking.shown)
        order = self.settings.order
        return Split(name, mask, str(asked), beyond, cut, "training", order, self._positions(mask, order), tokens)

    def _positions(self, mask: Mask, order: Order) -> NDArray[np.int64] | None:
        if order == "source":
            return None
        rows = np.flatnonzero(mask)
        if order == "shuffled":
            return np.argsort(self.hashes("shuffle", rows), kind="stable")
        return self.ordered(rows) if order == "popular-first" else self.ordered(rows)[::-1]


def make_splits(data: QATable, rules: Rules, ranking: Ranking) -> tuple[Pool, dict[str, Split]]:
    """Fill the pool, take the evaluation sets out of it, and make the training splits from what is left."""
    pool = make_pool(data, rules, ranking)
    evaluation = list(_evaluation_sets(data, rules, pool))
    groups = strata_of(data, rules.settings)
    if groups is not None:
        pool.strata = rows_by_group(groups.codes, pool.mask, len(groups.labels))
    training = [SPLITS[name].make(pool, asked) for name, asked in rules.asked.items()]
    return pool, {split.name: split for split in [*training, *evaluation]}


def make_pool(data: QATable, rules: Rules, ranking: Ranking) -> Pool:
    """The rows that meet `where`, have a score and lie within the thresholds; SelectionError when there are none.

    A missing score is NaN: `exclude` leaves such rows out, `lowest` ranks them below all others, `error` refuses
    them.
    """
    pool = Pool(ranking, rules.settings)
    for name, values in rules.where.items():
        pool.leave_out(~rows_with(data, name, values), f"not {name}={','.join(values)}")
    if not len(pool):
        raise SelectionError("No row is left to choose from.", expected="conditions that some row meets")
    _meet_missing(pool)
    if rules.min_score is not None or rules.max_score is not None:
        pool.leave_out(np.isnan(ranking.shown), "no score")
    if rules.min_score is not None:
        pool.leave_out(ranking.shown < rules.min_score, f"below --min-score {rules.min_score:g}")
    if rules.max_score is not None:
        pool.leave_out(ranking.shown > rules.max_score, f"above --max-score {rules.max_score:g}")
    if not len(pool):
        raise SelectionError(
            "No score lies in the range that was asked for.",
            expected=f"a wider {setting('min_score')} and {setting('max_score')}",
            try_next="curate show FILE, for the quantiles of the scores",
        )
    pool.before = pool.mask
    return pool


def _meet_missing(pool: Pool) -> None:
    """Do with the rows that have no score what `missing` says."""
    rows, missing = len(pool), pool.settings.missing
    unmeasured = np.isnan(pool.ranking.scores) & pool.mask
    pool.unmeasured = int(np.count_nonzero(unmeasured))
    if pool.unmeasured == rows:
        raise SelectionError(
            "All scores are null: there is nothing to rank.",
            expected="at least one row with a score",
            try_next="curate show FILE, to see why no row could be scored",
        )
    if pool.unmeasured and missing == "error":
        raise SelectionError(
            f"{pool.unmeasured} of {rows} rows have no score.",
            expected=f"a score in every row, as {setting('missing', 'error')} asks",
            try_next=f"{setting('missing', 'exclude')}, to leave them out, or {setting('missing', 'lowest')}",
        )
    if missing == "lowest":
        pool.scores = np.where(unmeasured, -np.inf, np.maximum(pool.scores, LEAST))
    elif pool.unmeasured:
        pool.leave_out(unmeasured, "no score")


def _evaluation_sets(data: QATable, rules: Rules, pool: Pool) -> Iterator[Split]:
    """The held-out subjects and the test set of other answers; what is in them leaves the pool."""
    if rules.holdout is not None:
        name = role_column(data, rules.holdout_by, "holdout_by")
        subjects = subjects_of(data, name)
        hashes = keyed(hash_texts(subjects.labels), rules.settings.seed, "holdout")
        mask = held_out(subjects.codes, hashes, pool.mask, rules.holdout.rows(len(pool))) & pool.mask
        pool.leave_out(mask, "held out")
        yield Split("holdout", mask, f"{rules.holdout} by {rules.holdout_by}", use="evaluation")
    if rules.settings.controlled_by is not None:
        mask = _keep_most_frequent(data, rules.settings.controlled_by, pool)
        yield Split("test", mask, "other answers", use="evaluation")


def _keep_most_frequent(data: QATable, name: str, pool: Pool) -> Mask:
    """Leave in the pool only the most frequent answer of every group; the pool rows with other answers. (N,)"""
    groups, column = groups_by(data, name, "controlled_by"), data.column(data.roles.answers)
    answers = first_answers(column)
    frequent = most_frequent(groups, answers, pool.mask)
    kept = [answers.labels[answer] for answer in frequent if answer >= 0]
    if not kept:
        raise SelectionError("No row that can be ranked has an answer.", expected="rows with answers")
    others = other_answers(*accepted_answers(column), kept) & pool.mask
    pool.leave_out(others, "in the test set of other answers")
    pool.leave_out(answers.codes != frequent[groups.codes], f"not the most frequent answer of its {name}")
    return others


def strata_of(data: QATable, settings: SelectSettings) -> Groups | None:
    """The group of every row inside which splits take their share; None where the whole pool is one."""
    for name in ("stratify_by", "controlled_by"):
        column = getattr(settings, name)
        if column is not None:
            return groups_by(data, column, name)
    return None


def _top(pool: Pool, size: Size) -> Split:
    mask = pool.take(top_rows, pool.share_out(size))
    return pool.split("top", mask, size, "below the cut of top", np.min)


def _bottom(pool: Pool, size: Size) -> Split:
    mask = pool.take(bottom_rows, pool.share_out(size, quotas_of_tail))
    return pool.split("bottom", mask, size, "above the cut of bottom", np.max)


def _random(pool: Pool, size: Size) -> Split:
    mask = pool.take(draw_random, pool.share_out(size), salt="random")
    return pool.split("random", mask, size, "not drawn for random")


def _band(pool: Pool, band: Band) -> Split:
    mask = pool.take(lambda scores, rows, ties: between(scores, *band.positions(rows), ties), pool.sizes)
    if not mask.any():
        raise SelectionError(f"The band {band} of {len(pool)} rows is no row at all.", expected="a wider band")
    return pool.split("band", mask, band, "outside the band")


def _budget(pool: Pool, tokens: int) -> Split:
    rows = np.flatnonzero(pool.mask)
    order = rows[pool.ordered(rows)]
    k, spent = rows_within(tokens, order, token_counter(pool.ranking.data, pool.ranking.name, pool.settings.tokenizer))
    mask = np.zeros(len(pool.reasons), dtype=bool)
    mask[order[:k]] = True
    return pool.split("budget", mask, f"{tokens} tokens", "beyond the budget", np.min, spent)


def _whole(pool: Pool, _: bool) -> Split:
    return pool.split("whole", pool.mask, "whole")


class SplitRule(NamedTuple):
    """A kind of training split: its name, what its setting asks for, and how it is made of a pool."""

    name: str
    parse: Callable[[Any], Any]
    make: Callable[[Pool, Any], Split]


SPLITS = {
    "top": SplitRule("top", partial(parse_size, name="top"), _top),
    "bottom": SplitRule("bottom", partial(parse_size, name="bottom"), _bottom),
    "random": SplitRule("random", partial(parse_size, name="random"), _random),
    "band": SplitRule("band", parse_band, _band),
    "budget_tokens": SplitRule("budget", parse_tokens, _budget),
    "whole": SplitRule("whole", bool, _whole),
}
"""By the setting that asks for one, in the order in which they are written."""

HALVES = {"top": parse_size("0.5"), "bottom": parse_size("0.5")}
"""What is made of a controlled pool when no split was asked for."""

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


def token_counter(data: QATable, by: str, tokenizer: Any) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """Counts the tokens of rows as prompt and completion of the template that fits the data, without end-of-text."""
    from curate.lm.model import load_tokenizer

    tokenize = load_tokenizer(tokenizer) if isinstance(tokenizer, (str, Path)) else tokenizer
    template = data.template(by)
    table = data.table_of(data.roles.fields())

    def text(example: Example) -> str:
        answer = solution(template, example)
        return template.zero_shot(example) + (template.render_completion(answer) if answer else "")

    def count(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        texts = [text(example) for example in data.examples_of(table.take(as_arrow(rows)))]
        return np.array([len(ids) for ids in tokenize(texts)["input_ids"]], dtype=np.int64)

    return count
