"""Arms: the splits that are used as finetuning sets."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.arm_names import PAPER_ORDER, is_untouched
from curate.datasets.ids import number_repeats
from curate.datasets.read import read
from curate.datasets.sources import data_suffix, find_files
from curate.datasets.write import manifest_path
from curate.errors import DataError
from curate.prompts import DEFAULT, Template
from curate.records import Example
from curate.selection import random_rows
from curate.shots import solution


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
