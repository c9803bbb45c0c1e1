"""From rules to splits: the pool, evaluation sets, training splits, the token budget."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.ids import hash_texts, keyed
from curate.data.repeats import duplicates
from curate.data.stores import as_arrow
from curate.data.table import QATable
from curate.errors import ColumnError, SelectionError, setting
from curate.prompts import solution
from curate.records import Example
from curate.selection.groups import (
    CLASS_COLUMN,
    KNOWN,
    WORDS,
    Groups,
    accepted_answers,
    class_numbers,
    first_answers,
    groups_by,
    groups_by_all,
    held_out,
    most_frequent,
    other_answers,
    portions,
    quotas,
    quotas_of_tail,
    role_column,
    rows_by_group,
    rows_with,
    subjects_of,
)
from curate.selection.ranking import (
    Cut,
    Ranking,
    Size,
    Ties,
    bottom_rows,
    cut_of,
    draw_random,
    ordered,
    top_rows,
)
from curate.selection.rules import Drawn, Rules, as_values
from curate.settings import Order, SelectSettings

Mask = NDArray[np.bool_]

Pick = Callable[[NDArray[np.float64], int, Ties], Mask]
"""What takes so many of the rows with some scores, such as `top_rows`: (n,) -> (n,)"""


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
    lacks: Mapping[str, int] = field(default_factory=dict)
    """Of a draw, how many rows it lacks, by the stratum and class that has no more."""
    added: int = 0
    """How many known rows were added for the sake of `min_known`."""

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
            **({"lacks": dict(self.lacks)} if self.lacks else {}),
            **({"added": self.added} if self.added else {}),
        }


LEAST = -sys.float_info.max
"""What a score of minus infinity counts as where rows without a score are ranked below all others."""

EVERY = slice(None)


@dataclass
class Pool:
    """The rows that can be chosen from, in their total order.

    `scores` (N,) are NaN for all other rows; `reasons` (N,) tell why those are out, as numbers into `labels`, 0 for
    rows that are in. `before` (N,) are the rows that were in before evaluation sets, and what goes with them, were
    taken out. `strata` are the row numbers of the groups inside which every split takes its share, `strata_labels` what
    these are called; None: all are one.
    """

    ranking: Ranking
    settings: SelectSettings
    labels: list[str] = field(default_factory=lambda: [""])
    unmeasured: int = 0
    strata: list[NDArray[np.int64]] | None = None
    strata_labels: Sequence[str] = ("",)
    known: Mask | None = None
    """With `min_known` the rows that are highly or maybe known (N,): obscure-first puts them last."""

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

    def sizes(self, within: Mask | None = None) -> NDArray[Any]:
        """How many rows each stratum has, of all or `within` some rows (N,)."""
        if self.strata is None:
            return np.array([len(self) if within is None else np.count_nonzero(within & self.mask)])
        return np.array([len(rows) if within is None else np.count_nonzero(within[rows]) for rows in self.strata])

    def share_out(self, size: Size, tail: bool = False) -> Sequence[int]:
        """How many rows of each stratum make up a size, at its head or tail; SelectionError where it is none.

        With `sizes` a smaller split lies within a larger one, so that all are the beginnings of one order.
        """
        k, sizes = size.rows(len(self)), self.sizes()
        if self.settings.sizes is None:
            return (quotas_of_tail if tail else quotas)(sizes.tolist(), size.fraction(len(self)))
        counts = sizes - portions(sizes, len(self) - k) if tail else portions(sizes, k)
        return list(counts)

    def take(self, pick: Pick, counts: Sequence[int], salt: str = "ties", within: Mask | None = None) -> Mask:
        """So many rows of each stratum as `counts` says, those that `pick` takes, of all or `within` some rows. (N,)"""
        scores = self.scores if within is None else np.where(within, self.scores, np.nan)
        if self.strata is None:
            return pick(scores, counts[0], partial(self.hashes, salt))
        mask = np.zeros(len(scores), dtype=bool)
        for rows, count in zip(self.strata, counts, strict=True):
            mask[rows] = pick(scores[rows], count, partial(self.hashes, salt, rows))
        return mask

    def draw(self, name: str, within: Mask, k: int | None, salt: str) -> Mask:
        """All of some rows, or k of them drawn, as many of each stratum as is its part of them. (N,) -> (N,)"""
        within = within & self.mask
        if k is None:
            return within
        there = int(np.count_nonzero(within))
        if k > there:
            raise SelectionError(
                f"{name} would have {k} rows, and there are {there} to draw from.",
                expected=f"{setting('sizes')} of at most {there}",
            )
        return self.take(draw_random, portions(self.sizes(within), k).tolist(), salt, within)

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
        **more: Any,
    ) -> Split:
        """A training split of these rows in the order asked for, cut (if it is ranked) at the `end` of their scores."""
        cut = None
        if end is not None and self.strata is None:
            cut = cut_of(self.scores, mask, end(self.scores[np.flatnonzero(mask)]), self.ranking.shown)
        order = self.settings.order
        return Split(name, mask, str(asked), beyond, cut, "training", order, self.positions(mask, order), **more)

    def positions(self, mask: Mask, order: Order) -> NDArray[np.int64] | None:
        """The places of some rows (N,), in source order, in the order asked for; None for source order. (k,)"""
        if order == "source":
            return None
        rows = np.flatnonzero(mask)
        if order == "shuffled":
            return np.argsort(self.hashes("shuffle", rows), kind="stable")
        best_last = self.ordered(rows)[::-1]
        if self.known is not None:
            best_last = best_last[np.argsort(self.known[rows[best_last]], kind="stable")]
        return best_last if order == "obscure-first" else best_last[::-1]


def make_splits(data: QATable, rules: Rules, ranking: Ranking) -> tuple[Pool, dict[str, Split]]:
    """Fill the pool, take the evaluation sets out of it, and make the training splits from what is left."""
    pool = make_pool(data, rules, ranking)
    evaluation = list(_evaluation_sets(data, rules, pool))
    groups = strata_of(data, rules)
    if groups is not None:
        pool.strata = rows_by_group(groups.codes, pool.mask, len(groups.labels))
        pool.strata_labels = groups.labels
    training = {name: MAKERS[asked.rule](pool, name, asked.what) for name, asked in rules.asked.items()}
    _check_ladders(rules, {name: int(np.count_nonzero(split.mask)) for name, split in training.items()})
    if rules.min_known is not None:
        training = _guarded(data, rules, pool, training)
    return pool, training | {split.name: split for split in evaluation}


def _check_ladders(rules: Rules, rows: Mapping[str, int]) -> None:
    """SelectionError where a smaller split of `sizes` is larger than the one that it should lie within."""
    for name, asked in rules.asked.items():
        whole = asked.within or ""
        if whole in rows and rows[name] > rows[whole]:
            fit = [str(size) for size in rules.settings.sizes or () if size <= rows[whole]]
            raise SelectionError(
                f"{name} would be larger than {whole}, which has {rows[whole]} rows.",
                expected="sizes that fit the split they lie within",
                try_next=setting("sizes", ",".join(fit)) if fit else None,
            )


def _guarded(data: QATable, rules: Rules, pool: Pool, splits: Mapping[str, Split]) -> dict[str, Split]:
    """The splits with enough known rows in each group, the best known of those that lack added; not so of `whole`.

    Smaller splits still lie within larger ones. SelectionError where a group has not enough known rows.
    """
    assert rules.min_known is not None
    name, share = rules.min_known
    groups = groups_by(data, name, "min_known")
    pool.known = np.isin(known_classes(pool), KNOWN) & pool.mask
    found, smaller = {}, dict[str, Mask]()
    for split in splits.values():
        asked, mask = rules.asked[split.name], split.mask.copy()
        family = asked.within or split.name
        if asked.rule != "whole":
            mask |= smaller.get(family, False)
            mask[_missing_known(pool, groups, share, mask, split.name, name)] = True
            smaller[family] = mask
        added = int(np.count_nonzero(mask) - np.count_nonzero(split.mask))
        positions = pool.positions(mask, split.order)
        found[split.name] = replace(split, mask=mask, added=added, positions=positions)
    return found


def _missing_known(pool: Pool, groups: Groups, share: Fraction, mask: Mask, split: str, name: str) -> NDArray[np.int64]:
    """The best known rows that some rows (N,) lack, so that each group has its share of known ones. (k,)"""
    assert pool.known is not None
    count = partial(np.bincount, minlength=len(groups.labels))
    sizes, known = count(groups.codes[mask]), count(groups.codes[mask & pool.known])
    there = count(groups.codes[pool.known & ~mask])
    # x more known rows are enough if known + x is share × (size + x); of whole numbers, so that nothing is rounded.
    part, whole = share.numerator, share.denominator
    wanted = np.maximum(0, -((known * whole - sizes * part) // (whole - part)))
    poor = np.flatnonzero(wanted > there)
    if len(poor):
        labels = [groups.labels[code] for code in poor.tolist()]
        shown = [f"{groups.labels[code]} has {known[code] + there[code]}" for code in poor[:5].tolist()]
        raise SelectionError(
            f"{setting('min_known', f'{name}={float(share):g}')} cannot be met in {split}: "
            f"{', '.join(shown)}{', …' if len(poor) > 5 else ''} known rows in all.",
            expected="groups with enough known rows, or a smaller share",
            try_next=setting("where", f"{name}!={as_values(labels)}"),
        )
    rows = [
        rows[pool.ordered(rows)[: wanted[code]]]
        for code in np.flatnonzero(wanted)
        for rows in (np.flatnonzero(pool.known & ~mask & (groups.codes == code)),)
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *rows])


def make_pool(data: QATable, rules: Rules, ranking: Ranking) -> Pool:
    """The rows that meet `where`, have a score and lie within the thresholds; SelectionError when there are none.

    A missing score is NaN: `exclude` leaves such rows out, `lowest` ranks them below all others, `error` refuses
    them.
    """
    pool = Pool(ranking, rules.settings)
    for name, values in rules.where.items():
        why = f"{name[:-1]}={','.join(values)}" if name.endswith("!") else f"not {name}={','.join(values)}"
        pool.leave_out(~rows_with(data, name, values), why)
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
    for near in {None: (), "exact": (False,), "near": (False, True)}[rules.settings.dedup]:
        _leave_out_repeats(pool, duplicates(data, near))
    pool.before = pool.mask
    return pool


def _leave_out_repeats(pool: Pool, questions: NDArray[np.int64]) -> None:
    """Of the rows of each question (N,), -1 where there is one only, leave the best known in the pool."""
    rows = np.flatnonzero(pool.mask & (questions >= 0))
    rows = rows[pool.ordered(rows)]
    best = rows[np.unique(questions[rows], return_index=True)[1]]
    repeats = np.zeros(len(questions), dtype=bool)
    repeats[np.setdiff1d(rows, best)] = True
    pool.leave_out(repeats, "asked more than once")


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


def strata_of(data: QATable, rules: Rules) -> Groups | None:
    """The group of every row inside which splits take their share; None where the whole pool is one."""
    if len(rules.stratify_by) > 1:
        return groups_by_all(data, rules.stratify_by, "stratify_by")
    if rules.stratify_by:
        return groups_by(data, rules.stratify_by[0], "stratify_by")
    column = rules.settings.controlled_by
    return None if column is None else groups_by(data, column, "controlled_by")


def _top(pool: Pool, name: str, size: Size) -> Split:
    mask = pool.take(top_rows, pool.share_out(size))
    return pool.split(name, mask, size, f"below the cut of {name}", np.min)


def _bottom(pool: Pool, name: str, size: Size) -> Split:
    mask = pool.take(bottom_rows, pool.share_out(size, tail=True))
    return pool.split(name, mask, size, f"above the cut of {name}", np.max)


def _random(pool: Pool, name: str, size: Size) -> Split:
    mask = pool.take(draw_random, pool.share_out(size), salt="random")
    return pool.split(name, mask, size, f"not drawn for {name}")


def _band(pool: Pool, name: str, drawn: Drawn) -> Split:
    """What lies between two places of the order; of strata, of the order that runs through all at once."""
    start, stop = drawn.of.positions(len(pool))
    ends = [portions(pool.sizes(), k).tolist() for k in (stop, start)]
    band = pool.take(top_rows, ends[0]) & ~pool.take(top_rows, ends[1])
    if not band.any():
        raise SelectionError(f"The band {drawn.of} of {len(pool)} rows is no row at all.", expected="a wider band")
    return pool.split(name, pool.draw(name, band, drawn.size, "band"), drawn, f"outside the {name}")


def _known(pool: Pool, name: str, drawn: Drawn) -> Split:
    classes = known_classes(pool)
    mask = np.isin(classes, [WORDS.index(word) for word in drawn.of])
    if not (mask & pool.mask).any():
        there = zip(WORDS, np.bincount(classes[pool.mask & (classes >= 0)], minlength=len(WORDS)), strict=True)
        raise SelectionError(
            f"No row of the pool has the class {' or '.join(drawn.of)}.",
            expected=f"one of {', '.join(f'{word} {n}' for word, n in there if n)}",
        )
    return pool.split(name, pool.draw(name, mask, drawn.size, "known"), drawn, f"not in {name}")


def _mix(pool: Pool, name: str, drawn: Drawn) -> Split:
    """So many rows of every class, in each stratum; of what is not there too few."""
    assert drawn.size is not None
    classes, sizes, shares = known_classes(pool), pool.sizes(), drawn.of
    wanted = portions(np.outer(sizes, [*shares.values()]).ravel(), drawn.size).reshape(len(sizes), len(shares))
    mask = np.zeros(len(classes), dtype=bool)
    lacks: dict[str, int] = {}
    for word, counts in zip(shares, wanted.T, strict=True):
        rows = (classes == WORDS.index(word)) & pool.mask
        there = pool.sizes(rows)
        if there.sum() < counts.sum():
            most = min(
                int(np.count_nonzero(classes[pool.mask] == WORDS.index(w)) / share) for w, share in shares.items()
            )
            raise SelectionError(
                f"{name} needs {counts.sum()} rows of the class {word}, and there are {there.sum()}.",
                expected=f"at most {most} rows of this mix",
                try_next=setting("size" if name == "mix" else "sizes", max(1, most)),
            )
        mask |= pool.take(draw_random, np.minimum(counts, there).tolist(), "mix", rows)
        short = np.flatnonzero(there < counts)
        lacks |= {f"{word} of {pool.strata_labels[i]}": int(counts[i] - there[i]) for i in short.tolist()}
    return pool.split(name, mask, drawn, f"not drawn for {name}", lacks=lacks)


def known_classes(pool: Pool) -> NDArray[np.int64]:
    """The class of every row as a number into WORDS, from the best known; -1 where there is none. (N,)"""
    data = pool.ranking.data
    if CLASS_COLUMN not in data.schema.names:
        raise ColumnError(
            f"{data.name} has no column {CLASS_COLUMN!r}, which tells the class of every example.",
            expected=f"a file scored with {setting('by', 'known')}",
            try_next=f"curate score {data.name} --by known --model MODEL -o scored.parquet",
        )
    return class_numbers(data.encoded(CLASS_COLUMN))


def _budget(pool: Pool, name: str, tokens: int) -> Split:
    rows = np.flatnonzero(pool.mask)
    order = rows[pool.ordered(rows)]
    k, spent = rows_within(tokens, order, token_counter(pool.ranking.data, pool.ranking.name, pool.settings.tokenizer))
    mask = np.zeros(len(pool.reasons), dtype=bool)
    mask[order[:k]] = True
    return pool.split(name, mask, f"{tokens} tokens", "beyond the budget", np.min, tokens=spent)


def _whole(pool: Pool, name: str, _: bool) -> Split:
    return pool.split(name, pool.mask, "whole")


MAKERS: Mapping[str, Callable[[Pool, str, Any], Split]] = {
    "top": _top,
    "bottom": _bottom,
    "random": _random,
    "band": _band,
    "known": _known,
    "mix": _mix,
    "budget_tokens": _budget,
    "whole": _whole,
}
"""How a split is made of a pool, by the setting that asks for it."""

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
    if template.is_chat:
        template = template.fitted(tokenize, str(tokenizer))
    table = data.table_of(data.roles.fields())

    def text(example: Example) -> str:
        answer = solution(template, example)
        return template.zero_shot(example) + (template.render_completion(answer) if answer else "")

    def count(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        texts = [text(example) for example in data.examples_of(table.take(as_arrow(rows)))]
        found = tokenize(texts, add_special_tokens=False) if template.is_chat else tokenize(texts)
        return np.array([len(ids) for ids in found["input_ids"]], dtype=np.int64)

    return count
