"""What was asked for: the options of a selection, parsed and checked before anything is read."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from curate.errors import SelectionError
from curate.selection import Band, Size, parse_band, parse_size

Missing = Literal["exclude", "lowest", "error"]
MISSING: tuple[Missing, ...] = ("exclude", "lowest", "error")
Order = Literal["source", "popular-first", "obscure-first", "shuffled"]
ORDERS: tuple[Order, ...] = ("source", "popular-first", "obscure-first", "shuffled")


@dataclass(frozen=True, slots=True)
class Budget:
    """So many tokens of prompt and completion, counted by the tokenizer of `tokenizer` (a folder or Hub id)."""

    tokens: int
    tokenizer: Any

    def __str__(self) -> str:
        return f"{self.tokens} tokens"


@dataclass(frozen=True)
class Request:
    """All options of a selection; see `curate.select` for what each of them means."""

    sizes: Mapping[str, Size] = field(default_factory=dict)
    band: Band | None = None
    budget: Budget | None = None
    whole: bool = False
    by: tuple[str, ...] = ()
    missing: Missing = "exclude"
    seed: int = 0
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_score: float | None = None
    max_score: float | None = None
    stratify_by: str | None = None
    controlled_by: str | None = None
    holdout: Size | None = None
    holdout_by: str = "subject"
    order: Order = "source"

    def asks_for_splits(self) -> bool:
        """Whether any split was asked for by itself."""
        return bool(self.sizes or self.whole or self.band or self.budget)

    def filters(self) -> bool:
        """Whether the pool is narrowed, so that all that is left of it is a split worth having."""
        thresholds = self.min_score is not None or self.max_score is not None
        return bool(self.where or thresholds or self.controlled_by or self.holdout)

    def described(self) -> dict[str, Any]:
        """The options that were given and that change which rows are chosen, for the manifest."""
        given: dict[str, Any] = {
            "where": {column: list(values) for column, values in self.where.items()} or None,
            "min_score": self.min_score,
            "max_score": self.max_score,
            "stratify_by": self.stratify_by,
            "controlled_by": self.controlled_by,
            "holdout": None if self.holdout is None else {"size": str(self.holdout), "by": self.holdout_by},
        }
        return {name: value for name, value in given.items() if value is not None}


def parse_request(
    *,
    top: str | float | None = None,
    bottom: str | float | None = None,
    random: str | float | None = None,
    band: str | None = None,
    budget_tokens: int | None = None,
    tokenizer: Any = None,
    holdout: str | float | None = None,
    by: str | Sequence[str] | None = None,
    where: str | Sequence[str] | Mapping[str, Any] | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    **rest: Any,
) -> Request:
    """The options of `curate.select` as a Request; SelectionError for what cannot be meant."""
    sizes = {"top": top, "bottom": bottom, "random": random}
    if holdout is None and rest.get("holdout_by", "subject") != "subject":
        raise SelectionError("--holdout-by without --holdout does nothing.", try_next="--holdout 0.2 --holdout-by …")
    request = Request(
        sizes={name: parse_size(value, name) for name, value in sizes.items() if value is not None},
        band=None if band is None else parse_band(band),
        budget=_budget(budget_tokens, tokenizer),
        holdout=None if holdout is None else parse_size(holdout, "holdout"),
        by=(by,) if isinstance(by, str) else tuple(by or ()),
        where=_where(where),
        min_score=_number("min-score", min_score),
        max_score=_number("max-score", max_score),
        **rest,
    )
    _check(request)
    return request


WRITING = ("output", "format", "to")
"""Options of `curate.select` that say where its splits go, not which rows they have."""

SPLITS = ("top", "bottom", "random", "band", "budget_tokens", "whole")


def change(given: Mapping[str, Any], **changes: Any) -> tuple[Request, dict[str, Any]]:
    """`given`, all options there are, with some replaced, parsed and as they are to be given next time.

    Asking for any split forgets the splits asked for before; the tokenizer is remembered for a later budget.
    """
    unknown = next((name for name in changes if name not in given), None)
    if unknown is not None:
        raise SelectionError(
            f"There is nothing called {unknown!r} to select by.",
            expected=f"one of {', '.join(sorted(given))}",
            try_next="selection.reselect(…).write(OUTPUT), to write it" if unknown in WRITING else None,
        )
    forgotten = {**dict.fromkeys(SPLITS), "whole": False} if changes.keys() & set(SPLITS) else {}
    options = {**given, **forgotten, **changes}
    unused = {"tokenizer": None} if options["budget_tokens"] is None and "tokenizer" not in changes else {}
    return parse_request(**options | unused), options


def with_holdout_key(request: Request, keys: Sequence[str], scores: Sequence[str]) -> Request:
    """`--holdout 0.2 --by subject`: a --by that names no score but a role or column tells what is held out."""
    named = [name for name in request.by if name in keys and name not in scores]
    if request.holdout is None or not named:
        return request
    return replace(request, by=tuple(n for n in request.by if n not in named), holdout_by=named[-1])


def _check(request: Request) -> None:
    _one_of("missing", request.missing, MISSING)
    _one_of("order", request.order, ORDERS)
    repeated = next((name for name in request.by if request.by.count(name) > 1), None)
    if repeated is not None:
        raise SelectionError(
            f"--by {repeated} is given twice.", expected="each score once", try_next=f"--by {repeated}"
        )
    if not request.asks_for_splits() and not request.filters():
        raise SelectionError(
            "Nothing was asked for.", try_next="--top 0.3, --bottom 0.3, --random 0.3, --band 30:70 or --whole"
        )
    if request.stratify_by and request.controlled_by and request.stratify_by != request.controlled_by:
        raise SelectionError(
            "--controlled-by takes its halves inside its own groups, not inside those of --stratify-by.",
            expected="one of the two",
        )
    if request.budget and (request.stratify_by or request.controlled_by):
        raise SelectionError(
            "A token budget is spent on the best known rows first, so it cannot be shared out over groups.",
            expected="--budget-tokens without --stratify-by and --controlled-by",
        )
    for flag, value in (("min-score", request.min_score), ("max-score", request.max_score)):
        if value is not None and math.isnan(value):
            raise SelectionError(f"--{flag} {value} is not a number.", expected="a score")
    low, high = request.min_score, request.max_score
    if low is not None and high is not None and low > high:
        raise SelectionError(f"--min-score {low} is above --max-score {high}.", expected="the lower one first")


def _number(flag: str, value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise SelectionError(f"--{flag} {value!r} is not a number.", expected="a number") from None


def _one_of(flag: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SelectionError(f"--{flag} {value} is unknown.", expected=f"one of {', '.join(known)}")


def _budget(tokens: int | None, tokenizer: Any) -> Budget | None:
    number = _number("budget-tokens", tokens)
    if number is None and tokenizer is not None:
        raise SelectionError("--tokenizer without --budget-tokens does nothing.", try_next="--budget-tokens 1000000")
    if number is None:
        return None
    if number < 1 or not number.is_integer():
        raise SelectionError(f"--budget-tokens {tokens} buys nothing.", expected="a whole number of tokens above 0")
    if tokenizer is None:
        raise SelectionError(
            "--budget-tokens needs a tokenizer to count with.",
            expected="the folder or Hub id of the model that will be finetuned",
            try_next=f"--budget-tokens {tokens} --tokenizer MODEL",
        )
    return Budget(int(number), tokenizer)


def _where(conditions: str | Sequence[str] | Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """`relation=country,sport` as {"relation": ("country", "sport")}; the values of a repeated column add up.

    A value with a comma is put in double quotes, as in CSV.
    """
    if isinstance(conditions, Mapping):
        several = (list, tuple, set, frozenset)
        return {c: tuple(map(str, v)) if isinstance(v, several) else (str(v),) for c, v in conditions.items()}
    parsed: dict[str, tuple[str, ...]] = {}
    for condition in [conditions] if isinstance(conditions, str) else conditions or []:
        column, sign, values = condition.partition("=")
        if not (column and sign and values):
            raise SelectionError(
                f"--where {condition} is not a condition.",
                expected="COLUMN=VALUE or COLUMN=VALUE,VALUE,…",
                try_next="--where relation=country,sport",
            )
        parsed[column] = parsed.get(column, ()) + tuple(v.strip() for v in next(csv.reader([values.strip()])))
    return parsed
