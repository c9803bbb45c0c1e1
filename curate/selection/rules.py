"""What the settings of a selection mean: which splits are asked for, and of what."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

from curate.data.table import QATable
from curate.errors import SelectionError, setting
from curate.selection.groups import WORDS, class_word
from curate.selection.ranking import SCORE_PREFIX, Size, parse_band, parse_size
from curate.settings import SelectSettings


@dataclass(frozen=True)
class Rules:
    """What the settings of a selection mean: their texts parsed, what is left open filled in, contradictions refused.

    `asked` are the training splits to make, by their names; `stratify_by` names what the strata are made of.
    """

    settings: SelectSettings
    asked: Mapping[str, Asked]
    by: tuple[str, ...]
    where: Mapping[str, tuple[str, ...]]
    stratify_by: tuple[str, ...]
    min_known: tuple[str, Fraction] | None
    min_score: float | None
    max_score: float | None
    holdout: Size | None
    holdout_by: str

    @classmethod
    def of(cls, settings: SelectSettings) -> Rules:
        """SelectionError for what cannot be meant."""
        rules = cls(
            settings,
            asked=parse_asked(settings),
            by=as_tuple(settings.by),
            where=parse_where(settings.where),
            stratify_by=tuple(name.strip() for names in as_tuple(settings.stratify_by) for name in names.split(",")),
            min_known=None if settings.min_known is None else parse_guard(settings.min_known),
            min_score=_number("min_score", settings.min_score),
            max_score=_number("max_score", settings.max_score),
            holdout=None if settings.holdout is None else parse_size(settings.holdout, "holdout"),
            holdout_by=settings.holdout_by,
        )
        rules._check()
        if rules.asked:
            return rules
        return replace(rules, asked=HALVES if settings.controlled_by else {"whole": Asked("whole", True)})

    def _check(self) -> None:
        asked, settings = self.asked, self.settings
        if self.holdout is None and self.holdout_by != "subject":
            raise SelectionError(
                f"{setting('holdout_by')} without {setting('holdout')} does nothing.",
                try_next=f"{setting('holdout', 0.2)} {setting('holdout_by', '…')}",
            )
        if settings.budget_tokens is not None and settings.tokenizer is None:
            raise SelectionError(
                f"{setting('budget_tokens')} needs a tokenizer to count with.",
                expected="the folder or Hub id of the model that will be finetuned",
                try_next=f"{setting('budget_tokens', settings.budget_tokens)} {setting('tokenizer', 'MODEL')}",
            )
        repeated = next((name for name in self.by if self.by.count(name) > 1), None)
        if repeated is not None:
            again = setting("by", repeated)
            raise SelectionError(f"{again} is given twice.", expected="each score once", try_next=again)
        filters = (self.where, settings.dedup, self.min_score is not None, self.max_score is not None, self.holdout)
        if not asked and not any(filters) and not settings.controlled_by:
            sizes = ", ".join(setting(name, 0.3) for name in ("top", "bottom", "random"))
            raise SelectionError(
                "Nothing was asked for.", try_next=f"{sizes}, {setting('band', '30:70')} or {setting('whole')}"
            )
        if settings.controlled_by and self.stratify_by not in ((), (settings.controlled_by,)):
            raise SelectionError(
                f"{setting('controlled_by')} takes its halves inside its own groups, "
                f"not inside those of {setting('stratify_by')}.",
                expected="one of the two",
            )
        if settings.size is not None and settings.mix is None:
            raise SelectionError(
                f"{setting('size', settings.size)} is that of a {setting('mix')}, and none is asked for.",
                try_next=f"{setting('mix', 'maybe=0.7,highly=0.3')} {setting('size', settings.size)}",
            )
        if settings.budget_tokens is not None and (settings.stratify_by or settings.controlled_by):
            raise SelectionError(
                "A token budget is spent on the best known rows first, so it cannot be shared out over groups.",
                expected=f"{setting('budget_tokens')} without {setting('stratify_by')} and {setting('controlled_by')}",
            )
        low, high = self.min_score, self.max_score
        if low is not None and high is not None and low > high:
            raise SelectionError(
                f"{setting('min_score', low)} is above {setting('max_score', high)}.", expected="the lower one first"
            )

    @property
    def training(self) -> list[str]:
        """The names of the splits to train on."""
        return [*self.asked]

    def for_table(self, data: QATable) -> Rules:
        """`--holdout 0.2 --by subject`: a `by` that names no score but a role or a column tells what is held out."""
        scores = {name for name in data.schema.names if name.startswith(SCORE_PREFIX)}
        scores |= {name.removeprefix(SCORE_PREFIX) for name in scores}
        columns = {role for role, name in data.roles.as_dict().items() if name} | {*data.schema.names}
        keys = [name for name in self.by if name in columns - scores]
        if self.holdout is None or not keys:
            return self
        return replace(self, by=tuple(name for name in self.by if name not in keys), holdout_by=keys[-1])

    def described(self) -> dict[str, Any]:
        """What was given of all that narrows the pool or shares it out, for the manifest."""
        given: dict[str, Any] = {
            "where": {column: list(values) for column, values in self.where.items()} or None,
            "min_score": self.min_score,
            "max_score": self.max_score,
            "stratify_by": ",".join(self.stratify_by) or None,
            "controlled_by": self.settings.controlled_by,
            "dedup": self.settings.dedup,
            "min_known": self.settings.min_known,
            "sizes": self.settings.sizes and list(self.settings.sizes),
            "holdout": self.holdout and {"size": str(self.holdout), "by": self.holdout_by},
        }
        return {name: value for name, value in given.items() if value is not None}


def as_tuple(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """One text, or several, or none, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise SelectionError(f"{setting(name, value)} is not a number.", expected="a score")
    return number


