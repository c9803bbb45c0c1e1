"""Successive halving with paired intervals, and what a confirmation says: pure functions on answers.

Candidates are trained a little and asked a few questions; those that are clearly behind the best are dropped; the
others are trained on and asked more. As in Jamieson and Talwalkar (2016) every rung costs the same; but nobody is
dropped by rank alone. The best of many looks better than it is, so its gain is measured anew: by other seeds, on
questions that were not asked before.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curate.errors import SettingError, setting
from curate.searching.candidates import WHOLE
from curate.validation.evaluate import answers_of
from curate.validation.finetune import finetuned
from curate.validation.runner import ANSWERED, TRAINED, Experiment, Runner
from curate.validation.statistics import MARGIN, Difference, compare_arms
from curate.validation.trainer import Training

Marks = Mapping[str, NDArray[np.float64]]
"""How right the answers of each candidate are, 0 to 1: (S, N), seeds by questions."""


@dataclass(frozen=True, slots=True)
class Rung:
    """How long every candidate that is left has trained, in optimizer steps, and how many questions it is asked."""

    steps: int
    questions: int


Answers = Callable[[Sequence[str], Rung], Marks]
"""Has candidates trained to a rung, and gives their marks (S, rung.questions), the same seeds for all."""


FEW = 30
"""Questions at least at the first rung."""
LEAST = 0.1
"""Where the best candidate is right less often none is dropped: it has only learned sooner what an answer is."""
SHARE = 0.25
"""What the rungs may train together, as a share of training every candidate to the end with the search's seeds.

With two seeds beside three, and a confirmation of three, that is a third of validating 18 candidates in full.
"""


@dataclass(frozen=True)
class Work:
    """How much there is to do: trainings, examples that they see, questions that are answered."""

    trainings: int = 0
    trained: int = 0
    answers: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.trainings + other.trainings, self.trained + other.trained, self.answers + other.answers)

    @property
    def passes(self) -> int:
        """Passes of one example through the model."""
        return TRAINED * self.trained + ANSWERED * self.answers


@dataclass(frozen=True)
class Plan:
    """How far candidates are trained and what they are asked; `steps` are those of the confirmation."""

    candidates: int
    steps: int
    batch_size: int
    questions: int
    confirm_questions: int
    rungs: int
    seeds: int
    confirm_seeds: int

    def rung(self, number: int, left: int, before: int = 0) -> Rung:
        """Rung `number` (from 1) of candidates that have trained for so many steps `before`.

        All rungs cost the same, so that the fewer are left the longer they train, whoever is dropped and when; each has
        1/√2 of the questions of the next, the last one all.
        """
        more = int(SHARE * self.steps * self.candidates / (self.rungs * left))
        questions = max(2, round(self.questions / 2 ** ((self.rungs - number) / 2)))
        return Rung(min(self.steps, before + max(1, more)), questions)

    def smaller(self, factor: float) -> Plan:
        """The same with so much less training and so much fewer questions in the search."""
        questions = max(min(FEW * 2 ** (self.rungs - 1), self.questions), round(factor * self.questions))
        return replace(self, steps=round(factor * self.steps), questions=questions)

    def searching(self, rungs: Sequence[Rung], left: Sequence[int]) -> Work:
        """The work of the rungs with so many candidates at each; a training goes on from the rung before."""
        found, before = Work(), 0
        for count, rung in zip(left, rungs, strict=True):
            runs = count * self.seeds
            found += Work(runs, runs * (rung.steps - before) * self.batch_size, runs * rung.questions)
            before = rung.steps
        return found

    def confirming(self, arms: int = 3) -> Work:
        """The work of the confirmation: so many trainings a seed, and the untouched model's answers."""
        runs = arms * self.confirm_seeds
        return Work(runs, runs * self.steps * self.batch_size, (runs + 1) * self.confirm_questions if arms else 0)

    @property
    def shortest(self) -> list[Rung]:
        """The rungs if no candidate is dropped."""
        found = [Rung(0, 0)]
        for number in range(1, self.rungs + 1):
            found.append(self.rung(number, self.candidates, found[-1].steps))
        return found[1:]

    @property
    def most(self) -> Work:
        """All of it, if no candidate is dropped: where some are there is as much training, and less to answer."""
        return self.searching(self.shortest, [self.candidates] * self.rungs) + self.confirming()

    @property
    def in_full(self) -> Work:
        """What it takes to validate every candidate: seeds and steps of the confirmation, questions of both parts."""
        runs = self.candidates * self.confirm_seeds
        return Work(runs, runs * self.steps * self.batch_size, runs * (self.questions + self.confirm_questions))


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate at a rung (from 1): its accuracy, how far it is from the best one (0 or less, with its 95% interval),
    and whether that is `clear`, its interval below 0. It is `dropped` then, unless it is one of those that stay, or the
    best is below LEAST.

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
    """The rungs, how everybody stood at each, and the candidate to confirm: the best at the last one beside `whole`.

    None where all others are clearly behind it.
    """

    rungs: Sequence[Rung]
    standings: Sequence[Standing]
    nominee: str | None

    def work(self, plan: Plan) -> Work:
        """What it took."""
        at = Counter(standing.rung for standing in self.standings)
        return plan.searching(self.rungs, [at[number] for number in sorted(at)])


