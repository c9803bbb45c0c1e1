"""What a selection changed, told from scores and masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.columns import columns_read, values_of
from curate.data.stores import as_arrow, in_types_of
from curate.data.table import QATable
from curate.errors import setting
from curate.selection.groups import (
    CLASS_COLUMN,
    KNOWN,
    UNKNOWN,
    Groups,
    answer_frequency,
    answer_length,
    class_numbers,
    first_answers,
    groups_of,
    question_patterns,
)
from curate.selection.rules import Rules, as_values
from curate.summary import explained, mean_ranks, quantiles

Mask = NDArray[np.bool_]

SHIFTS = 5
"""How many of the largest shifts, and of the most frequent values, are told."""

EXPLAINED = 100_000
"""Quantiles and mixes of a larger table are those of every 2nd, 3rd, … row: of at most this many."""


def explain_scores(scores: NDArray[np.float64], pool: Mask, splits: Mapping[str, Mask]) -> dict[str, Any]:
    """Quantiles of the scores in the pool and in every split, and how many rows each two splits share. (N,) each"""
    return {
        "quantiles": {name: _quantiles(scores, mask) for name, mask in {"pool": pool, **splits}.items()},
        "overlap": [
            {"a": a, "b": b, "rows": int(np.count_nonzero(splits[a] & splits[b]))} for a, b in combinations(splits, 2)
        ],
    }


def _quantiles(scores: NDArray[np.float64], mask: Mask) -> dict[str, float]:
    """Of at most EXPLAINED of the rows; the least and the greatest are always those of all."""
    values = scores if mask.all() else scores[np.flatnonzero(mask)]
    found = quantiles(values[:: max(1, -(-len(values) // EXPLAINED))])
    if found and len(values) > EXPLAINED:
        found |= {"0": float(np.nanmin(values)), "1": float(np.nanmax(values))}
    return found


class MixSample:
    """Relations (else questions), answers and classes of every `stride`-th row, gathered while batches stream by."""

    def __init__(self, data: QATable) -> None:
        roles = data.roles
        kind = {"relation": roles.relation} if roles.relation else {"pattern": roles.question}
        self._roles = {**kind, "answers": roles.answers}
        self._class = CLASS_COLUMN if CLASS_COLUMN in data.schema.names else None
        self.columns = columns_read([name for name in (*self._roles.values(), self._class) if name], data.schema.names)
        self.stride = -(-len(data) // EXPLAINED)
        self._schema = pa.schema([data.schema.field(name) for name in self.columns])
        self._parts: list[pa.Table] = []

    def of(self, start: int, batch: pa.Table) -> pa.Table:
        """What to gather of the batch whose first row is row `start` of the table."""
        rows = np.arange(-start % self.stride, batch.num_rows, self.stride)
        part = batch.select(self.columns)
        return in_types_of(self._schema, part if self.stride == 1 else part.take(as_arrow(rows)))

    def add(self, part: pa.Table) -> None:
        """Gather what `of` took from the next batch."""
        self._parts.append(part)

    def mixes(self, scores: NDArray[np.float64], pool: Mask, splits: Mapping[str, Mask]) -> dict[str, Any]:
        """How relations (else question patterns), answers and how common these are mix in the pool and in every split.

        And what explains the order of the scores; which relations have no known row, if classes are told. (N,) each
        """
        table = pa.concat_tables(self._parts)
        before, after = pool[:: self.stride], {name: mask[:: self.stride] for name, mask in splits.items()}
        found: dict[str, Any] = {"counted": "all rows" if self.stride == 1 else f"1 row in {self.stride}"}
        groups = {role: grouped(role, values_of(table, name), name) for role, name in self._roles.items()}
        if "pattern" in groups and len(groups["pattern"].labels) < 2:  # all questions are of one kind, or of none
            del groups["pattern"]
        groups["answer_frequency"] = answer_frequency(groups["answers"], groups.get("relation"))
        found |= {role: mix(own, before, after) for role, own in groups.items()}
        factors = {role: own for role, own in groups.items() if role in ("relation", "pattern")}
        factors["answer_length"] = answer_length(groups["answers"])
        found["explained"] = _explained(scores[:: self.stride], before, factors)
        if self._class and "relation" in groups:
            classes = class_numbers(table[self._class])
            found["forecast"] = forecast(classes[before], groups["relation"].codes[before], self.stride)
            if self.stride == 1:
                known = np.isin(classes, KNOWN)
                found["without_known"] = {
                    name: _without(groups["relation"], mask, known) for name, mask in {"pool": before, **after}.items()
                }
        return found


# A forecast, of numbers that benchmarks/forecast.py fits to the runs in benchmarks/results/forecast.csv.

GAIN = (-2.8, 2.53)
"""Points that the better known half is ahead of a random one: with one row a relation, and more with ten times as many.

