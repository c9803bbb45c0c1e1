"""Running a recipe: where its data is, its steps, what is made already, and the commands they stand for."""

from __future__ import annotations

import gc
import json
import logging
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curate import __version__
from curate.checkpoint import key_of
from curate.data.files import (
    check_own_folder,
    check_writable,
    whole_folder,
    write_json,
    write_parquet,
    write_text,
)
from curate.data.formats import data_suffix
from curate.data.ids import ID_COLUMN
from curate.data.sources import SUFFIXES, commit_of, find_files, is_hub_id, is_url
from curate.data.stores import as_arrow, file_fingerprint
from curate.data.table import make_manifest, read
from curate.display import Outline, Progress, Shown
from curate.engines import processes
from curate.errors import CurateError, DataError, EstimatorError, OutputError, SettingError, as_option
from curate.estimators import find_estimator
from curate.lm.model import load_tokenizer
from curate.recipes.recipe import (
    BUNDLED,
    MAPPING,
    SECTION_OF,
    Reader,
    Recipe,
    RunSettings,
    check,
    in_recipe_words,
    local_path,
    recipe_text,
)
from curate.scoring import score
from curate.selection.groups import rows_with
from curate.selection.ranking import as_float, random_rows
from curate.selection.rules import Rules
from curate.selection.select import select
from curate.settings import FinetuneConfig, ReadSettings, SelectSettings, ValidateSettings, grid, takes
from curate.summary import overlap, rank_correlation
from curate.validation.results import Validation
from curate.validation.validate import validate

log = logging.getLogger("curate")

Say = Callable[[str], None]
Meter = Callable[[], AbstractContextManager[Progress | None]]
"""Opens a display of how far scoring is."""

# where the data is

ALIASES = {"validation": ("val", "valid", "dev"), "val": ("validation",), "dev": ("validation", "val")}
"""Other names that a part of a dataset goes by, where there is none of the name that was asked for."""


class Origin(NamedTuple):
    """What `curate.read` is given: a name and, on the Hub, a split."""

    name: str
    split: str | None = None


def origins(recipe: Recipe) -> dict[str, Origin]:
    """Where each kind of data comes from: `train`, and `test` and `shots` where they are data of their own."""
    train = recipe["dataset.train"]
    found = {"train": locate(train, recipe["dataset.train_split"])}
    if recipe.has_test_set:
        found["test"] = locate(recipe["dataset.test"] or train, recipe["dataset.test_split"])
    if recipe.has_shots:
        found["shots"] = locate(recipe["estimators.shots_from"] or train, recipe["estimators.shots_split"])
    return found


def locate(name: str, split: str | None) -> Origin:
    """The path or Hub id to read; a split of a local folder is the files, or the folder, of that name in it."""
    path = Path(local_path(name)).expanduser()
    if not path.exists() or split is None:
        return Origin(local_path(name), split)
    if path.is_file():
        raise DataError(
            f"{name} is one file, and the recipe takes its part {split!r}.",
            expected=f"a folder with {split}/ or {split}{SUFFIXES[0]}, or a dataset on the Hub with such a split",
            try_next="--set dataset.train_split=null, to read the whole file",
        )
    for alias in (split, *ALIASES.get(split, ())):
        if (path / alias).is_dir():
            return Origin(str(path / alias))
        inside = [p for p in sorted(path.iterdir()) if data_suffix(p) in SUFFIXES and p.name.split(".")[0] == alias]
        inside = [p for p in inside if not p.name.endswith(".manifest.json")]
        if inside:
            return Origin(str(inside[0]))
    raise DataError(
        f"The folder {name} has no part {split!r}.",
        expected=f"{split}/ or {split}{SUFFIXES[0]} in it",
        try_next=f"ls {name}, then --set dataset.train_split=NAME",
    )


def pinned(recipe: Recipe) -> Recipe:
    """The recipe with local paths made absolute and Hub names at the revision they have now.

    A name on the Hub stays as it is where the Hub cannot be asked and no copy is on this machine.
    """
    data = ("dataset.train", "dataset.test", "estimators.shots_from")
    values = {key: recipe[key] and _pinned_data(recipe[key]) for key in data}
    for key in ("model.name", "estimators.pageviews.views_from"):
        values[key] = _absolute(recipe[key]) or recipe[key]
    model, revision = recipe["model.name"], recipe["model.revision"]
    if _absolute(model) is None and is_hub_id(model):
        values["model.revision"] = commit_of(model, "model", revision) or revision
    return recipe.changed(values)


