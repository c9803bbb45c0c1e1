"""Successive halving with paired intervals, and what a confirmation says: pure functions on answers.

Candidates are trained a little and asked a few questions; those that are clearly behind the best are dropped; the
others are trained on and asked more (Jamieson and Talwalkar 2016, but that nobody is dropped by rank alone). The best
of many looks better than it is, so its gain is measured anew: by other seeds, on questions that were not asked before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.validation.statistics import MARGIN, Difference, compare_arms

WHOLE = "whole"

Marks = Mapping[str, NDArray[np.float64]]
"""How right the answers of each candidate are, 0 to 1: (S, N), seeds by questions."""


@dataclass(frozen=True, slots=True)
class Rung:
    """How long every candidate that is left has trained, in optimizer steps, and how many questions it is asked."""

    steps: int
    questions: int


Answers = Callable[[Sequence[str], Rung], Marks]
"""Has candidates trained to a rung, and gives their marks (S, rung.questions), the same seeds for all."""


def schedule(steps: int, questions: int, rungs: int) -> list[Rung]:
    """Each rung has half of the steps of the next, and 1/√2 of its questions: they cost less, and tell apart.

    The last one has all questions, and half of the `steps` of the confirmation.
    """
    halves = [2 ** (rungs - number) for number in range(1, rungs + 1)]
    return [Rung(max(1, round(steps / 2 / half)), max(2, round(questions / half**0.5))) for half in halves]


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate at a rung (from 1): its accuracy, how far it is from the best one (0 or less, with its 95% interval),
    and whether that is `clear`, its interval below 0. It is `dropped` then, unless it is one of those that stay.

    Against the luckiest of many equals, one or another is clearly behind by chance: that costs nothing, they are equal.
    """

    rung: int
    candidate: str
    accuracy: float
    behind: float
    low: float
    high: float
    clear: bool
    dropped: bool


@dataclass(frozen=True)
class Halving:
    """The rungs from the first, and the candidate to confirm: the best at the last one beside `whole`.

    None where all others are clearly behind it.
    """

    standings: Sequence[Standing]
    nominee: str | None

    def rows(self) -> list[dict[str, Any]]:
        """A row a rung and candidate."""
        return [asdict(standing) for standing in self.standings]


def halve(
    candidates: Sequence[str], stay: Sequence[str], rungs: Sequence[Rung], answers: Answers, clusters: NDArray[np.int64]
) -> Halving:
    """Climb the rungs; those that `stay` are never dropped. `clusters` (N,) are the subjects of the questions."""
    left, found = list(candidates), list[Standing]()
    last: list[Standing] = []
    for number, rung in enumerate(rungs, start=1):
        last = standings_at(number, answers(left, rung), clusters[: rung.questions], stay)
        found += last
        left = [standing.candidate for standing in last if not standing.dropped]
    level = [standing for standing in last if not standing.clear and standing.candidate != WHOLE]
    return Halving(found, max(level, key=lambda s: s.accuracy).candidate if level else None)


def standings_at(number: int, marks: Marks, clusters: NDArray[np.int64], stay: Sequence[str]) -> list[Standing]:
    """How every candidate stands beside the best one of a rung."""
    best = max(marks, key=lambda name: marks[name].mean())
    found = [Standing(number, best, float(marks[best].mean()), 0.0, 0.0, 0.0, clear=False, dropped=False)]
    for d in compare_arms(marks, [(name, best) for name in marks if name != best], clusters, pooled=True):
        accuracy, clear = float(marks[d.a].mean()), d.high < 0
        found.append(Standing(number, d.a, accuracy, d.difference, d.low, d.high, clear, clear and d.a not in stay))
    return sorted(found, key=lambda standing: list(marks).index(standing.candidate))


@dataclass(frozen=True)
class Outcome:
    """What to train on, and why: `kind` is `subset`, `everything` or `no difference`.

    `over_whole` and `over_random` are what the nominee gained in the confirmation, over all of the data and over a
    random part of its size; None where there was none.
    """

    train_on: str
    kind: str
    sentence: str
    over_whole: Difference | None = None
    over_random: Difference | None = None


NOTHING_LEFT = Outcome(WHOLE, "everything", "Train on everything: all candidates were clearly behind it.")


def confirmed(
    marks: Marks,
    nominee: str,
    random: str | None,
    clusters: NDArray[np.int64],
    cost: float,
    weights: NDArray[np.float64] | None = None,
) -> Outcome:
    """What the confirmation says of the nominee; `random` is the random part of its size, None if it is that itself.

    `cost` is the share of the examples seen in training on all of the data that it was trained on before it stopped;
    `weights` (N,) are those of an equal answer mix. An outcome other than everything needs a difference that is clear
    after Holm's correction; one that loses less than MARGIN for sure is no difference.
    """
    pairs = [(nominee, other) for other in (WHOLE, random) if other is not None]
    whole, *others = compare_arms(marks, pairs, clusters, weights, pooled=True)
    over_random = others[0] if others else None
    if whole.clear and whole.difference > 0:
        return Outcome(nominee, "subset", _train_on(nominee, whole, over_random, cost), whole, over_random)
    if whole.clear:
        text = f"Train on everything: {nominee}, the best in the search, is worse in the confirmation, {points(whole)}."
        return Outcome(WHOLE, "everything", text, whole, over_random)
    if whole.low > -MARGIN:
        text = f"No difference: {nominee} does as well as all of the data, {points(whole)}, at {cost:.0%} of the cost."
        return Outcome(WHOLE, "no difference", text, whole, over_random)
    text = f"Train on everything: nothing is shown to be gained by selecting ({nominee}: {points(whole)})."
    return Outcome(WHOLE, "everything", text, whole, over_random)


def points(d: Difference) -> str:
    """A difference in points of accuracy with its interval: `+4.1 points (+1.0 to +7.2)`."""
    return f"{100 * d.difference:+.1f} points ({100 * d.low:+.1f} to {100 * d.high:+.1f})"


def _train_on(nominee: str, whole: Difference, random: Difference | None, cost: float) -> str:
    beside = ""
    if random is not None:
        beside = f", {100 * random.difference:+.1f} over random"
        beside += "" if random.clear else f" ({100 * random.low:+.1f} to {100 * random.high:+.1f}, not clear)"
    left = whole.at_equal_mix()
    caution = f" At equal answer mix the gain over all of it is {100 * whole.equal_mix:+.1f}{left}." if left else ""  # type: ignore[operator]
    return f"Train on {nominee}: {points(whole)} over all of it{beside}, at {cost:.0%} of the cost.{caution}"