How much the model does not know says no more about the runs that were left out than their mean does, so it is not here.
"""
GAIN_ERROR = 3.1
"""How far off the forecast was for runs that it was not fitted on, root mean square, in points."""
FITTED = {"unknown": (0.001, 0.68), "per_relation": (20.0, 375.0)}
"""The share of unknown facts, and the rows a relation, of those runs. Of other data nothing is said."""


def forecast(classes: NDArray[np.int64], relations: NDArray[np.int32], stride: int = 1) -> dict[str, float] | None:
    """What to expect of selecting: `gain` in points, of the better known half over a random one, and its `error`.

    classes (N,) are numbers, -1 for none; relations (N,) codes, -1 for none; there are `stride` times as many rows.
    None where classes or relations are missing, or the data is unlike the runs that tell.
    """
    if not len(classes) or (classes < 0).any() or (relations < 0).any():
        return None
    unknown = float((classes == UNKNOWN).mean())
    per_relation = stride * len(relations) / len(np.unique(relations))
    for value, (low, high) in zip((unknown, per_relation), FITTED.values(), strict=True):
        if not low <= value <= high:
            return None
    gain = GAIN[0] + GAIN[1] * float(np.log10(per_relation))
    return {"unknown": unknown, "per_relation": per_relation, "gain": gain, "error": GAIN_ERROR}


def hint(expected: Mapping[str, float] | None) -> str:
    """A forecast in words; empty where there is none."""
    if expected is None:
        return ""
    gain, error = expected["gain"], expected["error"]
    if abs(gain) <= error:
        return (
            "Whether selecting helps here cannot be told beforehand: runs on other data make it "
            f"{gain:+.1f} points for the better known half over a random one, error ±{error:.1f}. Run curate search."
        )
    return (
        f"A hint from runs on other data: likely {gain - error:+.1f} to {gain + error:+.1f} points for the better "
        f"known half over a random one (error ±{error:.1f}). curate search measures it."
    )


def _without(groups: Groups, mask: Mask, known: Mask) -> list[str]:
    """The groups that have rows, none of them known. (N,) each"""
    there = np.unique(groups.codes[mask])
    return [groups.labels[code] for code in np.setdiff1d(there, groups.codes[mask & known])]


def _explained(scores: NDArray[np.float64], pool: Mask, factors: Mapping[str, Groups]) -> dict[str, float | None]:
    """The share of the ranks of the scores that each grouping explains, adjusted R²; None where that cannot be told."""
    rows = pool & ~np.isnan(scores)
    if not rows.any():
        return dict.fromkeys(factors)
    ranks = mean_ranks(scores[rows])
    shares = {name: explained(ranks, [groups.codes[rows].astype(np.int64)]) for name, groups in factors.items()}
    return {name: None if np.isnan(share) else share for name, share in shares.items()}


PATTERNED = 10_000
"""Rows of the sample whose question patterns are looked for unasked."""


def grouped(role: str, column: pa.ChunkedArray, name: str) -> Groups:
    """The rows by their text in the column of a role; by question patterns, or first answers."""
    if role == "pattern":
        stride = -(-len(column) // PATTERNED) or 1
        found = question_patterns(column.take(as_arrow(np.arange(0, len(column), stride))), name)
        codes = np.full(len(column), -1, dtype=np.int32)
        codes[::stride] = found.codes
        return Groups(codes, found.labels)
    return first_answers(column) if role == "answers" else groups_of(column, name)


def mix(groups: Groups, before: Mask, after: Mapping[str, Mask]) -> dict[str, Any]:
    """How often each group occurs before and after, as shares, and what moved most.

    `moved` is the share of rows that would have to change group to undo the change (total variation distance):
    0 when the mix is the same, 1 when no group is left; `by_chance` is what a random draw of as many rows would move.
    Rows in no group (-1) do not count.
    """
    shares, rows = _shares(groups, before), _rows(groups, before)
    return {
        "distinct": int(np.count_nonzero(shares)),
        "most_frequent": _most_frequent(groups.labels, shares),
        "splits": {
            name: _moved(groups.labels, shares, _shares(groups, mask))
            | {"by_chance": _by_chance(shares, _rows(groups, mask), rows)}
            for name, mask in after.items()
        },
    }


def _rows(groups: Groups, mask: Mask) -> int:
    return int(np.count_nonzero(groups.codes[mask] >= 0))


def _by_chance(shares: NDArray[np.float64], drawn: int, rows: int) -> float:
    """How far, on average, shares (G,) move when so many rows are drawn of all: half the mean absolute deviations."""
    if not drawn:
        return 0.0
    deviations = np.sqrt(2 / np.pi * shares * (1 - shares) / drawn * max(0.0, 1 - drawn / rows))
    return float(deviations.sum() / 2)


def _shares(groups: Groups, mask: Mask) -> NDArray[np.float64]:
    codes = groups.codes[mask]
    counts = np.bincount(codes[codes >= 0], minlength=len(groups.labels))
    return counts / max(1, counts.sum())


def _most_frequent(labels: Sequence[str], shares: NDArray[np.float64]) -> list[dict[str, Any]]:
    most = np.argsort(-shares, kind="stable")[:SHIFTS]
    return [{"value": labels[i], "share": float(shares[i])} for i in most if shares[i]]


def _moved(labels: Sequence[str], before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    shift = after - before
    largest = [i for i in np.argsort(-np.abs(shift).round(12), kind="stable")[:SHIFTS] if shift[i]]
    return {
        "distinct": int(np.count_nonzero(after)),
        "moved": float(np.abs(shift).sum() / 2),
        "most_frequent": _most_frequent(labels, after),
        "shifts": [{"value": labels[i], "before": float(before[i]), "after": float(after[i])} for i in largest],
    }


MOVED = 0.1
"""A mix that a split moves by more than this, beyond twice what chance moves, is spoken of."""

MOST_EXPLAINED = 0.5
"""So is what explains more of the order of a score than all else."""

FEW = 300
"""With fewer rows than this the facts that a model always knows teach it least (Ye et al. 2025)."""

EXTREME = 0.3
"""The share of the pool up to which a top is an extreme one."""

NOT_HELD = "another mix of"

KINDS = {
    "relation": ("relations", "relation"),
    "pattern": ("kinds of questions", "pattern"),
    "answer_frequency": ("common and rare answers", "answer-frequency"),
}
"""What a mix is of, in words, and what is typed to hold it fixed."""


def notes(rules: Rules, summary: Mapping[str, Any], explanation: Mapping[str, Any]) -> list[str]:
    """What a user should know of a selection: a sentence each, and the one setting that mends it, to be spelled."""
    rows = {split["split"]: split["rows"] for split in summary["splits"] if split["use"] == "training"}
    return [
        *_moved_notes(rules, rows, explanation),
        *_order_notes(rules, summary["by"], explanation),
        *_known_notes(rows, explanation),
        *_few_notes(rules, rows, summary["pool"]),
    ]


def _and(names: Sequence[str]) -> str:
    """`a, b and c`; of many the first three and how many more."""
    names = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else names
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _strata(rules: Rules, name: str, explanation: Mapping[str, Any]) -> str:
    """The setting that holds one thing more fixed: answers are common or rare inside their relations."""
    own = rules.stratify_by or (("relation",) if name.startswith("answer") and "relation" in explanation else ())
    return setting("stratify_by", ",".join(dict.fromkeys([*own, name])))


def _moved_notes(rules: Rules, rows: Mapping[str, int], explanation: Mapping[str, Any]) -> Iterator[str]:
    classes = {name for name, asked in rules.asked.items() if asked.rule == "known"}
    for role, (what, typed) in KINDS.items():
        found = {name: explanation[role]["splits"][name] for name in rows if role in explanation}
        moved = {name: own["moved"] for name, own in found.items() if own["moved"] - 2 * own["by_chance"] > MOVED}
        strata = _strata(rules, typed, explanation)
        for names, mends in (
            ([name for name in moved if name not in classes], strata),
            ([name for name in moved if name in classes], f"{setting('mix', 'highly=1')}, with {strata}"),
        ):
            if names:
                most = max(names, key=lambda name: moved[name])
                shift = found[most]["shifts"][0]
                yield (
                    f"{_and(names)} {'has' if len(names) == 1 else 'have'} {NOT_HELD} {what} than all rows: in {most} "
                    f"{moved[most]:.0%} moved ({shift['value']} from {shift['before']:.0%} to {shift['after']:.0%}). "
                    f"To hold it fixed: {mends}."
                )


def _order_notes(rules: Rules, by: str, explanation: Mapping[str, Any]) -> Iterator[str]:
    if not any(asked.rule in ("top", "bottom", "band", "budget_tokens") for asked in rules.asked.values()):
        return
    for factor, what in {
        "relation": "relation",
        "pattern": "kind of question",
        "answer_length": "answer's length",
    }.items():
        share, typed = explanation["explained"].get(factor) or 0, factor.replace("_", "-")
        if share > MOST_EXPLAINED and typed not in rules.stratify_by:
            yield (
                f"The {what} explains {share:.0%} of the order by {by}, more than all else: the best known rows are "
                f"those of some kinds. To rank inside them: {_strata(rules, typed, explanation)}."
            )


def _known_notes(rows: Mapping[str, int], explanation: Mapping[str, Any]) -> Iterator[str]:
    without = explanation.get("without_known", {})
    never = without.get("pool", [])
    harmed = {name: [r for r in without[name] if r not in never] for name in rows if without}
    harmed = {name: relations for name, relations in harmed.items() if relations}
    if harmed:
        most = max(harmed, key=lambda name: len(harmed[name]))
        keep = "keeps" if len(harmed) == 1 else "keep"
        yield (
            f"{_and([*harmed])} {keep} no known row of a relation ({most}: {_and(harmed[most])}): finetuning on such a "
            f"relation does the most harm. To add the best known: {setting('min_known', 'relation=0.2')}."
        )
    if never and any(set(without[name]) & {*never} for name in rows):
        yield (
            f"No row of {_and(never)} is known at all. To leave {'it' if len(never) == 1 else 'them'} out: "
            f"{setting('where', 'relation!=' + as_values(never))}."
        )


def _few_notes(rules: Rules, rows: Mapping[str, int], pool: int) -> Iterator[str]:
    if any(asked.rule == "band" for asked in rules.asked.values()):
        return
    few = [n for n, asked in rules.asked.items() if asked.rule == "top" and rows[n] < min(FEW, EXTREME * pool)]
    if few:
        yield (
            f"{_and(few)} {'keeps' if len(few) == 1 else 'keep'} fewer than {FEW} rows, the very best known, which "
            f"teach least when rows are few. A middle band is worth a try: {setting('band', '20:70')}."
        )


def told(rules: Rules, summary: Mapping[str, Any], explanation: Mapping[str, Any]) -> str:
    """One paragraph: what was kept, what that changed, what to do about it; settings are to be spelled."""
    splits = summary["splits"]
    kept = ", ".join(f"{split['split']} {split['rows']:,}" for split in splits)
    if len(splits) > 8:
        sizes = sorted(split["rows"] for split in splits)
        kept = f"{len(splits)} splits of {sizes[0]:,} to {sizes[-1]:,} rows"
    found = notes(rules, summary, explanation)
    stayed = [what for role, (what, _) in KINDS.items() if role in explanation]
    return " ".join(
        [
            f"Of {summary['rows']:,} rows, {summary['pool']:,} of them ranked by {summary['by']}, are kept: {kept}.",
            *(
                []
                if any(NOT_HELD in note for note in found)
                else [f"The mix of {' and that of '.join(stayed)} stayed as it was."]
            ),
            *found,
            *filter(None, [hint(explanation.get("forecast"))]),
        ]
    )
