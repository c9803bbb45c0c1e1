"""Bootstrap intervals, paired differences, parts of the test set, the gap, the verdict.

Two things move an accuracy by chance: which test examples there are, and which seeds. The examples are resampled, those
about one subject together, the same draws for every arm. Seeds are too few to resample: what they add to each resample
is their standard error times Student's t.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.records import is_untouched
from curate.selection.groups import OFTEN as AT_LEAST_ONCE
from curate.selection.ranking import total_order

RESAMPLES = 10_000
CHUNK = 4_000_000
"""Counts held at a time: resamples by clusters."""
TAKEN_OFF = 0.5
"""Share of the seeds' scatter explained by examples that is not counted twice. All of it would be right on average,
but the estimate is noisy: simulated pairs of equal arms then lay in 93 of 100 intervals with 3 seeds, not in 95."""


def cluster_codes(names: Sequence[str | None]) -> NDArray[np.int64]:
    """A number for each example, equal where the names are; an example without a name stands alone. -> (N,)"""
    codes: dict[object, int] = {}
    return np.array([codes.setdefault(i if name is None else name, len(codes)) for i, name in enumerate(names)])


def resampled_means(
    values: NDArray[np.float64], clusters: NDArray[np.int64], groups: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Means of K rows of values within G groups of examples, once a resample. (K, N), (N,), (G, N) -> (R, G, K)

    Each resample draws as many clusters as there are, with replacement, the same ones for every row and group, so
    that what an example does to two arms cancels in their difference. Without `groups` there is one, of all.
    NaN where a resample holds no example of a group.
    """
    members = np.ones((1, values.shape[1]), dtype=bool) if groups is None else groups
    within = members[:, None, :] * np.concatenate([np.ones((1, values.shape[1])), values])  # (G, 1 + K, N)
    sums = np.zeros((int(clusters.max()) + 1, within.shape[0] * within.shape[1]))
    np.add.at(sums, clusters, within.reshape(-1, within.shape[2]).T)
    drawn = np.concatenate([counts @ sums for counts in _draws(len(sums))]).reshape(-1, *within.shape[:2])
    with np.errstate(invalid="ignore"):
        return np.asarray(drawn[:, :, 1:] / drawn[:, :, :1])


def seed_variance(values: NDArray[np.float64], clusters: NDArray[np.int64], taken_off: float = TAKEN_OFF) -> float:
    """Variance of a mean over seeds that comes from the seeds themselves; 0 for one seed. (S, N), (N,) -> scalar

    The means of the seeds also scatter because each seed errs on other examples. That part shrinks with more
    examples and is in `resampled_means` already; 1 takes all of it off (the two-way random effects estimate).
    """
    seeds, n = values.shape
    if seeds < 2:
        return 0.0
    by_seed = values.mean(axis=1)
    residual = values - values.mean(axis=0) - by_seed[:, None] + values.mean()  # (S, N)
    sums = np.zeros((int(clusters.max()) + 1, seeds))
    np.add.at(sums, clusters, residual.T)
    from_examples = (sums**2).sum() / (seeds - 1) / n**2
    return float(max(0.0, by_seed.var(ddof=1) - taken_off * from_examples) / seeds)


def seed_noise(variance: float, seeds: int) -> NDArray[np.float64]:
    """What the choice of seeds could have moved a mean by: its standard error × Student's t. -> (R,)"""
    if seeds < 2:
        return np.zeros(RESAMPLES)
    return np.asarray(np.sqrt(variance) * np.random.default_rng(1).standard_t(seeds - 1, RESAMPLES))