def _absolute(name: str) -> str | None:
    """The name of something on this machine (a file, a folder, a glob that finds some; bundled), None of all else."""
    if name.startswith(BUNDLED):
        return name
    path = Path(name).expanduser()
    return str(path.absolute()) if not is_url(name) and (path.exists() or find_files(name)) else None


def _pinned_data(name: str) -> str:
    """A dataset by its absolute path, or with @ and the commit."""
    found = _absolute(name)
    if found is not None or not is_hub_id(name):
        return found or name
    plain, _, asked = name.partition("@")
    revision = commit_of(plain.partition(":")[0], "dataset", asked or None)
    return f"{plain}@{revision}" if revision else name


# steps

STEPS = "steps.json"
"""Where a folder remembers them."""

MAY_BE_FILES = ("eval", "model", "template", "shots_from", "views_from", "lm_eval")
"""Settings that may name a file or folder: it matters what it holds, not where it lies."""


@dataclass(frozen=True)
class Step:
    """One step: a function, the data and the options it is given, and what it makes of them."""

    name: str
    function: Callable[..., Any]
    data: str | Path
    options: Mapping[str, Any]
    output: Path

    def made_from(self) -> str:
        """A hash of all that could change the output, once the steps before are done."""
        files = [] if is_url(str(self.data)) else find_files(str(self.data))
        options = {name: content(value) if name in MAY_BE_FILES else value for name, value in self.options.items()}
        return digest([file_fingerprint(files) if files else self.data, options])

    def run(self, **more: Any) -> Any:
        """Make the output, in place of what the step made before from something else."""
        more |= {} if self.function is prepare else {"force": True}
        return self.function(self.data, output=self.output, **self.options, **more)

    @property
    def command(self) -> str | None:
        """The command that does the same: `curate score data.parquet --by loss …`; None where there is none."""
        if self.function is prepare:
            return None
        words = ["curate", self.function.__name__, str(self.data)]
        for name, value in {**self.options, "output": self.output}.items():
            items = value if isinstance(value, (list, tuple)) else (value,)
            if items and all(type(item) in (int, float) for item in items):
                items = (",".join(map(str, items)),)
            for item in items:
                if item is False and name == "knowledge":  # the one whose default is neither yes nor no
                    words.append(as_option("no_knowledge", ""))
                elif item is not None and item is not False:
                    words += [as_option(name, "")] if item is True else [as_option(name, ""), str(item)]
        return shlex.join(words)


def digest(content: Any) -> str:
    """A hash of settings and fingerprints, and of the version of curate."""
    return key_of(__version__, content)[:16]


def content(value: Any) -> Any:
    """A setting as it matters: of a file, or of the files that lie directly in a folder, a hash."""
    if isinstance(value, (list, tuple)):
        return [content(item) for item in value]
    path = Path(str(value))
    if path.is_file():
        return file_fingerprint([path])[:16]
    if not value or not path.is_dir():
        return str(value)
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    return digest([(file.name, file_fingerprint([file])) for file in files])


class Ledger:
    """The steps that are done in a folder; OutputError if it is somebody else's or cannot be written."""

    def __init__(self, folder: Path) -> None:
        check_own_folder(folder, STEPS, "curate run")
        self.path = folder / STEPS
        self.done: dict[str, dict[str, str]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):  # without it, or if it is damaged, nothing is done
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            self.done = {name: {key: kept[name][key] for key in ("made_from", "output")} for name in kept}

    def has(self, step: Step) -> bool:
        """Whether what the step makes is there, made from the same, and untouched since."""
        kept = self.done.get(step.name)
        return (
            kept is not None
            and step.output.exists()
            and kept["output"] == content(step.output)
            and kept["made_from"] == step.made_from()
        )

    def run(self, steps: Iterable[Step], do: Callable[[Step], None], say: Say) -> None:
        """Do what is not done, in order."""
        for step in steps:
            if self.has(step):
                say(f"{step.name}: done earlier ({step.output})")
                continue
            say(f"$ {step.command}" if step.command else f"{step.name}: {step.output}")
            made_from = step.made_from()
            do(step)
            self.done[step.name] = {"made_from": made_from, "output": content(step.output)}
            write_json(self.done, self.path)


