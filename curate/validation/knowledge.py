"""What finetuning did to what the model knew: lost and kept facts, generic answers, answers that a swap survives.

All is measured on answers that were given already, (S, N) for S seeds and N test examples. Every measure becomes values
whose mean it is (`ratio`), so that it has the interval of a mean, and a difference of arms that of a paired one.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.records import Example
from curate.selection.ranking import random_rows
from curate.validation.statistics import Groups, estimates, holm, ratio

SHOTS = 4
"""Solved examples after which the untouched model shows what it knows."""
SWAPPED = 500
"""Test questions at most that are asked about another subject too."""
COMMONEST = 3
"""The commonest training answers of a relation, which are generic where they are wrong."""

Values = NDArray[np.float64]
"""(S, N)"""


@dataclass(frozen=True)
class Answers:
    """What is known of the answers of one arm, (S, N) each, NaN where a question was not asked.

    `correct` whether they are right, `generic` whether they are one of the commonest training answers, `same` whether
    they stay when the question is about another subject, `nats` the loss of the answer: lower is surer.
    """

    correct: Values
    generic: Values
    same: Values
    nats: Values

    def within(self, members: NDArray[np.bool_]) -> Answers:
        """Those to a part of the questions (N,)."""
        return Answers(*(values[:, members] for values in vars(self).values()))

    def measured(self, known: NDArray[np.bool_]) -> dict[str, Values]:
        """Every measure as values (S, N) of which it is the mean; `known` (N,) are the facts of the untouched model."""
        stays, had, wrong = np.nan_to_num(self.same), known[None].astype(float), 1 - self.correct
        kept, surest = self.correct * had, _surest_half(self.nats)
        found = {
            "kept": ratio(kept, had),
            "lost": ratio(had - kept, had),
            "gained": ratio(self.correct - kept, 1 - had),
            "generic": ratio(wrong * self.generic, wrong),
            "unmoved": ratio(stays, (~np.isnan(self.same)).astype(float)),
            "auroc": np.stack([auroc(right, -nats) for right, nats in zip(self.correct, self.nats, strict=True)]),
            "surest_half": ratio(self.correct * surest, surest),
        }
        return {name: values for name, values in found.items() if not np.isnan(values).any()}


def _surest_half(nats: Values) -> Values:
    """1.0 for the half of each seed's answers with the lowest loss, the earlier one of equals. (S, N)"""
    order = np.argsort(np.where(np.isnan(nats), np.inf, nats), axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    return (ranks < (nats.shape[1] + 1) // 2).astype(float) * (not np.isnan(nats).all())


def auroc(right: NDArray[np.float64], sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values whose mean is the chance that a right answer is surer than a wrong one, ties counting half. (N,), (N,)

    They scatter as DeLong's placements do. NaN where all answers are right or all wrong, or nothing is known of them.
    """
    sure = np.where(np.isnan(sure), -np.inf, sure)
    of_right, of_wrong = np.sort(sure[right > 0]), np.sort(sure[right == 0])
    if not len(of_right) or not len(of_wrong) or np.isinf(sure).all():
        return np.full(len(sure), np.nan)
    below = (np.searchsorted(of_wrong, sure, "left") + np.searchsorted(of_wrong, sure, "right")) / 2 / len(of_wrong)
    above = 1 - (np.searchsorted(of_right, sure, "left") + np.searchsorted(of_right, sure, "right")) / 2 / len(of_right)
    placed = np.where(right > 0, below, above)
    area = below[right > 0].mean()
    return np.asarray(area + (placed - area) * len(sure) / np.where(right > 0, len(of_right), len(of_wrong)))


def knowledge_rows(
    arms: Mapping[str, Answers], known: NDArray[np.bool_], clusters: NDArray[np.int64], bands: Groups
) -> dict[str, list[dict[str, Any]]]:
    """`arms`: a row an arm and measure; `bands`: the same in each part of the test set; `differences` of every pair.

    Rows have `measure`, `value` (or `difference`), `low`, `high`, differences `p` after Holm's correction.
    """
    everything = np.ones(len(known), dtype=bool)
    values: dict[tuple[str, str, int], Values] = {}
    for part, (_, members) in enumerate([({}, everything), *bands]):
        for arm, answers in arms.items():
            for measure, inside in answers.within(members).measured(known[members]).items():
                mean = inside.mean()
                whole = np.full((len(inside), len(known)), mean)
                whole[:, members] = mean + (inside - mean) * len(known) / members.sum()
                values[measure, arm, part] = whole
    measures = list(dict.fromkeys(measure for measure, *_ in values))
    both = [(m, a, b) for m in measures for a, b in combinations(arms, 2)]
    pairs = [(m, a, b) for m, a, b in both if (m, a, 0) in values and (m, b, 0) in values]
    deltas = [values[m, a, 0] - values[m, b, 0] for m, a, b in pairs]
    found = estimates([*values.values(), *deltas], clusters)
    rows: dict[str, list[dict[str, Any]]] = {"arms": [], "bands": [], "differences": []}
    for (measure, arm, part), e in zip(values, found, strict=False):
        about = {**bands[part - 1][0], "arm": arm} if part else {"arm": arm}
        rows["bands" if part else "arms"].append(about | {"measure": measure, "value": e.mean, **e.bounds})
    for measure in measures:
        of = [(a, b, e) for (m, a, b), e in zip(pairs, found[len(values) :], strict=True) if m == measure]
        for (a, b, e), p in zip(of, holm([e.p for *_, e in of]), strict=True):
            rows["differences"].append({"measure": measure, "a": a, "b": b, "difference": e.mean, **e.bounds, "p": p})
    return rows


def swapped(examples: Sequence[Example]) -> list[Example | None]:
    """The examples about other subjects of their relation that share none of their answers; None where there is none.

    At most SWAPPED of them, drawn by id, which name their subject. Without relations the examples are of one.
    """
    from curate.validation.attention import subject_spans

    subjects: dict[str | None, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for e in examples:
        if e.subject:
            subjects[e.relation][e.subject].update(answer.casefold() for answer in e.answers)
    named = [n for n, e in enumerate(examples) if e.subject and subject_spans(e.question, e.subject)]
    drawn = random_rows([examples[n].id for n in named], SWAPPED, 0, "swapped").tolist()
    made: list[Example | None] = [None] * len(examples)
    for n in (named[place] for place in drawn):
        e = examples[n]
        others = list(subjects[e.relation])
        random.Random(e.id).shuffle(others)
        own = {answer.casefold() for answer in e.answers}
        other = next((s for s in others if s != e.subject and not own & subjects[e.relation][s]), None)
        if other is not None:
            question = e.question
            for start, end in reversed(subject_spans(question, e.subject or "")):
                question = question[:start] + other + question[end:]
            made[n] = replace(e, question=question, subject=other)
    return made


def commonest(answers: Sequence[tuple[str | None, str]]) -> dict[str, list[str]]:
    """The commonest of the (relation, answer) pairs that train, for each relation; "" is no relation."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for relation, answer in answers:
        counts[relation or ""][answer] += 1
    return {
        relation: [a for a, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:COMMONEST]]
        for relation, found in sorted(counts.items())
    }


def knowledge_sentence(rows: Mapping[str, Sequence[Mapping[str, Any]]], known: int, pair: tuple[str, str]) -> str:
    """What became of the facts that the untouched model knew, in the two arms that a reader compares first."""
    if not known:
        return "After solved examples the untouched model answers none of the questions: there is nothing to lose."
    kept = {row["arm"]: row["value"] for row in rows["arms"] if row["measure"] == "kept"}
    told = f"Of the {known:,} facts that the untouched model has after solved examples, {pair[0]} keeps "
    told += f"{100 * kept[pair[0]]:.0f}% and {pair[1]} {100 * kept[pair[1]]:.0f}%"
    for d in rows["differences"]:
        if d["measure"] == "kept" and {d["a"], d["b"]} == set(pair):
            sign = 100 if d["a"] == pair[0] else -100
            low, high = sorted((sign * d["low"], sign * d["high"]))
            clear = "" if d["p"] < 0.05 else ", no clear difference"
            told += f" ({sign * d['difference']:+.1f} points, {low:+.1f} to {high:+.1f}{clear})"
    return f"{told}."


def few_shot_rows(
    zero_shot: Mapping[str, Values],
    few_shot: Mapping[str, Values],
    clusters: NDArray[np.int64],
    pair: tuple[str, str] | None,
) -> dict[str, Any]:
    """`arms`: accuracy with and without solved examples; `differences`: of every pair both ways, and how they change.

    `sentence` says of the pair that a reader compares first whether the gap closes: then the facts are still stored.
    """
    pairs = list(combinations(zero_shot, 2))
    gaps = {(a, b): (zero_shot[a] - zero_shot[b], few_shot[a] - few_shot[b]) for a, b in pairs}
    of_pairs = [values for zero, few in gaps.values() for values in (zero, few, few - zero)]
    found = iter(estimates([*few_shot.values(), *of_pairs], clusters))
    arms = [
        {"arm": arm, "zero_shot": float(zero_shot[arm].mean()), "few_shot": e.mean, **e.bounds}
        for arm, e in zip(few_shot, found, strict=False)
    ]
    rows, sentence = [], ""
    for a, b in pairs:
        zero, few, change = next(found), next(found), next(found)
        row = {"a": a, "b": b, "zero_shot": zero.mean, "few_shot": few.mean}
        rows.append(row | {"low": few.low, "high": few.high, "change": change.mean, "p": change.p})
        if {a, b} == set(pair or ()):
            closes = abs(few.mean) < abs(zero.mean) and change.p < 0.05
            told = f"the gap closes by {100 * abs(change.mean):.1f} (p {change.p:.3f}): what is missing is still stored"
            sentence = (
                f"{a} minus {b} is {100 * zero.mean:+.1f} points, and after solved examples {100 * few.mean:+.1f} "
                f"({100 * few.low:+.1f} to {100 * few.high:+.1f}); {told if closes else 'no clear change of the gap'}."
            )
    return {"arms": arms, "differences": rows, "sentence": sentence}
