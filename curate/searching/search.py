"""Search: divide the data, score, climb the rungs, confirm; the folder and the one sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate import scoring
from curate.checkpoint import PARTS, would_go
from curate.data.files import check_own_folder, plain, with_manifest, write_json, write_parquet, write_text
from curate.data.ids import hash_texts, keyed
from curate.data.repeats import folded
from curate.data.table import QATable, make_manifest, read, read_with
from curate.display import Outline, Shown
from curate.engines import processes
from curate.errors import DataError, SettingError, setting
from curate.lm.files import version_of
from curate.lm.model import load_tokenizer
from curate.prompts import solution
from curate.recipes.run import content, resolve, resolved_yaml
from curate.records import Example
from curate.report.page import search_page
from curate.searching.candidates import (
    ESTIMATORS,
    RANDOM,
    WHOLE,
    Candidate,
    Made,
    SearchSettings,
    asked_for,
    make,
    stays,
)
from curate.searching.halving import (
    NOTHING_LEFT,
    Halving,
    Marks,
    Outcome,
    Pace,
    Plan,
    Rung,
    Work,
    confirmed,
    halve,
    measure,
    parse_budget,
    spoken,
)
from curate.selection.explain import hint
from curate.selection.ranking import SCORE_PREFIX, random_rows
from curate.selection.rules import as_tuple
from curate.selection.select import select
from curate.settings import EngineSettings, ReadSettings, ValidateEngineSettings, ValidateSettings, takes
from curate.validation.evaluate import find_metric
from curate.validation.results import Validation
from curate.validation.runner import TRAINED, Experiment, Notify, Part
from curate.validation.statistics import cluster_codes, equal_mix
from curate.validation.validate import experiment_of, run_parts, validate

PLAN = "plan.json"
"""What a folder of a search is known by: the request, and the plan that was made for it."""
LEAST = 30
"""Questions that each of the two parts needs."""
FRESH = 1_000
"""The first seed of the confirmation; those of the search begin at 0."""


@takes(SearchSettings, ValidateEngineSettings, ReadSettings)
def search(
    data: Any,
    *,
    eval: Any = None,
    model: str | Path,
    output: str | Path,
    force: bool = False,
    progress: Notify | None = None,
    **options: Any,
) -> SearchRun:
    """Find out by measuring which examples this model should be trained on; the Python twin of `curate search`.

    Subsets of `data` (rules × scores × sizes, or those of the file `candidates`) are trained a little and asked a few
    questions; those whose paired interval against the best one lies below zero are dropped, the others trained on and
    asked more. The best one is then compared with a random part of its size and with all of the data by other seeds and
    on questions that were not asked before: the gain is the one found there. All candidates may see equally many
    examples: `max_steps`, else what five epochs of all of the data take. What is asked is taken out of `data` by whole
    subjects, or is `eval`; no subject and no answer is in both parts of it.
    Writes the folder `output`: `recommended.parquet`, `recipe.yaml` that makes and validates it again, `report.html`,
    `summary.json`; a stopped search goes on. `engine="ray"` trains on a cluster.
    Raises DataError for too little data, RecipeError for candidates that cannot be, SettingError for a budget that fits
    nothing, OutputError for a folder that holds something else, unless `force`.
    """
    found = Search.of(data, eval, str(model), Path(output), progress or (lambda line: None), options)
    return found.earlier(force) or found.run()


@dataclass(frozen=True, repr=False)
class SearchRun(Shown):
    """What a search found: `.summary` is what stands in summary.json, `.sentence` what to do, `.report` the page."""

    folder: Path
    summary: dict[str, Any]

    @property
    def sentence(self) -> str:
        """What to train on, and what it gains."""
        return str(self.summary["sentence"])

    @property
    def report(self) -> Path:
        """The page of the search."""
        return self.folder / "report.html"

    @property
    def recommended(self) -> Path:
        """The examples to train on."""
        return self.folder / "recommended.parquet"

    def outline(self) -> Outline:
        """The candidates at their last rung, the best first, and the sentence."""
        rows = [
            [row["candidate"], row["rows"], row["rung"], f"{100 * row['accuracy']:.1f}", f"{100 * row['behind']:+.1f}"]
            for row in last_standings(self.summary)
        ]
        headers = ["candidate", "rows", "rung", "accuracy %", "from the best"]
        return Outline(f"Search in {self.folder}", headers, rows, [self.sentence])


def last_standings(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every candidate where it came to, with its rows: the last rung first, at each the best first."""
    last = {row["candidate"]: row for row in summary["standings"]}
    rows = {row["candidate"]: row["rows"] for row in summary["candidates"]}
    found = [{**row, "rows": rows[name]} for name, row in last.items()]
    return sorted(found, key=lambda row: (-row["rung"], -row["accuracy"]))