def halve(
    candidates: Sequence[str], stay: Sequence[str], plan: Plan, answers: Answers, clusters: NDArray[np.int64]
) -> Halving:
    """Climb the rungs; those that `stay` are never dropped. `clusters` (N,) are the subjects of the questions."""
    left, found, rungs = list(candidates), list[Standing](), list[Rung]()
    last: list[Standing] = []
    for number in range(1, plan.rungs + 1):
        rung = plan.rung(number, len(left), rungs[-1].steps if rungs else 0)
        last = standings_at(number, answers(left, rung), clusters[: rung.questions], stay)
        rungs.append(rung)
        found += last
        left = [standing.candidate for standing in last if not standing.dropped]
    level = [standing for standing in last if not standing.clear and standing.candidate != WHOLE]
    return Halving(rungs, found, max(level, key=lambda s: s.accuracy).candidate if level else None)


def standings_at(number: int, marks: Marks, clusters: NDArray[np.int64], stay: Sequence[str]) -> list[Standing]:
    """How every candidate stands beside the best one of a rung."""
    best = max(marks, key=lambda name: marks[name].mean())
    told = marks[best].mean() >= LEAST
    found = [Standing(number, best, float(marks[best].mean()), 0.0, 0.0, 0.0, clear=False, dropped=False)]
    for d in compare_arms(marks, [(name, best) for name in marks if name != best], clusters, pooled=True):
        accuracy, clear = float(marks[d.a].mean()), d.high < 0
        dropped = clear and told and d.a not in stay
        found.append(Standing(number, d.a, accuracy, d.difference, d.low, d.high, clear, dropped))
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


# How long it takes, by a measured minute.


@dataclass(frozen=True)
class Pace:
    """Seconds that a training takes beside its steps, that a step takes, and an answer."""

    training: float
    step: float
    answer: float

    def seconds(self, work: Work, batch_size: int) -> float:
        """How long some work takes."""
        return work.trainings * self.training + work.trained / batch_size * self.step + work.answers * self.answer


MEASURED = 25.0
"""Seconds for each of two measurements, training and answering, so that both and the model's loading take a minute."""


def measure(experiment: Experiment) -> Pace:
    """How fast the model trains and answers here: a few steps on all of the data, and a few questions."""
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(replace(experiment, folder=Path(folder)))
        arm = runner.arms[WHOLE]

        def train(steps: int) -> float:
            config = experiment.settings.config.changed(max_steps=steps, held_out=0)
            started, where = time.perf_counter(), Path(folder) / str(steps)
            with finetuned(runner.loaded, arm.examples, runner.template, Training(config, 0, where)):
                return time.perf_counter() - started

        def answer(count: int) -> float:
            started, asked = time.perf_counter(), runner.test.examples[:count]
            answers_of(runner.loaded, asked, runner.template, max_new_tokens=runner.new_tokens)
            return (time.perf_counter() - started) / len(asked)

        train(1)  # the first one pays for imports
        first = train(2)
        more = 2 + max(1, min(20, int(MEASURED / first)))
        step = max(1e-6, (train(more) - first) / (more - 2))
        return Pace(max(0.0, first - 2 * step), step, answer(max(8, min(128, int(MEASURED / answer(8))))))


def parse_budget(text: str) -> float:
    """Seconds of `2h`, `90m`, `1h30m`, `45s`; SettingError for what is no time."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    seconds = sum(float(n or 0) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    if not seconds:
        raise SettingError(
            f"{setting('budget', text)} is no time.", "hours, minutes: 2h, 90m, 1h30m", setting("budget", "2h")
        )
    return seconds


def spoken(seconds: float) -> str:
    """A time as a person says it: `2 h 5 min`."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
