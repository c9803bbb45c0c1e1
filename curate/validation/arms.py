"""What a run reads: the arms, the test set, and what they share."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.data.columns import columns_of
from curate.data.files import manifest_path, read_manifest, splits_in
from curate.data.formats import data_suffix
from curate.data.layouts import default_template
from curate.data.repeats import Held, count_ambiguous, remarks
from curate.data.sources import find_files
from curate.data.table import QATable, read_with, template_in, whole_prompts
from curate.errors import ColumnError, DataError, SettingError, setting
from curate.estimators.known import CLASSES
from curate.prompts import TEMPLATES, Template, chats_left_out, count_chats, find_template, solution
from curate.records import PAPER_ORDER, Example, is_untouched
from curate.selection.groups import CLASS_COLUMN
from curate.selection.ranking import SCORE_PREFIX, as_float, is_number, random_rows, score_column
from curate.selection.select import Selection
from curate.settings import ReadSettings, ValidateSettings
from curate.summary import bin_edges, is_skewed
from curate.validation.statistics import popularity_percentiles

BINS = 24
PLAIN, AS_REMEMBERED = ValidateSettings(), ReadSettings()


@dataclass(frozen=True)
class Arm:
    """A finetuning set: its name, its usable examples, and how many had no question or no answer."""

    name: str
    examples: Sequence[Example]
    unusable: int
    how: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """The settings of its finetuning that are its own."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all examples, in order: subject and relation too, since a template may name them."""
        digest = hashlib.sha256()
        for e in self.examples:
            content = (e.id, e.question, e.answers, e.choices, e.subject, e.relation, *([e.turns] if e.turns else ()))
            digest.update(repr(content).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class TestSet(Arm):
    """The examples every arm is tested on, with their popularity percentiles (N,), NaN where unknown.

    `popularity` is the column that the percentiles come from, None without any.
    """

    percentiles: NDArray[np.float64]
    popularity: str | None
    __test__ = False  # not a test case, whatever pytest makes of the name


@dataclass(frozen=True)
class Inputs:
    """The arms and the test set, read once, and the template that all their questions are asked with.

    `source` is the name, hash and number of rows of the evaluation set; `popularity` the histograms of the column
    `test.popularity` in every arm and in the evaluation set.
    """

    arms: Sequence[Arm]
    test: TestSet
    template: Template
    source: Mapping[str, Any]
    popularity: Mapping[str, Any] | None
    bands: Mapping[str, str] = field(default_factory=dict)
    """The class of every training example by its id, where there are classes, else its fourth by the score."""
    banded_by: str | None = None
    ambiguous: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of every arm and of `test`, how many rows of the file have an ambiguous question or subject."""

    @cached_property
    def pool(self) -> Mapping[Any, tuple[str | None, str]]:
        """Relation and answer of all that trains, in any arm, each question with its answers once."""
        return {(e.question, e.answers): self.answer(e) for arm in self.arms for e in arm.examples}

    @cached_property
    def answer_counts(self) -> NDArray[np.int64]:
        """How often the answer of each test example occurs in its relation among all that trains, in any arm. (N,)"""
        counts = Counter(self.pool.values())
        return np.array([counts[self.answer(e)] for e in self.test.examples])

    def answer(self, example: Example) -> tuple[str | None, str]:
        """Relation and answer, the one that trains, as questions are told apart by; in multiple choice the letter."""
        relation = None if self.template.multiple_choice else example.relation
        return relation, (solution(self.template, example) or "").casefold()

    @cached_property
    def leakage(self) -> dict[str, dict[str, int]]:
        """For each arm, how many test examples share with it their question, their subject, an answer that it trains.

        Capitals and white space make no difference.
        """
        return {arm.name: Held(arm.examples).count(self.test.examples) for arm in self.arms}

    def warnings(self) -> list[str]:
        """What can be said of a run's data before anything is trained."""
        warnings = []
        for name, shared in self.leakage.items():
            if shared["question"]:
                warnings.append(f"{shared['question']} test questions are also in the training set {name}.")
            elif shared["subject"]:
                warnings.append(f"{shared['subject']} test examples ask about a subject that {name} trains on.")
            if shared["answer"]:
                warnings.append(f"{shared['answer']} test examples have an answer that {name} trains on.")
        for name, found in self.ambiguous.items():
            warnings += remarks(found, f" of {'the test set' if name == 'test' else name}")
        for a, b in arms_alike(self.arms):
            warnings.append(f"{a} and {b} train on the same examples: what differs between them is chance.")
        for arm in self.arms:
            if arm.unusable:
                warnings.append(f"{arm.unusable} examples of {arm.name} have no question or no answer.")
        if self.test.unusable:
            warnings.append(f"{self.test.unusable} test examples have no question or no answer.")
        chats = count_chats(example.turns for arm in (*self.arms, self.test) for example in arm.examples)
        warnings += chats_left_out(chats, self.template, "arms and test set")
        if self.test.popularity is None:
            warnings.append("The test set has no score, so there are no curves by popularity; see --by.")
        return warnings


def arms_alike(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """The pairs of arms that train on the same examples, whatever the order and the ids."""
    rows = {arm.name: Counter((e.question, e.answers, e.choices) for e in arm.examples) for arm in arms if not arm.how}
    return [(a, b) for a, b in combinations(rows, 2) if rows[a] == rows[b]]


def read_inputs(
    splits: Any, eval: Any, settings: ValidateSettings = PLAIN, reading: ReadSettings = AS_REMEMBERED
) -> Inputs:
    """Read all data of a run; DataError for splits or a test set that cannot be read.

    Where no test set is given it is the one that was selected beside the splits: `holdout`, else `test`; of a mapping
    the one of that name.
    One arm a split: from a folder of splits, one or more files, a mapping of name to data, or a Selection. top, random,
    bottom and whole come first, in this order; other names follow as they are sorted. `limit` takes a seeded sample of
    that many examples of each arm and of the test set. `reading` is for the test set, and for splits that do not
    remember their columns.
    """
    if eval is None and isinstance(splits, Mapping) and (own := _test_name(splits)):
        eval, splits = splits[own], {name: part for name, part in splits.items() if name != own}
    data, limit = read_with(own_test_set(splits) if eval is None else eval, reading), settings.limit
    tables = read_splits(splits, reading.changed(split=None))
    form = one_template(settings, {**tables, "the test set": data})
    rank = {name: i for i, name in enumerate(PAPER_ORDER)}
    tables = dict(sorted(tables.items(), key=lambda split: (rank.get(split[0], len(rank)), numbers_in_order(split[0]))))
    arms = [make_arm(name, table, form, limit) for name, table in tables.items()]
    for arm in arms:
        if len(arm.examples) < 2:
            where = " among its choices" if form.multiple_choice else ""
            raise DataError(
                f"The split {arm.name!r} has {len(arm.examples)} example(s) with a question and an answer{where}.",
                expected="at least 2, since a part is held out for early stopping",
            )
    test = make_test_set(data, form, settings.by, limit)
    ambiguous = {name: count_ambiguous(table) or {} for name, table in {**tables, "test": data}.items()}
    source = {"name": data.name, "sha256": data.fingerprint, "rows": len(data)}
    popularity = histograms({**tables, "test": data}, test.popularity)
    bands, banded_by, scores = training_bands(tables, test.popularity)
    arms = [ordered(arm, settings, scores) for arm in [*arms, *arms_otherwise(arms, settings.arm)]]
    return Inputs(arms, test, form, source, popularity, bands, banded_by, ambiguous)


def numbers_in_order(name: str) -> list[tuple[int, str]]:
    """What sorts names as people do: `top-60` before `top-240`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def one_template(settings: ValidateSettings, tables: Mapping[str, QATable]) -> Template:
    """What all questions of a run are asked with: the template asked for, the one that the files' manifests tell, else
    the one that suits their layouts (`mmlu` for choices, else `qa`). DataError where two of them differ. A chat
    template is that of the model at hand, whichever model the scores are of.
    """
    asked, system = settings.template, settings.system
    told = {f"the manifest of {name}": template_in(data.manifest) for name, data in tables.items()}
    found = {what: template for what, template in told.items() if template is not None}
    if asked is not None:
        form = find_template(asked, system)
        form = form.with_choices() if any(data.roles.choices for data in tables.values()) else form
        found = {setting("template", asked): form, **found}
    elif not found:
        found = {f"the layout of {name}": TEMPLATES[default_template(data.roles)] for name, data in tables.items()}
    (first, template), *others = found.items()
    template = find_template(template.as_asked, system)
    for what, other in others:
        if other.as_asked.texts != template.texts:
            raise DataError(
                f"There are two templates: {template.name!r} ({first}) and {other.name!r} ({what}).",
                expected="one for the scores, the finetuning and the test",
                try_next=setting("template", other.name) if asked else f"all of them with one {setting('template')}",
            )
    return template


def questions_of(data: QATable, template: Template) -> list[Example]:
    """The examples of a table; where its questions are whole prompts, with what was asked in them.

    DataError for a split that was written for a trainer and no longer tells its questions or choices.
    """
    examples = data.examples()
    if "export" not in data.manifest or not (whole_prompts(data.manifest) or template.multiple_choice):
        return examples
    asked = [(example, template.question_in(example.question)) for example in examples]
    if any(question is None for _, question in asked):
        format = data.manifest["export"]["format"]
        raise DataError(
            f"{data.name} was written with {setting('format', format)}: what is asked cannot be told from its prompts.",
            expected=f"splits as {setting('format', 'original')} writes them",
            try_next="curate select once more, without --format",
        )
    return [replace(example, question=str(question)) for example, question in asked]


def make_arm(name: str, data: QATable, template: Template, limit: int | None = None) -> Arm:
    """The examples that have a question and an answer; in multiple choice, one that is among their choices.

    With a `limit` at most so many of them in their order, drawn by id, so the same whenever the same examples are
    given. By another hash than the split `random` was drawn by: its sample would else be that of `whole`.
    """
    examples = questions_of(data, template)
    usable = [example for example in examples if example.question and solution(template, example) is not None]
    rows = range(len(usable)) if limit is None else sorted(random_rows([e.id for e in usable], limit, 0, "limit"))
    return Arm(name, [usable[row] for row in rows], len(examples) - len(usable))


def make_test_set(data: QATable, template: Template, by: str | None = None, limit: int | None = None) -> TestSet:
    """The same of an evaluation set, with percentiles if it has a score; DataError if there is nothing to test on."""
    column = popularity_column(data, by)
    asked = make_arm(data.name, data, template, limit)
    if not asked.examples:
        raise DataError(f"{data.name} has no example with a question and an answer to test on.")
    ids = [example.id for example in asked.examples]
    scores = np.full(len(data), np.nan) if column is None else as_float(data.column(column))
    popularity = dict(zip(data.ids, scores, strict=True))
    percentiles = popularity_percentiles(np.array([popularity[id] for id in ids]), ids)
    return TestSet(data.name, asked.examples, asked.unusable, percentiles, column)


def popularity_column(data: QATable, by: str | None) -> str | None:
    """The column of an evaluation set that tells popularity: a score, any column of numbers by name, or none."""
    names = data.schema.names
    if by is None and not any(name.startswith(SCORE_PREFIX) for name in names):
        return None
    if by is None or f"{SCORE_PREFIX}{by}" in names:
        return score_column(data, by)
    column = by.removeprefix("column:")
    if columns_of(column, names) is None:
        raise ColumnError(
            f"{data.name} has no score and no column named {by!r}.",
            expected=f"one of its columns: {', '.join(names)}",
            try_next=f"{setting('by', 'NAME')}, with a column of numbers, higher for better known",
        )
    kind = data.column(column).type
    if not is_number(kind):
        raise ColumnError(
            f"The column {column!r} of {data.name} holds {kind}, not numbers.",
            expected="a column of numbers, higher for better known",
            try_next=f"{setting('by', 'NAME')}, with such a column",
        )
    return column


def histograms(tables: Mapping[str, QATable], column: str | None) -> dict[str, Any] | None:
    """Shares of each table's rows in bins that all have in common: `edges` (E+1), `shares` {name: E}.

    The bins are even, or, where the values are skewed, even on a logarithmic scale (`log`): raw page views are like
    that, their logarithms are not. None where no table has such a column, or a number in it.
    """
    values = {
        name: as_float(table.column(column))
        for name, table in tables.items()
        if column is not None and columns_of(column, table.schema.names)
    }
    finite = {name: found[np.isfinite(found)] for name, found in values.items() if np.isfinite(found).any()}
    if not finite:
        return None
    everything = np.concatenate(list(finite.values()))
    edges = bin_edges(everything, BINS)
    shares = {name: (np.histogram(found, edges)[0] / len(found)).tolist() for name, found in finite.items()}
    return {"column": column, "log": is_skewed(everything), "edges": edges.tolist(), "shares": shares}


FOURTHS = ("1st fourth", "2nd fourth", "3rd fourth", "4th fourth")
"""Of what trains by its score, the best known first."""


WAYS = {"distill": {"regularize": "distill"}, "obscure-first": {"order": "obscure-first"}}
"""Other ways to train on the same examples, by what follows the name of the split in `--arm`."""


def arms_otherwise(arms: Sequence[Arm], asked: Sequence[str]) -> list[Arm]:
    """The splits that are trained in another way too: `top+distill`. SettingError for what is no split or no way."""
    named = {arm.name: arm for arm in arms}
    found = []
    for name in dict.fromkeys(asked):
        split, *ways = name.split("+")
        if split not in named or not ways or not {*ways} <= {*WAYS} or name in named:
            raise SettingError(
                f"There is no {setting('arm', name)}.",
                expected=f"a split ({', '.join(named)}), then {' or '.join(f'+{way}' for way in WAYS)}",
                try_next=setting("arm", f"{next(iter(named))}+distill"),
            )
        how = {key: value for way in ways for key, value in WAYS[way].items()}
        found.append(Arm(name, named[split].examples, named[split].unusable, how=how))
    return found


def ordered(arm: Arm, settings: ValidateSettings, scores: Mapping[str, float]) -> Arm:
    """The arm with its least known examples first where it is to train in that order; those without a score before."""
    if {"order": settings.config.order, **arm.how}["order"] == "shuffled":
        return arm
    if not scores:
        raise SettingError(
            "The splits have no class and no score to order their examples by.",
            expected=f"splits with scores, or {setting('order', 'shuffled')}",
        )
    return replace(arm, examples=sorted(arm.examples, key=lambda e: scores.get(e.id, -math.inf)))


def training_bands(
    tables: Mapping[str, QATable], popularity: str | None
) -> tuple[dict[str, str], str | None, dict[str, float]]:
    """The class of every training example, or its fourth by the score that the splits were selected by, or else that of
    the test set; the column that tells it, None without any; and a number for each, higher for better known."""
    by = [f"{SCORE_PREFIX}{data.manifest.get('selection', {}).get('by')}" for data in tables.values()]
    scores = {name for data in tables.values() for name in data.schema.names if name.startswith(SCORE_PREFIX)}
    columns = [
        CLASS_COLUMN,
        *dict.fromkeys(by),
        *([popularity] if popularity else []),
        *(scores if len(scores) == 1 else ()),
    ]
    column = next((c for c in columns if all(columns_of(c, data.schema.names) for data in tables.values())), None)
    if column is None:
        return {}, None, {}
    if column == CLASS_COLUMN:
        cells = [zip(data.ids, data.column(column).to_pylist(), strict=True) for data in tables.values()]
        names = {id: str(name) for rows in cells for id, name in rows if name is not None}
        return names, column, {id: -float(CLASSES.index(name)) for id, name in names.items() if name in CLASSES}
    scored = {id: s for data in tables.values() for id, s in zip(data.ids, as_float(data.column(column)), strict=True)}
    percentiles = popularity_percentiles(np.array([*scored.values()]), [*scored])
    fourths = {id: FOURTHS[int(p // 25)] for id, p in zip(scored, percentiles, strict=True) if not np.isnan(p)}
    return fourths, column, {id: float(score) for id, score in scored.items() if not np.isnan(score)}


def read_splits(splits: Any, reading: ReadSettings = AS_REMEMBERED) -> dict[str, QATable]:
    """Every split by its name; DataError for data without names, or names that no arm can have."""
    named = _named_splits(splits)
    for name in named:
        if not re.fullmatch(r"[\w.+ -]+", name) or name.startswith("."):
            raise DataError(
                f"A split cannot be named {name!r}.",
                expected="letters, digits, dots, dashes: it becomes a folder's name",
            )
        if is_untouched(name):
            raise DataError(f"A split is named {name!r}.", expected="another name; base is the untouched model")
    return {name: read_with(data, reading, unless_remembered=True) for name, data in named.items()}


def _named_splits(splits: Any) -> Mapping[str, Any]:
    """The data of every split by its name, as it was given."""
    if isinstance(splits, Mapping):
        return splits
    if isinstance(splits, Selection):
        return {name: splits.table(name) for name, split in splits.splits.items() if split.use == "training"}
    items = [splits] if isinstance(splits, (str, Path)) else splits
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, (str, Path)) for item in items):
        raise DataError(
            f"A {type(splits).__name__} of data does not say what its arms are called.",
            expected="a folder of splits, files, a mapping of name to data, or what curate.select returned",
            try_next='validate({"top": data, …}, …)',
        )
    files = [path for item in items for path in _files(str(item))]
    same = [path for path, count in Counter(path.resolve() for path in files).items() if count > 1]
    if same:
        raise DataError(
            f"The split {same[0].name} is named twice.",
            expected="every split once: an arm beside itself would be finetuned twice for a difference of nothing",
            try_next=f"{setting('seeds')}, for more finetunings of every arm",
        )
    stems = [path.name.removesuffix("".join(path.suffixes)) for path in files]
    earlier = [stems[:n].count(stem) for n, stem in enumerate(stems)]
    names = [f"{stem}-{count + 1}" if count else stem for stem, count in zip(stems, earlier, strict=True)]
    return dict(zip(names, files, strict=True))


def _files(item: str) -> list[Path]:
    found = [path for path in find_files(item) if data_suffix(path) != ""]
    if Path(item).is_dir():  # a test set that curate select left beside the splits is no arm
        found = [path for path in found if not _for_evaluation(path)]
    if not found:
        raise DataError(
            f"There is no split {item!r}.",
            expected="a folder of splits, or Parquet files, that curate select wrote",
            try_next="curate select scored.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole -o splits/",
        )
    return found


def own_test_set(splits: Any) -> Any:
    """The evaluation set that was selected beside splits, in their folder or the Selection; DataError if none."""
    found: dict[str, Any] = {}
    if isinstance(splits, Selection):
        found = {name: splits.table(name) for name, split in splits.splits.items() if split.use == "evaluation"}
    elif isinstance(splits, (str, Path, list, tuple)):
        items = [splits] if isinstance(splits, (str, Path)) else splits
        folders = [Path(item).expanduser() for item in items if isinstance(item, (str, Path))]
        files = [file for folder in folders if folder.is_dir() for file in splits_in(folder) if _for_evaluation(file)]
        found = {file.name.partition(".")[0]: str(file) for file in files}
    name = _test_name(found)
    if name is None:
        raise DataError(
            "There is nothing to test on: no test set was given, and none was selected beside the splits.",
            expected=f"a QA dataset ({setting('eval', 'TESTSET')}), or a folder of splits with a holdout",
            try_next=f"curate select scored.parquet … {setting('holdout', 0.2)}, and validate what it writes",
        )
    return found[name]


def _test_name(found: Iterable[str]) -> str | None:
    return next((name for name in ("holdout", "test") if name in found), None)


def _for_evaluation(path: Path) -> bool:
    manifest = manifest_path(path)
    if not manifest.is_file():
        return False
    return bool(read_manifest(manifest).get("selection", {}).get("use") == "evaluation")