def parse_tokens(value: Any) -> int:
    """A budget of tokens; SelectionError for what is no whole number above 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or not number.is_integer():
        raise SelectionError(
            f"{setting('budget_tokens', value)} buys nothing.", expected="a whole number of tokens above 0"
        )
    return int(number)


class Asked(NamedTuple):
    """One split that is asked for: by which of SPLITS, `what` of it, and, if it is a smaller one, `within` which."""

    rule: str
    what: Any
    within: str | None = None


@dataclass(frozen=True)
class Drawn:
    """All rows of something (a band, classes, a mix of classes), or so many drawn from them."""

    of: Any
    size: int | None = None

    def __str__(self) -> str:
        what = self.of
        if isinstance(what, Mapping):
            what = ",".join(f"{word}={share:g}" for word, share in what.items())
        elif isinstance(what, tuple):
            what = ",".join(what)
        return f"{what}{'' if self.size is None else f' × {self.size}'}"


def parse_asked(settings: SelectSettings) -> dict[str, Asked]:
    """The splits that are asked for, by their names; before each the smaller ones of `sizes`, if they are asked for."""
    asked: dict[str, Asked] = {}
    given = {name: value for name in SPLITS if (value := getattr(settings, name)) is not None and value is not False}
    sizes = settings.sizes or ()
    if list(sizes) != sorted(set(sizes)):
        raise SelectionError(
            f"{setting('sizes', ','.join(map(str, sizes)))} do not lie each within the next.",
            expected="different sizes, the smallest first",
            try_next=setting("sizes", ",".join(map(str, sorted(set(sizes))))),
        )
    found = {rule: SPLITS[rule](value) for rule, value in given.items()}
    if not any(isinstance(what, (Size, Drawn)) for whats in found.values() for what in whats.values()):
        asked = {f"top-{k}": Asked("top", Size(count=k), "top") for k in sizes}
    for rule, whats in found.items():
        for name, what in whats.items():
            if isinstance(what, (Size, Drawn)):
                asked |= {f"{name}-{k}": Asked(rule, _of_size(what, k), name) for k in sizes}
            if rule != "mix":
                asked[name] = Asked(rule, what)
            elif settings.size is not None:
                asked[name] = Asked(rule, _of_size(what, settings.size))
    if settings.mix is not None and settings.size is None and not sizes:
        raise SelectionError(
            f"{setting('mix')} does not say how many rows to draw.",
            try_next=f"{setting('mix', 'maybe=0.7,highly=0.3')} {setting('size', 2000)}",
        )
    return asked


def _of_size(what: Size | Drawn, k: int) -> Size | Drawn:
    return replace(what, size=k) if isinstance(what, Drawn) else Size(count=k)


def parse_bands(value: Any) -> dict[str, Drawn]:
    """One band is called `band`, several `band-20-70`, …"""
    bands = [parse_band(text) for text in as_tuple(value)]
    return {f"band-{b.low:f}-{b.high:f}" if len(bands) > 1 else "band": Drawn(b) for b in bands}


def _class(name: str, text: str) -> str:
    word = class_word(text)
    if word not in WORDS:
        raise SelectionError(
            f"There is no class {text.strip()!r} (asked for with {setting(name)}).",
            expected="one of highly, maybe, weakly, unknown",
            try_next=setting(name, {"known": "highly,maybe", "mix": "maybe=0.7,highly=0.3"}[name]),
        )
    return word


def parse_known(value: Any) -> dict[str, Drawn]:
    """Each text is a split of the rows of some classes: `known-highly-maybe`."""
    found = {}
    for text in as_tuple(value):
        words = sorted({_class("known", part) for part in text.split(",")}, key=WORDS.index)
        found["-".join(["known", *words])] = Drawn(tuple(words))
    return found


def parse_mix(value: str | Mapping[str, float]) -> Drawn:
    """`maybe=0.7,highly=0.3`, or a mapping: shares above 0 that add up to 1."""
    items = (
        value.items() if isinstance(value, Mapping) else (part.partition("=")[::2] for part in str(value).split(","))
    )
    try:
        pairs = [(_class("mix", str(word)), float(share)) for word, share in items]
    except (TypeError, ValueError):
        pairs = []
    shares = dict(pairs)
    if len(shares) < len(pairs) or not pairs or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1):
        raise SelectionError(
            f"{setting('mix', value)} is no mix of classes.",
            expected="classes, each once, with shares above 0 that add up to 1",
            try_next=setting("mix", "maybe=0.7,highly=0.3"),
        )
    return Drawn(shares)


def as_values(texts: Sequence[str]) -> str:
    """Values as a condition of `where` has them, those with a comma in double quotes."""
    return ",".join(f'"{text}"' if "," in text else text for text in texts)


def parse_guard(text: str) -> tuple[str, Fraction]:
    """`relation=0.2`: of what groups, and the least share of known rows in each."""
    name, _, share = str(text).rpartition("=")
    with suppress(ValueError, ZeroDivisionError):
        if name and 0 < Fraction(share) < 1:
            return name, Fraction(share)
    raise SelectionError(
        f"{setting('min_known', text)} is not a share of known rows.",
        expected="NAME=SHARE, a role or column and a share above 0 and below 1",
        try_next=setting("min_known", "relation=0.2"),
    )


def parse_mixes(value: str | Sequence[str] | Mapping[str, float]) -> dict[str, Drawn]:
    """One mix is called `mix`, several `mix-maybe-70-highly-30`, …"""
    mixes = [parse_mix(mix) for mix in ([value] if isinstance(value, Mapping) else as_tuple(value))]
    if len(mixes) == 1:
        return {"mix": mixes[0]}
    return {"-".join(["mix", *(f"{word}-{100 * share:g}" for word, share in mix.of.items())]): mix for mix in mixes}


def parse_where(conditions: str | Sequence[str] | Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """`relation=country,sport` as {"relation": ("country", "sport")}; the values of a repeated column add up.

    A value with a comma is put in double quotes, as in CSV. `relation!=country` is {"relation!": …}: all but these.
    """
    if isinstance(conditions, Mapping):
        several = (list, tuple, set, frozenset)
        return {c: tuple(map(str, v)) if isinstance(v, several) else (str(v),) for c, v in conditions.items()}
    parsed: dict[str, tuple[str, ...]] = {}
    for condition in [conditions] if isinstance(conditions, str) else conditions or []:
        column, _, values = condition.partition("=")
        try:
            found = tuple(value.strip() for value in next(csv.reader([values.strip()])))
        except (csv.Error, StopIteration):  # no value, or a line break outside of quotes
            found = ()
        if not (column and found):
            raise SelectionError(
                f"{setting('where', condition)} is not a condition.",
                expected="COLUMN=VALUE or COLUMN=VALUE,VALUE,…",
                try_next=setting("where", "relation=country,sport"),
            )
        parsed[column] = parsed.get(column, ()) + found
    return parsed


def _one(name: str, parse: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: parse(value)}


SPLITS: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
    "top": _one("top", partial(parse_size, name="top")),
    "bottom": _one("bottom", partial(parse_size, name="bottom")),
    "random": _one("random", partial(parse_size, name="random")),
    "band": parse_bands,
    "known": parse_known,
    "mix": parse_mixes,
    "budget_tokens": _one("budget", parse_tokens),
    "whole": _one("whole", bool),
}
"""What the settings that ask for splits ask for, by the names of the splits, in the order in which they are written."""

HALVES = {name: Asked(name, parse_size("0.5")) for name in ("top", "bottom")}
"""What is made of a controlled pool when no split was asked for."""
