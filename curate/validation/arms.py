"""The arms, the test set, and what they share."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.files import manifest_path
from curate.data.formats import data_suffix
from curate.data.ids import number_repeats
from curate.data.sources import find_files
from curate.data.table import QATable, read
from curate.errors import ColumnError, DataError
from curate.prompts import DEFAULT, Template, solution
from curate.records import PAPER_ORDER, Example, is_untouched
from curate.selection.ranking import random_rows
from curate.selection.select import SCORE_PREFIX, score_column, score_values
from curate.validation.statistics import popularity_percentiles


@dataclass(frozen=True)
class TestSet:
    """The examples every arm is tested on, with their popularity percentiles (NaN where unknown)."""

    examples: Sequence[Example]
    percentiles: NDArray[np.float64]
    popularity: str | None
    unusable: int
    __test__ = False  # not a test case, whatever pytest makes of the name


def make_test_set(
    data: QATable, by: str | None = None, limit: int | None = None, template: Template = DEFAULT
) -> TestSet:
    """The usable examples of an evaluation set (a sample of `limit`), with percentiles if it has a score."""

    examples = data.examples()
    column = popularity_column(data, by)
    scores = np.full(len(data), np.nan) if column is None else score_values(data.table, column)
    popularity = {example.id: score for example, score in zip(examples, scores, strict=True)}
    usable = usable_examples(examples, template)
    if not usable:
        raise DataError(f"{data.name} has no example with a question and an answer to test on.")
    tested = sample(usable, limit)
    percentiles = popularity_percentiles(np.array([popularity[e.id] for e in tested]), [e.id for e in tested])
    return TestSet(tested, percentiles, column, len(examples) - len(usable))


def popularity_column(data: QATable, by: str | None) -> str | None:
    """The column of an evaluation set that tells popularity: a score, any column of numbers by name, or none."""

    names = data.table.column_names
    if by is not None and f"{SCORE_PREFIX}{by}" not in names:
        column = by.removeprefix("column:")
        if column not in names:
            raise ColumnError(
                f"{data.name} has no score and no column named {by!r}.",
                expected=f"one of its columns: {', '.join(names)}",
                try_next="--by NAME, with a column of numbers, higher for better known",
            )
        kind = data.table.schema.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise ColumnError(
                f"The column {column!r} of {data.name} holds {kind}, not numbers.",
                expected="a column of numbers, higher for better known",
                try_next="--by NAME, with such a column",
            )
        return column
    if by is None and not any(name.startswith(SCORE_PREFIX) for name in names):
        return None
    return score_column(data.table, by, data.name)


def count_leakage(arms: Sequence[Arm], test: TestSet) -> dict[str, dict[str, int]]:
    """For each arm, how many test examples share their question, and how many their subject, with its training set.

    Capitals and white space make no difference.
    """
    counts = {}
    for arm in arms:
        questions = {_folded(e.question) for e in arm.examples}
        subjects = {_folded(e.subject) for e in arm.examples if e.subject}
        counts[arm.name] = {
            "question": sum(_folded(e.question) in questions for e in test.examples),
            "subject": sum(_folded(e.subject) in subjects for e in test.examples if e.subject),
        }
    return counts


def _folded(text: str) -> str:
    """Capitals and white space aside."""
    return " ".join(text.casefold().split())


BINS = 24


def popularity_of(splits: Any, test: QATable, column: str | None) -> dict[str, Any] | None:
    """Histograms of `column` in every split that has it and in the test set; None without such a column."""
    if column is None:
        return None
    tables = {name: read(data).table for name, data in named_splits(splits).items()} | {"test": test.table}
    values = {name: score_values(table, column) for name, table in tables.items() if column in table.column_names}
    return histograms(values, column)


def histograms(values: Mapping[str, NDArray[np.float64]], column: str) -> dict[str, Any] | None:
    """Shares of each arm's examples in bins that all arms have in common: `edges` (E+1), `shares` {arm: E}.

    Bins are even, or even on a logarithmic scale (`log`) when the largest value, none being negative, is over a
    hundred times the median: raw page views are like that, their logarithms are not.
    """

    measured = {name: found[np.isfinite(found)] for name, found in values.items()}
    measured = {name: found for name, found in measured.items() if len(found)}
    if not measured:
        return None
    everything = np.concatenate(list(measured.values()))
    low, high = float(everything.min()), float(everything.max())
    high = max(high, low + 1e-9 * max(1.0, abs(low)))  # all the same: bins need some width
    log = low >= 0 and high > 100 * max(1.0, float(np.median(everything)))
    edges = np.expm1(np.linspace(np.log1p(low), np.log1p(high), BINS + 1)) if log else np.linspace(low, high, BINS + 1)
    edges[0], edges[-1] = low, high
    shares = {name: (np.histogram(found, edges)[0] / len(found)).tolist() for name, found in measured.items()}
    return {"column": column, "log": bool(log), "edges": edges.tolist(), "shares": shares}


@dataclass(frozen=True)
class Arm:
    """A finetuning set: its name, its usable examples, and how many had no question or no answer."""

    name: str
    examples: Sequence[Example]
    unusable: int = 0

    def fingerprint(self) -> str:
        """A hash of what would be trained on."""
        return fingerprint_examples(self.examples)


def read_arms(splits: Any, limit: int | None = None, template: Template = DEFAULT) -> list[Arm]:
    """One arm a split: from a folder of splits, one or more files, a mapping of name to data, or a Selection.

    top, random, bottom and whole come first, in this order; other names follow as they are sorted. `limit` takes
    a sample of that many examples of each.
    """
    named = named_splits(splits)
    for name in named:
        if not re.fullmatch(r"[\w.+ -]+", name) or name.startswith("."):
            raise DataError(
                f"A split cannot be named {name!r}.",
                expected="letters, digits, dots, dashes: it becomes a folder's name",
            )
        if is_untouched(name):
            raise DataError(f"A split is named {name!r}.", expected="another name; base is the untouched model")
    rank = {name: i for i, name in enumerate(PAPER_ORDER)}
    names = sorted(named, key=lambda name: (rank.get(name, len(rank)), name))
    return [make_arm(name, read(named[name]).examples(), limit, template) for name in names]


def make_arm(name: str, examples: Sequence[Example], limit: int | None = None, template: Template = DEFAULT) -> Arm:
    """An arm of the examples that have a question and an answer; DataError if there are too few to train on."""
    usable = usable_examples(examples, template)
    if len(usable) < 2:
        where = " among its choices" if template.multiple_choice else ""
        raise DataError(
            f"The split {name!r} has {len(usable)} example(s) with a question and an answer{where}.",
            expected="at least 2, since a part is held out for early stopping",
        )
    return Arm(name, sample(usable, limit), len(examples) - len(usable))


def usable_examples(examples: Sequence[Example], template: Template = DEFAULT) -> list[Example]:
    """The examples that have a question and an answer; in multiple choice, one that is among their choices."""
    return [example for example in examples if example.question and solution(template, example) is not None]


def sample(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """At most `limit` examples in their order, drawn by id, so the same whenever the same examples are given."""
    if limit is None:
        return list(examples)
    rows = sorted(random_rows([e.id for e in examples], limit, seed=0))
    return [examples[row] for row in rows]


def fingerprint_examples(examples: Sequence[Example]) -> str:
    """A hash of all of them, in order: a template may name subject and relation, and both are looked at."""
    digest = hashlib.sha256()
    for e in examples:
        content = (e.id, e.question, e.answers, e.choices, e.subject, e.relation)
        digest.update(repr(content).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def named_splits(splits: Any) -> Mapping[str, Any]:
    """The data of every split by its name, as it was given."""
    if isinstance(splits, (str, Path)):
        splits = [splits]
    if isinstance(splits, Mapping):
        return splits
    if hasattr(splits, "splits") and hasattr(splits, "table"):  # a Selection
        return {name: splits.table(name) for name in splits}
    if not isinstance(splits, (list, tuple)) or not all(isinstance(item, (str, Path)) for item in splits):
        raise DataError(
            f"A {type(splits).__name__} of data does not say what its arms are called.",
            expected="a folder of splits, files, a mapping of name to data, or what curate.select returned",
            try_next='validate({"top": data, …}, …)',
        )
    files = [path for item in splits for path in _files(str(item))]
    same = [path for path, count in Counter(path.resolve() for path in files).items() if count > 1]
    if same:
        raise DataError(
            f"The split {same[0].name} is named twice.",
            expected="every split once: an arm beside itself would be finetuned twice for a difference of nothing",
            try_next="--seeds, for more finetunings of every arm",
        )
    stems = [path.name.removesuffix("".join(path.suffixes)) for path in files]
    return dict(zip(number_repeats(stems), files, strict=True))


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


def _for_evaluation(path: Path) -> bool:
    manifest = manifest_path(path)
    if not manifest.is_file():
        return False
    selection = json.loads(manifest.read_text(encoding="utf-8")).get("selection") or {}
    return bool(selection.get("use") == "evaluation")