def interval(means: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile."""
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return float(low), float(high)


def _draws(clusters: int) -> Iterator[NDArray[np.float64]]:
    """How often each cluster is in each resample, some resamples at a time. -> (B, C)"""
    rng = np.random.default_rng(0)
    size = max(1, CHUNK // clusters)
    for start in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - start)
        drawn = rng.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(float)


Groups = Sequence[tuple[Mapping[str, Any], NDArray[np.bool_]]]
"""What names a part of the test set in a row, and which examples are in it."""


def relation_groups(relations: Sequence[str | None]) -> Groups:
    """The examples of each relation, the most frequent first; none for examples without one."""
    counts = Counter(name for name in relations if name is not None)
    order = sorted(counts, key=lambda name: (-counts[name], name))
    return [({"relation": name}, np.array([r == name for r in relations])) for name in order]


OFTEN = {0: "never", **AT_LEAST_ONCE}
"""How common a right answer is in its relation among all that trains: by the most that it may occur."""


def answer_groups(counts: NDArray[np.int64]) -> Groups:
    """The examples by how often their answer occurs in what trains; none where all are alike."""
    codes = np.searchsorted([*OFTEN], counts)
    groups = [({"answer": name}, codes == code) for code, name in enumerate(OFTEN.values())]
    return [group for group in groups if group[1].any()] if len(set(codes.tolist())) > 1 else []


def equal_mix(answers: Sequence[Hashable]) -> NDArray[np.float64]:
    """Weights, 1 in the mean, with which every answer of a relation counts as much as every other. (N,)

    Who guesses without knowing the subject is right equally often whatever is guessed: the share of a common answer
    that is won is what the rare ones lose. So what is left of a difference is no better guessing.
    """
    counts = Counter(answers)
    return np.array([len(answers) / len(counts) / counts[answer] for answer in answers])


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values whose mean is the ratio of two means, and which scatter as it does (linearised). (S, N), (S, N) -> (S, N)

    With them a ratio has its interval, and differences of ratios theirs, as means have. NaN where nothing counts.
    """
    mean = denominator.mean()
    if mean == 0:
        return np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    share = numerator.mean() / mean
    return np.asarray(share + (numerator - share * denominator) / mean)


def quintile_groups(percentiles: NDArray[np.float64]) -> Groups:
    """Fifths of the test set by popularity, 1 the most popular; none without popularity."""
    groups = [({"quintile": q + 1}, (20 * q <= percentiles) & (percentiles < 20 * (q + 1))) for q in range(5)]
    return [(name, members) for name, members in groups if members.any()]


def curve_groups(percentiles: NDArray[np.float64]) -> Groups:
    """The top-x% most popular, for the x of the paper's Figures 6 and 7; none without popularity."""
    groups = [({"top_percent": percent}, percentiles < percent) for percent in TOP_PERCENTS]
    return [(name, members) for name, members in groups if members.any()]


def accuracy_rows(
    correct: Mapping[str, NDArray[np.float64]], groups: Groups, clusters: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """One row per group and arm: `arm`, `n` examples, `accuracy` over seeds, `low` and `high`. {arm: (S, N)}, (N,)"""
    if not groups:
        return []
    means = np.stack([by_seed.mean(axis=0) for by_seed in correct.values()])
    drawn = resampled_means(means, clusters, np.stack([members for _, members in groups]))  # (R, G, K)
    rows = []
    for g, (name, members) in enumerate(groups):
        for k, (arm, by_seed) in enumerate(correct.items()):
            inside = by_seed[:, members]
            noise = seed_noise(seed_variance(inside, clusters[members]), len(inside))
            low, high = interval(drawn[:, g, k] + noise)
            accuracy = float(inside.mean())
            rows.append({**name, "arm": arm, "n": int(members.sum()), "accuracy": accuracy, "low": low, "high": high})
    return rows


POPULAR = 20
"""Percent of the test questions, the most popular, on which the arms are level in the paper."""


def gap_change(
    correct: Mapping[str, NDArray[np.float64]],
    pair: tuple[str, str],
    percentiles: NDArray[np.float64],
    clusters: NDArray[np.int64],
) -> dict[str, Any] | None:
    """The gap between the arms on the most popular questions and on all that have popularity, and how it changes.

    The seeds' part of the interval is Student's t on their changes. None where no question, or every one, is among the
    most popular. {arm: (S, N)}, (N,), (N,)
    """
    popular, measured = percentiles < POPULAR, ~np.isnan(percentiles)
    if not popular.any() or popular.sum() == measured.sum():
        return None
    delta = correct[pair[0]] - correct[pair[1]]  # (S, N)
    on_popular, on_all = delta[:, popular].mean(axis=1), delta[:, measured].mean(axis=1)
    drawn = resampled_means(delta.mean(axis=0)[None], clusters, np.stack([popular, measured]))[:, :, 0]  # (R, 2)
    changes = on_all - on_popular
    seeds = len(changes)
    variance = float(changes.var(ddof=1)) / seeds if seeds > 1 else 0.0
    low, high = interval(drawn[:, 1] - drawn[:, 0] + seed_noise(variance, seeds))
    popular_gap, gap, change = float(on_popular.mean()), float(on_all.mean()), float(changes.mean())
    points = f"({100 * change:+.1f}, {100 * low:+.1f} to {100 * high:+.1f})"
    if low > 0:
        finding = f"the gap grows {points}, as in the paper's Figure 6"
    elif high < 0:
        finding = f"the gap shrinks {points}, unlike in the paper's Figure 6, where it grows"
    else:
        finding = f"no clear change {points}; in the paper's Figure 6 the gap grows"
    return {
        "arms": list(pair),
        "popular": popular_gap,
        "all": gap,
        "change": change,
        "low": low,
        "high": high,
        "sentence": f"{pair[0]} is ahead of {pair[1]} by {100 * popular_gap:+.1f} points on the most popular "
        f"{POPULAR}% of the test questions and by {100 * gap:+.1f} on all: {finding}.",
    }


TOP_PERCENTS = tuple(range(5, 101, 5))
POWER = (1.959964 + 0.841621) ** 2
"""Squared standard errors a difference must be away from 0 to be seen at 5%, two-sided, in 80% of runs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of arm `a` minus that of arm `b`, with its 95% bootstrap interval and two-sided p.

    `p_adjusted` is p after Holm's correction for all differences of the run. `needed` is how many test examples
    would show a difference of this size with 80% power, None where no number would with these few seeds; `needed_seeds`
    how many seeds would with these test examples.
    `equal_mix` is the difference when every answer counts as much as every other (`equal_mix`), with its interval and
    p after Holm's correction.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float | None = None
    needed: int | None = None
    equal_mix: float | None = None
    equal_mix_low: float | None = None
    equal_mix_high: float | None = None
    equal_mix_p: float | None = None
    needed_seeds: int | None = None

    @property
    def clear(self) -> bool:
        """Whether it is larger than chance explains: by Holm's p, or else by its interval."""
        return not self.low <= 0 <= self.high if self.p_adjusted is None else self.p_adjusted < 0.05

    def at_equal_mix(self) -> str:
        """What is left of a clear difference at equal answer mix, in words; empty where it is as clear there."""
        if self.equal_mix is None or self.equal_mix_p is None:
            return ""
        left = self.equal_mix if self.difference > 0 else -self.equal_mix
        ahead, behind = (self.a, self.b) if self.difference > 0 else (self.b, self.a)
        if left > 0 and self.equal_mix_p < 0.05:
            return ""
        if left < abs(self.difference) / 2:
            return f": {ahead} guesses better than {behind}, which is not to know more"
        return ": too little to be clear"


def standard_error(correct: NDArray[np.float64]) -> float | None:
    """Standard error of the accuracy over seeds; None for a single seed. (S, N) -> scalar"""
    seeds = correct.shape[0]
    if seeds < 2:
        return None
    return float(np.std(correct.mean(axis=1), ddof=1) / np.sqrt(seeds))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95% interval, the two-sided p of its being 0, and the variance that the examples give it."""

    mean: float
    low: float
    high: float
    p: float
    example_variance: float

    @property
    def bounds(self) -> dict[str, float]:
        """`low` and `high`."""
        return {"low": self.low, "high": self.high}


def pooled_noise(correct: Mapping[str, NDArray[np.float64]], clusters: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the seeds could have moved the difference of any two arms by, told from all of them. {arm: (S, N)} -> (R,)

    Two or three seeds of one pair tell next to nothing. If seeds move all arms alike, K arms have Student's t with
    (K − 1) × (S − 1) degrees of freedom, as in an analysis of variance of arms by seeds.
    """
    variances = [seed_variance(a - b, clusters) for a, b in combinations(correct.values(), 2)]
    freedom = (len(correct) - 1) * (len(next(iter(correct.values()))) - 1)
    return seed_noise(float(np.mean(variances)) if variances else 0.0, freedom + 1)


def estimates(
    values: Sequence[NDArray[np.float64]], clusters: NDArray[np.int64], noise: NDArray[np.float64] | None = None
) -> list[Estimate]:
    """The mean of each of the values (S, N), of seeds by examples; the same draws for all. clusters (N,)

    `noise` (R,) is what the seeds add to each resample; by default Student's t on the seeds of each.
    """
    if not values:
        return []
    drawn = resampled_means(np.stack([by_seed.mean(axis=0) for by_seed in values]), clusters)[:, 0]  # (R, K)
    found = []
    for by_seed, by_examples in zip(values, drawn.T, strict=True):
        own = seed_noise(seed_variance(by_seed, clusters), len(by_seed)) if noise is None else noise
        resampled = by_examples + own
        p = min(1.0, 2 * (min((resampled <= 0).sum(), (resampled >= 0).sum()) + 1) / (RESAMPLES + 1))
        found.append(Estimate(float(by_seed.mean()), *interval(resampled), float(p), float(by_examples.var())))
    return found


def compare_arms(
    correct: Mapping[str, NDArray[np.float64]],
    pairs: Sequence[tuple[str, str]],
    clusters: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
    pooled: bool = False,
) -> list[Difference]:
    """The difference of each pair of arms, `p_adjusted` over all of them. {arm: (S, N)}, clusters (N,)

    With the `weights` (N,) of an equal answer mix also the difference that it leaves. `pooled`, the seeds' part is that
    of all arms (`pooled_noise`).

    The seeds' part is Student's t on the differences seed by seed. An arm with one seed (the base model) is set beside
    every seed of the other.
    The interval is the 2.5th to 97.5th percentile; p is twice the share of resamples on the other side of 0.
    """
    deltas = [correct[a] - correct[b] for a, b in pairs]  # (S, N): one seed broadcasts
    measured = estimates(deltas, clusters, pooled_noise(correct, clusters) if pooled else None)
    found = []
    for (a, b), delta, e, p in zip(pairs, deltas, measured, holm([e.p for e in measured]), strict=True):
        from_seeds = seed_variance(delta, clusters, taken_off=1)
        needed = examples_needed(e.mean, delta.shape[1], e.example_variance, from_seeds)
        seeds = len(delta) if len(delta) > 1 else 0
        more = examples_needed(e.mean, seeds, from_seeds, e.example_variance) if seeds else None
        found.append(Difference(a, b, e.mean, e.low, e.high, e.p, p_adjusted=p, needed=needed, needed_seeds=more))
    if weights is None:
        return found
    mix = {name: ratio(c * weights, weights[None]) for name, c in correct.items()}
    mixed = compare_arms(mix, pairs, clusters, pooled=pooled)
    return [
        replace(d, equal_mix=m.difference, equal_mix_low=m.low, equal_mix_high=m.high, equal_mix_p=m.p_adjusted)
        for d, m in zip(found, mixed, strict=True)
    ]


def difference_rows(
    correct: Mapping[str, NDArray[np.float64]],
    pairs: Sequence[tuple[str, str]],
    groups: Groups,
    clusters: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """One row per group and pair of arms: `a`, `b`, `n` examples, `difference`, `low`, `high`. {arm: (S, N)}, (N,)"""
    about = [{**name, "a": a, "b": b, "n": int(members.sum())} for name, members in groups for a, b in pairs]
    deltas = [
        ratio((correct[a] - correct[b]) * members, members[None].astype(float))
        for _, members in groups
        for a, b in pairs
    ]
    found = estimates(deltas, clusters)
    return [{**row, "difference": e.mean, **e.bounds} for row, e in zip(about, found, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """p values after Holm's step-down correction, which holds whatever the tests have to do with each other."""
    p = np.array(p_values)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.minimum(1.0, np.arange(len(p), 0, -1) * p[order]))
    return [float(value) for value in adjusted[np.argsort(order)]]


def examples_needed(difference: float, n: int, example_variance: float, seed_variance: float) -> int | None:
    """Test examples with which a difference of this size is seen at 5% with 80% power; None if none would do.

    The variances are those of the difference's mean over the n examples that there were, and over the seeds:
    more examples make the first smaller, not the second. The other way round it is the number of seeds.
    """
    room = difference**2 / POWER - seed_variance
    return math.ceil(n * example_variance / room) if room > 0 else None


def popularity_percentiles(scores: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.float64]:
    """100 × rank ÷ N, rank 0 for the most popular; NaN where there is no score. (N,) -> (N,)

    The top-x% of the test set are the examples whose percentile is below x.
    """
    percentiles = np.full(len(scores), np.nan)
    measured = np.flatnonzero(~np.isnan(scores))
    order = total_order(scores[measured], [ids[row] for row in measured.tolist()], seed=0)
    percentiles[measured[order]] = 100 * np.arange(len(measured)) / max(1, len(measured))
    return percentiles


def turned(d: Difference, subject: str) -> Difference:
    """The same difference seen from one of its arms: that arm minus the other."""
    if d.a == subject:
        return d
    mix = [None if value is None else -value for value in (d.equal_mix, d.equal_mix_high, d.equal_mix_low)]
    turned = replace(d, a=d.b, b=d.a, difference=-d.difference, low=-d.high, high=-d.low)
    return replace(turned, equal_mix=mix[0], equal_mix_low=mix[1], equal_mix_high=mix[2])


def verdict(differences: Sequence[Difference], subject: str) -> str:
    """How the arm `subject` fares against every other arm, and what is left of that at equal answer mix.

    Holm's p decides what is a difference; the untouched model stands apart.
    """
    found: dict[str, list[str]] = {"beats": [], "shows no difference from": [], "is worse than": []}
    mixed: list[str] = []
    untouched = []
    for d in (turned(d, subject) for d in differences if subject in (d.a, d.b)):
        points = f"({100 * d.difference:+.1f}, {100 * d.low:+.1f} to {100 * d.high:+.1f})"
        finding = "shows no difference from" if not d.clear else "beats" if d.difference > 0 else "is worse than"
        if is_untouched(d.b):
            untouched.append(f"{finding} {d.b} {points}")
            continue
        found[finding].append(f"{d.b} {points}")
        if d.clear and d.equal_mix is not None and d.equal_mix_low is not None and d.equal_mix_high is not None:
            left = f"{100 * d.equal_mix:+.1f}, {100 * d.equal_mix_low:+.1f} to {100 * d.equal_mix_high:+.1f}"
            mixed.append(f"{left} against {d.b}{d.at_equal_mix()}")
    findings = ", and ".join(f"{finding} {_and(others)}" for finding, others in found.items() if others)
    if not findings and not untouched:
        return "There is only one arm: nothing to compare."
    sentences = [f"Finetuning on {subject} {findings or _and(untouched)}; points of accuracy with 95% intervals."]
    if mixed:
        sentences.append(f"At equal answer mix it is {'; '.join(mixed)}.")
    if untouched and findings:
        sentences.append(f"Beside the untouched model, {subject} {_and(untouched)}.")
    return " ".join(sentences)


MARGIN = 0.02
"""Accuracy that a subset may lose and still do as well."""
MOST_SEEDS = 30


def recommendation(differences: Sequence[Difference], sizes: Mapping[str, int], subject: str) -> str:
    """One sentence to act on: what to train on, or what is needed to tell. `sizes` are those of the arms."""
    against = {d.b: d for d in (turned(d, subject) for d in differences if subject in (d.a, d.b))}
    others = {name: d for name, d in against.items() if not is_untouched(name)}
    better = [d for d in others.values() if d.clear and d.difference < 0]
    if better:
        best = min(better, key=lambda d: d.difference)
        what = "all of them" if best.b == "whole" else best.b
        return f"Train on {what}: {subject} is {-100 * best.difference:.1f} points worse than {best.b}."
    whole, random = others.get("whole"), others.get("random")
    beaten = [name for name, d in others.items() if d.clear]
    if not others:
        base = next(iter(against.values()), None)
        gain = f"is worth {100 * base.difference:+.1f} points" if base and base.clear else "shows no gain"
        return f"Beside the untouched model {subject} {gain}; whether selecting helps was not asked: add other splits."
    if whole is not None and whole.clear:
        return f"Train on {subject}: it beats all of the data with {_share(sizes, subject)} of it."
    rival = whole or random
    if rival is None:
        told = (
            f"Train on {subject} rather than on {_and(beaten)}"
            if beaten
            else f"{subject} shows no gain over the others"
        )
        return f"{told}; whether it beats all of the data, or a random part, was not asked: add these splits."
    if rival.low > -MARGIN and not (random is not None and not random.clear):
        share = (
            f"{_share(sizes, subject)} of the data, same accuracy" if whole is not None else "better than a random part"
        )
        return f"Train on {subject}: {share}."
    if rival.low > -MARGIN and rival.high < MARGIN:
        return f"Train on all of them: nothing is gained by selecting ({subject} does as well as {rival.b}, no better)."
    unclear = random if random is not None and not random.clear else rival
    need = [f"about {unclear.needed_seeds} seeds"] if (unclear.needed_seeds or MOST_SEEDS) < MOST_SEEDS else []
    need += [f"about {unclear.needed:,} test questions"] if unclear.needed is not None and not need else []
    if not need:
        return f"{subject} and {unclear.b} are too close to tell: nothing is shown to be gained by selecting."
    return f"More is needed to tell {subject} from {unclear.b}: {need[0]}."


def _share(sizes: Mapping[str, int], subject: str) -> str:
    share = sizes[subject] / sizes["whole"] if sizes.get("whole") else 0
    return "half" if abs(share - 0.5) < 0.02 else f"{100 * share:.0f}%"


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