def prepare(
    data: str,
    output: Path,
    where: Mapping[str, Sequence[str]],
    limit: int | None = None,
    progress: Say = lambda line: None,
    **reading: Any,
) -> None:
    """Write the rows of a dataset that meet `where`, at most `limit` of them drawn by id."""
    table = read(data, **reading)
    kept = np.ones(len(table), dtype=bool)
    for name, values in where.items():
        kept &= rows_with(table, name, values, f" of {table.name}")
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise DataError(f"No row of {table.name} meets dataset.where.", expected="conditions that some row meets")
    if limit is not None and len(rows) > limit:
        rows = rows[np.sort(random_rows([table.ids[row] for row in rows], limit, 0, "random"))]
    details = {"where": {name: list(values) for name, values in where.items()}, "limit": limit}
    details |= {"made_from": table.manifest} if table.manifest else {}
    chosen = table.table if len(rows) == len(table) else table.table.take(as_arrow(rows))
    write_parquet(chosen, output, make_manifest("run", table, **details))
    progress(f"{len(rows)} examples")


SCORED_PER_ARM = 10
"""With a limit, so many times as many examples are scored, so that a small part of them can still be an arm."""


class Work:
    """A recipe in its folder: where its files lie, and the steps that make them."""

    def __init__(self, recipe: Recipe, folder: Path, say: Say = lambda line: None, meter: Meter = nullcontext) -> None:
        self.recipe, self.folder, self.say, self.meter = recipe, folder, say, meter
        self.model = local_path(recipe["model.name"])
        self.scored, self.splits, self.run = folder / "scored.parquet", folder / "splits", folder / "run"
        by = recipe["validation.by"]
        self.test_estimator = by if recipe.has_test_set and by in recipe["estimators.by"] else None
        """What tells the popularity of a test set of its own; None if a column of it does."""
        own = folder / "test.parquet" if self.test_estimator else self.data("test")
        split = "holdout" if recipe["selection.holdout"] is not None else "test"
        self.test_set = own if recipe.has_test_set else self.splits / f"{split}.parquet"

    def data(self, part: str) -> Path:
        """The prepared rows of `train`, `test` or `shots`."""
        return self.folder / "data" / f"{part}.parquet"

    def steps(self) -> Iterator[Step]:
        """All steps, in order."""
        recipe, limit = self.recipe, self.recipe["limit"]
        reading = ReadSettings.of(recipe.section("dataset")).given()
        for part, (name, split) in origins(recipe).items():
            rows = {"train": limit and SCORED_PER_ARM * limit, "test": limit, "shots": None}[part]
            where = {} if part == "shots" else recipe["dataset.where"]
            options = {"where": where, "limit": rows, **reading, "split": split}
            yield Step(f"data {part}", prepare, name, options, self.data(part))
        yield self._scoring("score", recipe["estimators.by"], self.data("train"), self.scored)
        if self.test_estimator is not None:
            yield self._scoring("score test", (self.test_estimator,), self.data("test"), self.test_set)
        yield Step("select", select, self.scored, recipe.given("selection"), self.splits)
        asked = {**recipe.section("validation"), **recipe.section("model"), **recipe.section("finetuning")}
        form = {"template": recipe["dataset.template"], "system": recipe["dataset.system"]}
        settings = ValidateSettings.of(asked, **form, limit=limit)
        options = {"eval": self.test_set, "model": self.model, **settings.given(), "seeds": settings.seeds}
        yield Step("validate", validate, self.splits, options, self.run)

    def _scoring(self, title: str, by: tuple[str, ...], data: Path, output: Path) -> Step:
        """Scoring with what matters to these estimators and is not at its default."""
        recipe = self.recipe
        shots = str(self.data("shots")) if recipe.has_shots else None
        shared = {**recipe.section("model"), **recipe.section("estimators")}
        shared |= {"model": self.model, "shots_from": shots}
        shared |= {"template": recipe["dataset.template"], "system": recipe["dataset.system"]}
        options: dict[str, Any] = {"by": by}
        for spec in by:
            name = spec.partition(":")[0]
            own = recipe.section(f"estimators.{SECTION_OF.get(name, name)}")
            options |= find_estimator(spec)[0].Settings.of({**shared, **own}).given()
        return Step(title, score, data, options, output)

    def do(self, step: Step) -> None:
        """Do a step, and tell how it goes."""
        if step.function is score:
            load_tokenizer(self.model, self.recipe["model.revision"])  # a wrong name is told before hours of scoring
            with self.meter() as progress:
                step.run(progress=progress)
            gc.collect()  # the model that scored makes room for the one that is finetuned
        else:
            step.run(**({} if step.function is select else {"progress": self.say}))

    def summary(self) -> dict[str, Any]:
        """The outcome in short, out of the finished run."""
        found = json.loads((self.run / "summary.json").read_text(encoding="utf-8"))
        return {
            "description": self.recipe["description"],
            **{
                name: found[name]
                for name in ("verdict", "recommendation", "trial_run", "arms", "differences", "lm_eval", "warnings")
            },
            "model": found["config"]["model"],
            "curate": __version__,
            "files": {
                "recipe": "recipe.yaml",
                "scores": self.scored.name,
                "splits": f"{self.splits.name}/",
                "test": str(self.test_set.relative_to(self.folder)),
                "run": f"{self.run.name}/",
                "report": f"{self.run.name}/report.html",
            },
        }


