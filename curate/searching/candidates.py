"""What is tried: rules of selection on scores, each at several sizes, or those of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.data.table import QATable
from curate.errors import CurateError, RecipeError, SelectionError, SettingError, setting
from curate.estimators.loss import LossSettings
from curate.recipes.recipe import KEYS, Reader, compose
from curate.selection.groups import CLASS_COLUMN
from curate.selection.ranking import Ranking
from curate.selection.rules import Rules, as_tuple
from curate.selection.select import Selection, choose
from curate.settings import FinetuneConfig, SelectSettings, Settings, ValidateSettings, option, same

WHOLE = "whole"
RANDOM = "random-"

ESTIMATORS = ("loss", "known")
"""What the data is scored by where it has no scores and nothing else is asked for."""


@dataclass(frozen=True)
class SearchSettings(Settings):
    """What is tried, how far, and on what questions."""

    panel = "Search"

    by: str | list[str] | tuple[str, ...] | None = option(
        None,
        "What to select by: a score that the data has, loss, known, or column:NAME. Repeatable.",
        shown_default="the scores of the data, else loss and known",
    )
    candidates: str | Path | None = option(
        None, "A YAML file of candidates of your own: NAME: {by: loss, top: 0.3}, as curate select takes them."
    )
    sizes: tuple[float, ...] = option(
        (0.125, 0.25, 0.5),
        "The sizes of the candidates, as shares of the data.",
        above=0,
        below=1,
        expected="shares: 0.25,0.5",
    )
    rungs: int = option(3, "How often candidates are compared; those left train on, the longer the fewer.", least=1)
    seeds: int = option(2, "Trainings of every candidate in the search.", least=2)
    confirm_seeds: int = option(3, "Trainings, with fresh seeds, of each of those compared in the end.", least=2)
    questions: float = option(
        0.3,
        "Share of the data, whole subjects, that is asked and never trained on: half to search, half to confirm.",
        above=0,
        below=1,
        expected="a share, such as 0.3",
    )
    budget: str | None = option(None, "Fit the plan to so much time, by a measured minute: 90m, 2h.")
    budget_tokens: int | None = option(None, "Fit the plan to so many tokens through the model.", least=1)
    shots: int | None = same(LossSettings, "shots")
    config: FinetuneConfig = field(default_factory=FinetuneConfig)
    template: str | None = same(ValidateSettings, "template")
    system: str | None = same(ValidateSettings, "system")
    dtype: str = same(ValidateSettings, "dtype")
    device: str = same(ValidateSettings, "device")
    revision: str | None = same(ValidateSettings, "revision")
    metric: str = same(ValidateSettings, "metric")
    max_new_tokens: int | None = same(ValidateSettings, "max_new_tokens")
    seed: int = option(0, "Decides what is asked, and the random draws.")

    def check(self) -> None:
        """SettingError for two budgets."""
        if self.budget is not None and self.budget_tokens is not None:
            raise SettingError(
                f"{setting('budget')} and {setting('budget_tokens')} are both given.", expected="one of the two"
            )


@dataclass(frozen=True)
class Candidate:
    """A subset to try: its name, and the settings of `curate select` that make it."""

    name: str
    selection: Mapping[str, Any]

    def chosen(self, data: QATable, ranking: Ranking | None = None, **more: Any) -> Selection:
        """The selection, with other splits (`more`) beside it; SelectionError where it cannot be made of this data."""
        return choose(data, Rules.of(SelectSettings.of({**self.selection, **more})), ranking)

    @property
    def split(self) -> str:
        """The split that it is."""
        return Rules.of(SelectSettings.of(self.selection)).training[0]


def stays(name: str) -> bool:
    """Whether a candidate is never dropped: all of the data, and random parts of it."""
    return name == WHOLE or name.startswith(RANDOM)


LEAST = 8
"""Rows that a candidate needs."""
MOST = 0.9
"""The share that all but the least known are."""
MIX = "maybe=0.7,highly=0.3"


def defaults(data: QATable, scores: Sequence[str], settings: SearchSettings) -> list[Candidate]:
    """Rules × scores × sizes, inside relations where they are known; random parts of each size, and all of it, last.

    The rules: the best known, the middle, all but the least known; of a file with classes the maybe known, and a mix of
    maybe and highly known ones.
    """
    inside = {"stratify_by": "relation"} if data.roles.relation else {}
    found, parts = list[Candidate](), list[Candidate]()
    for share in settings.sizes:
        rows, percent = round(share * len(data)), f"{100 * share:g}"
        for score in scores:
            by = {"by": score, **inside, "seed": settings.seed}
            band = f"{50 - 50 * share:.4f}:{50 + 50 * share:.4f}"
            found += [
                Candidate(f"top-{score}-{percent}", {**by, "top": rows}),
                Candidate(f"middle-{score}-{percent}", {**by, "band": band}),
            ]
        by = {"by": scores[0], **inside, "seed": settings.seed}
        if CLASS_COLUMN in data.schema.names or "known" in scores:
            found += [
                Candidate(f"maybe-{percent}", {**by, "mix": "maybe=1", "size": rows}),
                Candidate(f"mix-{percent}", {**by, "mix": MIX, "size": rows}),
            ]
        parts.append(Candidate(f"{RANDOM}{percent}", {**by, "random": rows}))
    most = round(MOST * len(data))
    found += [Candidate(f"most-{s}", {"by": s, **inside, "seed": settings.seed, "top": most}) for s in scores]
    return [*found, *parts, Candidate(WHOLE, {"by": scores[0], WHOLE: True, "seed": settings.seed})]


def asked_for(data: QATable, scores: Sequence[str], settings: SearchSettings) -> list[Candidate]:
    """The default ones, or those of a YAML file and beside them random parts and all of the data.

    Each in the file is a name and settings of `curate select` that make one split: `top-third: {by: loss, top: 0.3}`;
    RecipeError for what cannot be meant.
    """
    import yaml

    path, usual = settings.candidates, defaults(data, scores, settings)
    if path is None:
        return usual
    name = Path(path).name
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "a YAML file: NAME: {by: loss, top: 0.3}") from error
    root = compose(text, name)
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    found = [_read(str(key.value), node, scores, name) for key, node in pairs]
    if not found:
        raise RecipeError(f"{name} names no candidate.", "NAME: {by: loss, top: 0.3}, a line each")
    return [*found, *(c for c in usual if stays(c.name) and c.name not in {own.name for own in found})]


def _read(candidate: str, node: Any, scores: Sequence[str], file: str) -> Candidate:
    """One of the file's, its values read as those of a recipe are, all that can be told without the data checked."""
    import yaml

    said, text = f"{file}: {candidate}", "tag:yaml.org,2002:str"
    section = yaml.MappingNode("tag:yaml.org,2002:map", [(yaml.ScalarNode(text, "selection"), node)])
    values = Reader(yaml.serialize(section), said).values
    given = {key.partition(".")[2]: value for key, value in values.items() if value != KEYS[key].default}
    by = as_tuple(given.setdefault("by", scores[0] if len(scores) == 1 else ()))
    try:
        rules = Rules.of(SelectSettings.of(given))
    except CurateError as error:
        raise RecipeError(f"{said}: {error.found}", error.expected, error.try_next) from error
    others = [word for word in ("holdout", "controlled_by") if word in given]
    if others or len(rules.training) != 1:
        what = others[0] if others else f"{len(rules.training)} splits: {', '.join(rules.training)}"
        raise RecipeError(f"{said} asks for {what}.", "one split to train on: top, band, known, mix, …")
    unknown = next((score for score in by if score not in scores), None)
    if unknown is not None or not by:
        found = f"{said} is by {unknown!r}." if by else f"{said} does not say by which score."
        raise RecipeError(found, f"by: one of {', '.join(scores)}", setting("by", unknown or scores[0]))
    if not re.fullmatch(r"[\w.-]+", candidate):
        raise RecipeError(f"{said} cannot be called so.", "letters, digits, dots, dashes: it becomes a folder's name")
    return Candidate(candidate, given)


@dataclass(frozen=True)
class Made:
    """The candidates that this data has, with the rows of each, and why others were left out."""

    candidates: Sequence[Candidate]
    tables: Mapping[str, pa.Table]
    left_out: Mapping[str, str]


def make(data: QATable, scores: Sequence[str], settings: SearchSettings) -> Made:
    """All candidates of scored data. One of one's own that cannot be made is an error, others are left out."""
    tables, left_out, made = dict[str, pa.Table](), dict[str, str](), list[Candidate]()
    for candidate in asked_for(data, scores, settings):
        try:
            table = candidate.chosen(data).table(candidate.split)
            if table.num_rows < LEAST:
                raise SelectionError(f"It has {table.num_rows} rows.", expected=f"at least {LEAST}")
        except CurateError as error:
            if settings.candidates is not None or candidate.name == WHOLE:
                raise type(error)(f"{candidate.name}: {error.found}", error.expected, error.try_next) from error
            left_out[candidate.name] = error.found
            continue
        made.append(candidate)
        tables[candidate.name] = table
    return Made(made, tables, left_out)