# what is trained on and what is asked


@dataclass(frozen=True)
class Parts:
    """What is trained on, and the questions of the two parts; `left_out` had their answer on the other side."""

    pool: QATable
    search: QATable
    confirm: QATable
    left_out: int


def divide(data: QATable, tests: QATable | None, share: float, seed: int) -> Parts:
    """What is trained on, and whole other subjects to be asked, in two parts that share no subject and no answer.

    DataError where a part is too small. An example without a subject is a subject by its question.
    """
    examples, source = data.examples(), data if tests is None else tests
    names = [folded(e.subject or e.question) for e in examples]
    if tests is None:
        subjects = list(dict.fromkeys(names))
        order = np.argsort(keyed(hash_texts(subjects), seed, "asked"), kind="stable")
        counts = Counter(names)
        held = np.cumsum([counts[subjects[n]] for n in order.tolist()])
        asked = {subjects[n] for n in order[: int(np.searchsorted(held, share * len(data))) + 1].tolist()}
        rows = [n for n, name in enumerate(names) if name in asked]
        questions = [examples[n] for n in rows]
    else:
        questions = tests.examples()
        rows, asked = list(range(len(questions))), {folded(e.subject or e.question) for e in questions}
    side = sides(questions, seed)
    pool = np.array([n for n, name in enumerate(names) if name not in asked], dtype=np.int64)
    halves = [np.array(rows, dtype=np.int64)[side == number] for number in (0, 1)]
    if min(map(len, halves)) < LEAST or len(pool) < LEAST:
        wider = setting("questions", min(0.8, round(2 * share, 2)))
        raise DataError(
            f"There is too little data for two parts: {len(halves[0])} questions to search on, {len(halves[1])} to "
            f"confirm on, {len(pool)} examples to train on.",
            expected=f"at least {LEAST} each, without a subject or an answer in both parts",
            try_next=f"{wider}, or a test set of its own: {setting('eval', 'TESTSET')}",
        )
    ids, found = source.ids, [_part(data, "pool", pool)]
    for name, half in zip(("search", "confirm"), halves, strict=True):
        drawn = random_rows([ids[n] for n in half.tolist()], len(half), seed, name)  # any beginning is a sample
        found.append(_part(source, name, half[drawn]))
    return Parts(found[0], found[1], found[2], int(np.count_nonzero(side < 0)))


def sides(examples: Sequence[Example], seed: int) -> NDArray[np.int64]:
    """The part of each example, 0 or 1; -1 where its answer is on the other side than its subject, or it has none. (N,)

    Answers take sides, the commonest first, so that the parts are alike in each relation; a subject goes where most of
    its answers are.
    """
    answers = [folded(e.answers[0]) if e.answers and e.question else None for e in examples]
    counts = Counter(answer for answer in answers if answer is not None)
    relation = {answer: e.relation for answer, e in zip(answers, examples, strict=True) if answer is not None}
    order = dict(zip(counts, keyed(hash_texts(list(counts)), seed, "sides").tolist(), strict=True))
    loads, side = Counter[tuple[str | None, int]](), dict[str, int]()
    for text in sorted(counts, key=lambda a: (-counts[a], order[a])):
        of, everywhere = (relation[text], "")
        side[text] = int((loads[of, 1], loads[everywhere, 1]) < (loads[of, 0], loads[everywhere, 0]))
        for where in (of, everywhere):
            loads[where, side[text]] += counts[text]
    names = [folded(e.subject or e.question) for e in examples]
    votes = Counter[str]()
    for name, answer in zip(names, answers, strict=True):
        votes[name] += 0 if answer is None else 2 * side[answer] - 1
    rows, part = Counter(names), dict[str, int]()
    sizes = [0, 0]
    for name, vote in votes.items():
        part[name] = int(vote > 0 or (vote == 0 and sizes[1] < sizes[0]))
        sizes[part[name]] += rows[name]
    found = [-1 if a is None or side[a] != part[n] else side[a] for n, a in zip(names, answers, strict=True)]
    return np.array(found, dtype=np.int64)