# running


@dataclass(frozen=True, repr=False)
class RecipeRun(Shown):
    """What a recipe left in its folder: the settings as they were used, and the outcome."""

    recipe: Recipe
    folder: Path
    summary: dict[str, Any]
    """The verdict, the arms, the differences, and where everything lies."""

    def outline(self) -> Outline:
        """The accuracy of every arm, the verdict, and where the report is."""
        rows = [[row["arm"], row["n_train"], f"{100 * row['accuracy']:.1f}"] for row in self.summary["arms"]]
        title = f"Run of {self.recipe['model.name']} in {self.folder}"
        return Outline(title, ["arm", "trained on", "accuracy %"], rows, [self.summary["verdict"], str(self.report)])

    @property
    def report(self) -> Path:
        """The page of the run."""
        return self.folder / str(self.summary["files"]["report"])


@takes(RunSettings)
def run(
    recipe: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    progress: Say | None = None,
    meter: Meter | None = None,
    **options: Any,
) -> RecipeRun:
    """Run a recipe; the Python twin of `curate run`.

    `recipe` is a bundled one by name, a YAML file, or its content as a mapping. `model`, `data`, `by`, `limit` and
    `seeds` replace what it says; so does anything in `settings` (`{"selection.top": 0.3}`, or `["selection.top=0.3"]`).
    Writes `recipe.yaml` (every setting as it was used), the data, scores, splits, the run and `summary.json` to the
    folder `output`; what is there already and made from the same is kept.
    """
    if processes() > 1:
        raise SettingError(
            f"{processes()} processes run this recipe together.",
            expected="one; only the validation can be shared",
            try_next="--dry-run prints the steps as commands; torchrun can run curate validate",
        )
    resolved = resolve(recipe, **options)
    folder = Path(output)
    ledger = Ledger(folder)
    work = Work(resolved, folder, progress or log.info, meter or nullcontext)
    if resolved["curate"] not in (None, __version__):
        work.say(f"curate {resolved['curate']} wrote this recipe and this is {__version__}: numbers may differ.")
    write_json(ledger.done, folder / STEPS)
    write_text(resolved_yaml(resolved), folder / "recipe.yaml")
    try:
        ledger.run(work.steps(), work.do, work.say)
    except CurateError as error:
        raise in_recipe_words(error) from error
    summary = work.summary()
    write_json(summary, folder / "summary.json")
    return RecipeRun(resolved, folder, summary)


def plan(recipe: str | Path | Mapping[str, Any], output: str | Path, **options: Any) -> dict[str, Any]:
    """What `run` would do: each step with what it writes, whether it is done, and its command; the cost; the settings.

    A step that follows one to do counts as to do, though it may turn out to be unchanged.
    """
    resolved = resolve(recipe, **options)
    ledger, done, steps = Ledger(Path(output)), True, []
    for step in Work(resolved, Path(output)).steps():
        done = done and ledger.has(step)
        state = "done" if done else "to do"
        steps.append({"step": step.name, "state": state, "output": str(step.output), "command": step.command})
    return {"steps": steps, "cost": cost(resolved), "recipe": resolved.as_dict()}


