"""Which score is right? How the scores of a file agree, what they tell of what is known, and what else explains them.

All of it depends on the order of the rows alone, as selection does: the logarithm of a score is as good as the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.data.columns import column_list
from curate.data.ids import keyed
from curate.data.stores import as_arrow
from curate.data.table import QATable
from curate.errors import ColumnError, DataError
from curate.selection.explain import EXPLAINED
from curate.selection.groups import NONE, Groups, first_answers, groups_by, question_patterns, quotas
from curate.selection.ranking import SCORE_PREFIX, as_float, as_ranked, is_number
from curate.summary import auc, correlation_within, explained, pairs_within, ranks_within

Scores = Mapping[str, NDArray[np.float64]]
Codes = NDArray[np.int64]
"""(N,) the group of every row; -1 where it is in none, and does not count."""

GREEDY = "known_greedy"
"""The column that says what is known: the share of prompts after which the model's greedy answer was right."""

LEAST_RIGHT = 0.5
"""A fact is known where the greedy answer is right after at least this share of the prompts."""

RARE = 4
"""Times that a rare answer occurs in the file, at most: guessing does not find it."""

TOO_MUCH = 0.5
"""Of a score's order explained by the kind of question; above it, kinds of questions are selected."""


def agreement(data: QATable) -> dict[str, Any]:
    """How all scores of a file agree, overall and inside relations; what each tells of what is known; what explains it.

    The rows compared are those that have all scores. `known` is None without the column `known_greedy`. Where no
    relation is known (`from` is None), question patterns stand for relations; of a large file only every 2nd, 3rd, …
    row has one. Raises ColumnError for a file without scores, DataError where no row has all of them.
    """
    columns = _score_columns(data)
    rows = _rows_with_all(data, columns)
    scores = {name: values[rows] for name, values in columns.items()}
    stride = -(-len(rows) // EXPLAINED)
    question, field = data.roles.question, data.roles.relation
    asked = data.column(question).take(as_arrow(rows[::stride]))
    patterns = np.full(len(rows), -1)
    patterns[::stride] = _codes(question_patterns(asked, question))
    relations = _codes(groups_by(data, "relation", "agreement"))[rows] if field else patterns
    answers = first_answers(data.encoded(data.roles.answers))
    factors = {"relation": relations} if field else {}
    factors |= {"pattern": patterns, "length": _lengths(answers)[rows]}
    inside = {"all": np.zeros(len(rows), dtype=np.int64), "inside_relations": relations}
    among = inside | {
        "rare_answers": np.where(_rare(answers)[rows], 0, -1),
        "same_answer": _alike(relations, answers.codes[rows].astype(np.int64)),
    }
    found = {
        "kind": "agreement",
        "rows": len(data),
        "compared": len(rows),
        "scores": [*scores],
        "relations": {"from": field, "count": len(np.unique(relations[relations >= 0]))},
        "pairs": _pairs(scores, inside, keyed(data.id_hashes()[rows], 0, "ties")),
        "known": _known(scores, among, as_float(data.column(GREEDY))[rows]) if _tells_known(data) else None,
        "explained": {name: _explained(values, factors, stride) for name, values in scores.items()},
    }
    return found | {"warnings": _warnings(data.path or data.name, found)}


def _score_columns(data: QATable) -> Scores:
    """Every score of numbers, in exactly the order of its column; ColumnError if there is none."""
    where = data.path or data.name
    names = [f.name for f in data.schema if f.name.startswith(SCORE_PREFIX) and is_number(f.type)]
    if not names:
        raise ColumnError(
            f"{where} has no score: no column of numbers is named {SCORE_PREFIX}….",
            expected=f"a file that curate score made; this one has the columns {column_list(data.schema.names)}",
            try_next=f"curate score {where} --by column:NAME --by loss --model MODEL -o scored.parquet",
        )
    return {name.removeprefix(SCORE_PREFIX): as_ranked(data.column(name)) for name in names}


def _rows_with_all(data: QATable, columns: Scores) -> NDArray[np.int64]:
    """The numbers of the rows that have all scores; DataError if none has."""
    measured = {name: ~np.isnan(values) for name, values in columns.items()}
    rows = np.flatnonzero(np.logical_and.reduce([*measured.values()]))
    if not len(rows):
        counts = ", ".join(f"{name} {np.count_nonzero(mask)}" for name, mask in measured.items())
        raise DataError(
            f"No row of {data.name} has all of its scores (rows with each: {counts}).",
            expected="rows that every score measured",
            try_next=f"curate show {data.path or data.name}, to see why rows could not be scored",
        )
    return rows


def _codes(groups: Groups) -> Codes:
    """The group of every row as it counts here: who has none is in none. (N,)"""
    none = groups.labels.index(NONE) if NONE in groups.labels else -1
    return np.where(groups.codes == none, -1, groups.codes).astype(np.int64)


def _rare(answers: Groups) -> NDArray[np.bool_]:
    """The rows whose first answer occurs at most RARE times. (N,)"""
    counts = np.bincount(answers.codes[answers.codes >= 0], minlength=len(answers.labels))
    return (answers.codes >= 0) & (np.append(counts, 0)[answers.codes] <= RARE)


def _alike(one: Codes, other: Codes) -> Codes:
    """Groups of the rows that are in the same group twice over. (N,), (N,) -> (N,)"""
    both = np.where((one >= 0) & (other >= 0), one * (other.max(initial=0) + 1) + other, -1)
    numbers = np.unique(both, return_inverse=True)[1]
    return numbers - int((both < 0).any())


def _lengths(answers: Groups) -> Codes:
    """The rows by the length of their first answer; lengths that differ by less than a tenth are one. (N,)"""
    characters = np.array([len(label) for label in answers.labels] + [0])
    return np.round(8 * np.log2(characters + 1)).astype(np.int64)[answers.codes]


def _better_half(scores: NDArray[np.float64], ties: NDArray[np.uint64], groups: Codes) -> NDArray[np.bool_]:
    """The rows that `select --top 0.5 --stratify-by` takes of groups; `ties` put equal scores in order. (N,) -> (N,)"""
    order = np.lexsort((ties, -scores, groups))
    sizes = np.bincount(groups)
    place = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[groups[order]]
    half = np.array(quotas(sizes.tolist(), Fraction(1, 2)))
    mask = np.empty(len(order), dtype=bool)
    mask[order] = place < half[groups[order]]
    return mask


def _pairs(scores: Scores, ways: Mapping[str, Codes], ties: NDArray[np.uint64]) -> list[dict[str, Any]]:
    """Of every two scores: their rank correlation, and the share of their better halves in common."""
    found: list[dict[str, Any]] = [
        {"a": a, "b": b, "correlation": {}, "overlap": {}} for a, b in combinations(scores, 2)
    ]
    for way, groups in ways.items():
        rows = groups >= 0
        own = {name: values[rows] for name, values in scores.items()}
        halves = {name: _better_half(values, ties[rows], groups[rows]) for name, values in own.items() if rows.any()}
        for pair in found:
            a, b = pair["a"], pair["b"]
            pair["correlation"][way] = _number(correlation_within(own[a], own[b], groups[rows]))
            kept = int(halves[a].sum()) if halves else 0
            pair["overlap"][way] = int((halves[a] & halves[b]).sum()) / kept if kept else None
    return found


def _tells_known(data: QATable) -> bool:
    return GREEDY in data.schema.names and is_number(data.schema.field(GREEDY).type)


def _known(scores: Scores, ways: Mapping[str, Codes], greedy: NDArray[np.float64]) -> dict[str, Any]:
    """How well each score tells known from unknown rows, those without a greedy answer left out."""
    known = greedy >= LEAST_RIGHT
    asked = ~np.isnan(greedy)
    counted = {way: asked & (groups >= 0) for way, groups in ways.items()}
    return {
        "least_right": LEAST_RIGHT,
        "known": int(known.sum()),
        "unknown": int((asked & ~known).sum()),
        "pairs": {way: pairs_within(known[rows], ways[way][rows]) for way, rows in counted.items()},
        "auc": {
            name: {way: _number(auc(values[rows], known[rows], ways[way][rows])) for way, rows in counted.items()}
            for name, values in scores.items()
        },
    }


def _explained(values: NDArray[np.float64], factors: Mapping[str, Codes], stride: int) -> dict[str, float | None]:
    """The share of the ranks of a score that each factor explains, and all together; of every `stride`-th row."""
    ranks = ranks_within(values[::stride], np.zeros(len(values[::stride]), dtype=np.int64))
    some = {name: codes[::stride] for name, codes in factors.items()}
    ways = {name: [codes] for name, codes in some.items()}
    kinds = _alike(some.get("relation", some["pattern"]) + 1, some["pattern"] + 1)  # most patterns are of one relation
    ways["all"] = [kinds, some["length"]]
    return {name: _number(explained(ranks, codes)) for name, codes in ways.items()}


STRATA = {"relation": "relation", "pattern": "pattern", "length": "answer-length"}
"""What `select --stratify-by` calls that which may explain a score."""


def _warnings(file: str, found: Mapping[str, Any]) -> list[str]:
    """Which scores tell kinds of questions apart more than facts, and what holds the kind fixed."""
    lines = []
    for name, shares in found["explained"].items():
        percents = {factor: 100 * (share or 0) for factor, share in shares.items()}
        together = percents.pop("all")
        if together > 100 * TOO_MUCH:
            most = max(percents, key=percents.__getitem__)
            if most == "pattern" and "relation" in percents:
                most = "relation"
            lines.append(
                f"{together:.0f}% of the order by {name} is explained by what kind of question it is "
                f"({', '.join(f'{factor} {percent:.0f}%' for factor, percent in percents.items())}): "
                "selecting by it selects kinds of questions, not knowledge. With the kind held fixed: "
                f"curate select {file} --by {name} --top 0.5 --stratify-by {STRATA[most]} -o splits/"
            )
    return lines


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