def _part(data: QATable, name: str, rows: NDArray[np.int64]) -> QATable:
    made_from = {"made_from": data.manifest} if data.manifest else {}
    return read(with_manifest(data.take(rows), make_manifest("search", data, part=name, **made_from)))


# the search


@dataclass(frozen=True)
class Search:
    """A search that is asked for: its data divided, its settings, its folder."""

    parts: Parts
    model: str
    folder: Path
    settings: SearchSettings
    engine: EngineSettings
    say: Notify
    request: Mapping[str, Any]

    @classmethod
    def of(cls, data: Any, eval: Any, model: str, folder: Path, say: Notify, options: Mapping[str, Any]) -> Search:
        """All that can be told before the model is loaded is checked here."""
        if processes() > 1:
            raise SettingError(f"{processes()} processes run this search together.", expected="one")
        check_own_folder(folder, PLAN, "curate search")
        settings, reading = SearchSettings.of(options), ReadSettings.of(options)
        find_metric(settings.metric)
        if settings.budget is not None:
            parse_budget(settings.budget)
        table = read_with(data, reading)
        tests = None if eval is None else read_with(eval, reading.changed(split=None))
        parts = divide(table, tests, settings.questions, settings.seed)
        asked = settings.changed(candidates=settings.candidates and content(settings.candidates), device="auto")
        request = {
            "data": table.fingerprint,
            "eval": None if tests is None else tests.fingerprint,
            "model": version_of(model, settings.revision),
            "settings": asked.as_dict(),
        }
        engine = ValidateEngineSettings.of(options)
        return cls(parts, model, folder, settings, engine, say, json.loads(json.dumps(request)))

    def earlier(self, force: bool) -> SearchRun | None:
        """What this very search found, if its folder holds it whole; OutputError, unless `force`, for another one."""
        kept = self._kept(self.folder / "summary.json")
        if kept is None or (force and kept.get("request") != self.request):
            return None
        if kept.get("request") != self.request:
            raise would_go(self.folder, "a search with other data or settings")
        return SearchRun(self.folder, kept)

    @staticmethod
    def _kept(path: Path) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @property
    def scores(self) -> list[str]:
        """What is selected by; each is a score that the data has, or will be called so."""
        return [spec.partition(":")[2] or spec for spec in self._by]

    @property
    def _by(self) -> tuple[str, ...]:
        there = [
            name.removeprefix(SCORE_PREFIX) for name in self.parts.pool.schema.names if name.startswith(SCORE_PREFIX)
        ]
        return as_tuple(self.settings.by) or tuple(there) or ESTIMATORS

    @property
    def missing(self) -> list[str]:
        """The estimators that have not scored the data yet."""
        names = self.parts.pool.schema.names
        return [by for by, score in zip(self._by, self.scores, strict=True) if f"{SCORE_PREFIX}{score}" not in names]

    @property
    def asking(self) -> dict[str, Any]:
        """What scoring, training and testing have in common."""
        said = self.settings
        names = ("template", "system", "dtype", "device", "revision")
        return {name: getattr(said, name) for name in names if getattr(said, name) is not None}

    @property
    def validating(self) -> ValidateSettings:
        """How candidates are trained and asked, at the last rung."""
        said = self.settings
        given = {"metric": said.metric, "max_new_tokens": said.max_new_tokens, "config": said.config, **self.asking}
        by = next((s for s in self.scores if f"{SCORE_PREFIX}{s}" in self.parts.search.schema.names), None)
        return ValidateSettings.of(given, seeds=said.seeds, knowledge=False, by=by)

    def run(self) -> SearchRun:
        """Do what is not done yet, and write the folder."""
        plan = self.plan()
        for name in ("pool", "search", "confirm"):
            part: QATable = getattr(self.parts, name)
            write_parquet(part.table, self.folder / f"{name}.parquet", part.manifest)
        scored = self.score()
        made = make(scored, self.scores, self.settings)
        self.say_hint(scored)
        for name, why in made.left_out.items():
            self.say(f"without {name}: {why}")
        plan = replace(plan, candidates=len(made.candidates))
        halving = self.climb(made, plan)
        outcome, confirmed_by = NOTHING_LEFT, None
        nominee = next((c for c in made.candidates if c.name == halving.nominee), None)
        if nominee is not None:
            outcome, confirmed_by = self.confirm(scored, made, nominee, plan)
        chosen = next(c for c in made.candidates if c.name == outcome.train_on)
        select(
            self.folder / "scored.parquet", **chosen.selection, output=self.folder / "recommended.parquet", force=True
        )
        write_text(resolved_yaml(resolve(self.recipe(chosen, made, plan))), self.folder / "recipe.yaml")
        summary = plain(
            {
                "sentence": outcome.sentence,
                **{name: value for name, value in asdict(outcome).items() if name != "sentence"},
                "nominee": halving.nominee,
                "standings": [asdict(standing) for standing in halving.standings],
                "candidates": [
                    {"candidate": c.name, "rows": made.tables[c.name].num_rows, "selection": dict(c.selection)}
                    for c in made.candidates
                ],
                "left_out": dict(made.left_out),
                "plan": {**asdict(plan), "schedule": [asdict(rung) for rung in halving.rungs]},
                "parts": self.sizes(),
                "cost": cost(plan, halving, confirmed_by),
                "confirmed": confirmed_by.arm_rows() if confirmed_by else [],
                "request": self.request,
            }
        )
        write_text(search_page(summary, last_standings(summary)), self.folder / "report.html")
        write_json(summary, self.folder / "summary.json")
        for left in (*(self.folder / "rungs" / PARTS).iterdir(), self.folder / "rungs" / "adapters"):
            if left.is_dir():  # trainings that nobody will go on with
                rmtree(left)
        return SearchRun(self.folder, summary)

    def sizes(self) -> dict[str, int]:
        """How many examples each part has."""
        parts = self.parts
        counts = {name: len(getattr(parts, name)) for name in ("pool", "search", "confirm")}
        return {**counts, "left_out": parts.left_out}

    def plan(self) -> Plan:
        """The plan that the folder has for this search already, else one that fits the budget."""
        kept = self._kept(self.folder / PLAN)
        if kept and kept.get("request") == self.request:
            return Plan(**kept["plan"])
        plan = self.fitted()
        for path in self.folder.glob("scored.parquet*"):  # of another search
            path.unlink()
        write_json({"request": self.request, "plan": asdict(plan)}, self.folder / PLAN)
        return plan

    def fitted(self, pace: Pace | None = None) -> Plan:
        """The largest plan that the budget allows, whatever is dropped; SettingError where it allows none."""
        plan, said = self.whole_plan(), self.settings
        if said.budget is None and said.budget_tokens is None:
            return plan
        pace = None if said.budget is None else pace or self.pace()
        budget = parse_budget(said.budget) if said.budget is not None else float(said.budget_tokens or 0)
        costs = []
        for n in range(40):
            smaller = plan.smaller(0.85**n)
            if smaller.shortest[0].steps < 2 and n:
                break
            costs.append(self.seconds(smaller, pace) if pace else float(self.tokens(smaller.most)))
            if costs[-1] <= budget:
                return smaller
        name, given = ("budget", said.budget) if said.budget is not None else ("budget_tokens", said.budget_tokens)
        least = spoken(costs[-1]) if pace else f"{costs[-1]:,.0f} tokens"
        enough = f"{int(costs[-1] / 60) + 1}m" if pace else int(costs[-1]) + 1
        raise SettingError(
            f"{setting(name, given)} fits nothing: the smallest plan takes {least}.",
            expected="more of it, fewer candidates, or scores that are there already",
            try_next=setting(name, enough),
        )

    def whole_plan(self) -> Plan:
        """What is done without a budget."""
        said, config = self.settings, self.settings.config
        pool = self.parts.pool
        return Plan(
            candidates=len(asked_for(pool, self.scores, said)),
            steps=config.steps(len(pool)),
            batch_size=config.batch_size,
            questions=len(self.parts.search),
            confirm_questions=len(self.parts.confirm),
            rungs=said.rungs,
            seeds=said.seeds,
            confirm_seeds=said.confirm_seeds,
        )

    def experiment(self, tables: Mapping[str, Any], folder: Path, settings: ValidateSettings) -> Experiment:
        """The candidates and the search questions, as `validate` takes them."""
        found = experiment_of(tables, self.parts.search, self.model, folder, settings, ReadSettings())
        return replace(found, bare=True)

    def pace(self) -> Pace:
        """How fast the model trains and answers here."""
        self.say("measuring for a minute how fast the model trains and answers")
        return measure(self.experiment({WHOLE: self.parts.pool}, self.folder, self.validating))

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """Tokens of an example that trains, and of a question with ten tokens of answer, in the mean."""
        tokenizer = load_tokenizer(self.model, self.settings.revision)
        inputs = self.experiment({WHOLE: self.parts.pool}, self.folder, self.validating).inputs
        template = inputs.template

        def mean(texts: list[str]) -> float:
            return sum(map(len, tokenizer(texts)["input_ids"])) / len(texts)

        solved = [template.zero_shot(e) + " " + (solution(template, e) or "") for e in inputs.arms[0].examples[:200]]
        asked = [template.zero_shot(e) for e in inputs.test.examples[:200]]
        return mean(solved), mean(asked) + 10

    def tokens(self, work: Work) -> int:
        """Tokens through the model, those that are scored among them."""
        trained, asked = self.lengths
        return round(work.trained * trained + work.answers * asked) + self.scoring_tokens

    @cached_property
    def scoring_tokens(self) -> int:
        """Tokens that are read to score the data."""
        if not self.missing:
            return 0
        found, _ = scoring.plan(
            self.parts.pool, self.missing, self.folder / "scored.parquet", None, self.score_options, True
        )
        return sum(cost["tokens"] for cost in found.values() if isinstance(cost, dict) and "tokens" in cost)

    def seconds(self, plan: Plan, pace: Pace) -> float:
        """How long a plan takes at most; a token that is scored takes a third of one that trains."""
        steps = self.scoring_tokens / (plan.batch_size * self.lengths[0])
        return pace.seconds(plan.most, plan.batch_size) + steps * pace.step / TRAINED

    @property
    def score_options(self) -> dict[str, Any]:
        """How the data is scored."""
        given = {"model": self.model, "shots": self.settings.shots, **self.asking}
        return {n: value for n, value in given.items() if value is not None and (n, value) != ("dtype", "auto")}

    def score(self) -> QATable:
        """The pool with all scores."""
        path = self.folder / "scored.parquet"
        if not self.missing:
            write_parquet(self.parts.pool.table, path, self.parts.pool.manifest)
            return read(path)
        same = self._kept(self.folder / "scored.parquet.manifest.json") is not None
        self.say(f"scored earlier, by {', '.join(self.missing)}" if same else f"scoring by {', '.join(self.missing)}")
        scoring.score(self.folder / "pool.parquet", by=self.missing, output=path, **self.score_options)
        return read(path)

    def say_hint(self, scored: QATable) -> None:
        """What to expect of selecting, from other data, where the classes of this one are known."""
        half = Candidate("top", {"by": self.scores[0], "top": 0.5})
        told = hint(half.chosen(scored).explanation.get("forecast"))
        if told:
            self.say(told)

    def climb(self, made: Made, plan: Plan) -> Halving:
        """Have the candidates trained and asked, rung by rung."""
        whole = self.experiment(made.tables, self.folder / "rungs", self.validating)
        arms = {arm.name: arm for arm in whole.inputs.arms}
        clusters = cluster_codes([e.subject for e in whole.inputs.test.examples])

        def answers(names: Sequence[str], rung: Rung) -> Marks:
            self.say(f"{len(names)} candidates, {rung.steps} steps, {rung.questions} questions")
            config = whole.settings.config.changed(max_steps=rung.steps)
            test, count = whole.inputs.test, rung.questions
            asked = replace(test, examples=test.examples[:count], percentiles=test.percentiles[:count])
            inputs = replace(whole.inputs, arms=[arms[name] for name in names], test=asked)
            here = replace(whole, inputs=inputs, settings=whole.settings.changed(config=config))
            parts = [Part(name, seed) for name in names for seed in range(plan.seeds)]
            runs = run_parts(here, parts, self.engine, self.say)
            marks = {name: [[p.mark for p in run.predictions] for run in runs if run.arm == name] for name in names}
            return {name: np.array(rows, dtype=np.float64) for name, rows in marks.items()}

        names = [candidate.name for candidate in made.candidates]
        return halve(names, [name for name in names if stays(name)], plan, answers, clusters)

    def confirm(self, scored: QATable, made: Made, nominee: Candidate, plan: Plan) -> tuple[Outcome, Validation]:
        """The nominee, a random part of its size and all of the data, with other seeds, on the part not looked at."""
        rows = made.tables[nominee.name].num_rows
        tables = {nominee.name: made.tables[nominee.name], WHOLE: made.tables[WHOLE]}
        itself = nominee.name.startswith(RANDOM)
        if not itself:
            tables["random"] = Candidate("random", {**_inside(nominee), "random": rows}).chosen(scored).table("random")
        self.say(f"confirming {nominee.name} on {len(self.parts.confirm)} other questions")
        settings = self.validating
        options = settings.changed(knowledge=None, config=settings.config.changed(max_steps=plan.steps)).given()
        options["seeds"] = list(range(FRESH, FRESH + plan.confirm_seeds))
        found = validate(
            tables,
            eval=self.parts.confirm,
            model=self.model,
            output=self.folder / "confirm",
            force=True,
            progress=self.say,
            **options,
            **self.engine.given(),
        )
        weights = equal_mix([found.inputs.answer(e) for e in found.inputs.test.examples])
        cost = seen(found, nominee.name) / seen(found, WHOLE)
        outcome = confirmed(found.marks, nominee.name, None if itself else "random", found.clusters, cost, weights)
        return outcome, found

    def recipe(self, chosen: Candidate, made: Made, plan: Plan) -> dict[str, Any]:
        """What makes the recommended split again, and validates it on the questions of the confirmation."""
        names = self.parts.pool.schema.names
        there = [f"{SCORE_PREFIX}{score}" in names for score in self.scores]
        by = [f"column:{SCORE_PREFIX}{s}" if t else b for t, s, b in zip(there, self.scores, self._by, strict=True)]
        called = {s: f"{SCORE_PREFIX}{s}" if t else s for t, s in zip(there, self.scores, strict=True)}
        rows = made.tables[chosen.name].num_rows
        random = {} if "random" in chosen.selection or chosen.name == WHOLE else {"random": rows}
        selection = {**chosen.selection, **random, "whole": True}
        selection["by"] = [called[score] for score in as_tuple(selection["by"])]
        said = self.settings
        return {
            "description": f"What curate search recommends for {Path(self.model).name}: {chosen.name}",
            "model": {"name": self.model, "revision": said.revision, "device": said.device},
            "dataset": {
                "train": str(self.folder / "pool.parquet"),
                "test": str(self.folder / "confirm.parquet"),
                "template": said.template,
                "system": said.system,
            },
            "estimators": {"by": by, **{n: v for n, v in self.score_options.items() if n in ("shots", "dtype")}},
            "selection": selection,
            "finetuning": said.config.changed(max_steps=plan.steps).given(),
            "validation": {"seeds": said.confirm_seeds, "metric": said.metric, "dtype": said.dtype},
        }

    def described(self) -> dict[str, Any]:
        """What a search would do and take at most, if no candidate is dropped, after a minute of measuring."""
        if not self.missing:
            self.say_hint(self.parts.pool)
        pace = self.pace()
        plan = self.fitted(pace)
        seconds = self.seconds(plan, pace)
        return {
            "candidates": plan.candidates,
            "schedule": [asdict(rung) for rung in plan.shortest],
            "steps": plan.steps,
            "examples_seen": plan.steps * plan.batch_size,
            "parts": self.sizes(),
            "scoring": self.missing,
            "trainings": plan.most.trainings,
            "tokens": self.tokens(plan.most),
            "seconds": round(seconds),
            "time": spoken(seconds),
            "share": round(plan.most.trained / plan.in_full.trained, 3),
        }


def cost(plan: Plan, halving: Halving, found: Validation | None) -> dict[str, Any]:
    """What was done beside validating every candidate in full; `share` is that of the examples trained on."""
    done, full = halving.work(plan) + plan.confirming(len(found.inputs.arms) if found else 0), plan.in_full
    return {
        "examples_seen": plan.steps * plan.batch_size,
        **_counted(done),
        "in_full": _counted(full),
        "share": done.trained / full.trained,
    }


def _counted(work: Work) -> dict[str, int]:
    return {"trainings": work.trainings, "trained": work.trained, "passes": work.passes}


def _inside(candidate: Candidate) -> dict[str, Any]:
    """What a random part of a candidate's size has in common with it."""
    return {name: candidate.selection[name] for name in ("by", "stratify_by", "seed") if name in candidate.selection}


def seen(found: Validation, arm: str) -> float:
    """Steps that an arm trained before it stopped, mean of the seeds."""
    return float(np.mean([run.training[-1]["step"] if run.training else run.steps for run in found.of(arm)]))