def cost(recipe: Recipe) -> dict[str, int]:
    """How many arms there will be, finetunings of them, and trials before."""
    arms = len(Rules.of(SelectSettings.of(recipe.section("selection"))).training)
    settings = len(grid(recipe["validation.tune"], recipe.finetuning))
    return {
        "arms": arms,
        "finetunings": arms * recipe["validation.seeds"],
        "trials": arms * settings if settings > 1 else 0,
    }


def resolve(recipe: str | Path | Mapping[str, Any], **options: Any) -> Recipe:
    """The settings of a recipe with RunSettings in their place, nothing left open; RecipeError for what cannot be."""
    mapping = isinstance(recipe, Mapping)
    reader = Reader(*((json.dumps(recipe, default=str), MAPPING) if mapping else recipe_text(str(recipe))))
    for override in RunSettings.of(options).overrides():
        reader.put(*override)
    found = reader.recipe()
    check(found, reader.place)
    by = found["selection.by"] or tuple(found.score_names)  # said in full, where it was left to be the only score
    return pinned(found.changed({"selection.by": by, "validation.by": found["validation.by"] or by[0]}))


def resolved_yaml(recipe: Recipe) -> str:
    """Every setting, as YAML that gives the same run again."""
    import yaml

    head = "# Every setting as it was used. It runs again with: curate run recipe.yaml -o FOLDER\n"
    plain = json.loads(json.dumps(recipe.changed({"curate": __version__}).as_dict()))  # tuples as lists
    return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


# the demo

DEMO_SCORES = ("views", "loss")
"""What the arms can be selected by: subject frequency in pretraining, or the pretrained model's loss."""

ALONG = 300
"""Test questions asked after every epoch."""


def run_demo(
    folder: Path,
    by: str = "views",
    seeds: int = 5,
    config: FinetuneConfig | None = None,
    show_command: Say = lambda line: None,
    progress: Say = lambda line: None,
) -> tuple[Validation, dict[str, float]]:
    """Score, select and validate the bundled world in `folder`, with the settings of the recipe `world`.

    `show_command` gets the command of each step. Gives what the validation found, and how far loss agrees with views.
    """
    if by not in DEMO_SCORES:
        raise EstimatorError(f"The demo cannot select by {by!r}.", expected=f"one of {', '.join(DEMO_SCORES)}")
    check_writable(folder / "world")
    unpack_world(folder / "world")
    recipe, world = resolve("world"), folder / "world"
    scored, splits, model = folder / "scored.parquet", folder / f"splits-by-{by}", world / "model"
    scoring = {"by": ["column:views", "loss"], "model": model, "shots": 0}
    validating = {"eval": world / "test.parquet", "by": "views", "model": model, "seeds": seeds}
    validating |= {**(config or recipe.finetuning).given(), "along": ALONG}
    steps = [
        Step("score", score, world / "train.parquet", scoring, scored),
        Step("select", select, scored, {**recipe.given("selection"), "by": by}, splits),
        Step("validate", validate, splits, validating, folder / f"run-by-{by}"),
    ]
    for step in steps:
        show_command(str(step.command))
        found = step.run(**({"progress": progress} if step.function is validate else {}))
    return found, agreement_of(scored)


def unpack_world(folder: Path) -> None:
    """Copy the bundled model, questions and README to a folder, where ordinary commands can use them."""
    if folder.exists() and not (folder / "world.json").is_file():
        raise OutputError(
            f"{folder} exists and is not the bundled world.", expected="a new folder", try_next="another name for -o"
        )
    with whole_folder(folder, replace=True) as target:
        shutil.copytree(local_path(f"{BUNDLED}world"), target, dirs_exist_ok=True)


def agreement_of(scored: Path) -> dict[str, float]:
    """How far loss agrees with views: rank correlation, and the share of FT-Top they have in common."""
    tops = [select(scored, by=by, top=0.5)["top"][ID_COLUMN].to_pylist() for by in DEMO_SCORES]
    table = select(scored, by="views", whole=True)["whole"]
    views, loss = (as_float(table[f"score_{by}"]) for by in DEMO_SCORES)
    return {"rank_correlation": rank_correlation(views, loss), "top_overlap": overlap(*tops)}
