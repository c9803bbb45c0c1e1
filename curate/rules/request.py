"""What was asked for: the options of a selection, parsed and checked before anything is read."""

from __future__ import annotations

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
    **rest: Any,
) -> Request:
    """The options of `curate.select` as a Request; SelectionError for what cannot be meant."""
    sizes = {"top": top, "bottom": bottom, "random": random}
    request = Request(
        sizes={name: parse_size(value, name) for name, value in sizes.items() if value is not None},
        band=None if band is None else parse_band(band),
        budget=_budget(budget_tokens, tokenizer),
        holdout=None if holdout is None else parse_size(holdout, "holdout"),
        by=(by,) if isinstance(by, str) else tuple(by or ()),
        where=_where(where),
        **rest,
    )
    _check(request)
    return request


SPLITS = ("top", "bottom", "random", "band", "budget_tokens", "whole")


def change(request: Request, given: Mapping[str, Any], **changes: Any) -> Request:
    """The request with some options replaced; asking for any split forgets the splits asked for before.

    `given` are the options it was parsed from.
    """
    kept = {k: v for k, v in given.items() if not (changes.keys() & set(SPLITS) and k in (*SPLITS, "tokenizer"))}
    if "budget_tokens" in changes and "tokenizer" not in changes and request.budget is not None:
        kept["tokenizer"] = request.budget.tokenizer
    return parse_request(**(kept | changes))


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


def _one_of(flag: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SelectionError(f"--{flag} {value} is unknown.", expected=f"one of {', '.join(known)}")


def _budget(tokens: int | None, tokenizer: Any) -> Budget | None:
    if tokens is None:
        return None
    if tokens < 1:
        raise SelectionError(f"--budget-tokens {tokens} buys nothing.", expected="a number of tokens above 0")
    if tokenizer is None:
        raise SelectionError(
            "--budget-tokens needs a tokenizer to count with.",
            expected="the folder or Hub id of the model that will be finetuned",
            try_next=f"--budget-tokens {tokens} --tokenizer MODEL",
        )
    return Budget(int(tokens), tokenizer)


def _where(conditions: str | Sequence[str] | Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """`relation=country,sport` as {"relation": ("country", "sport")}; the values of a repeated column add up."""
    if isinstance(conditions, Mapping):
        return {c: (v,) if isinstance(v, str) else tuple(map(str, v)) for c, v in conditions.items()}
    parsed: dict[str, tuple[str, ...]] = {}
    for condition in [conditions] if isinstance(conditions, str) else conditions or []:
        column, sign, values = condition.partition("=")
        if not (column and sign and values):
            raise SelectionError(
                f"--where {condition} is not a condition.",
                expected="COLUMN=VALUE or COLUMN=VALUE,VALUE,…",
                try_next="--where relation=country,sport",
            )
        parsed[column] = parsed.get(column, ()) + tuple(value.strip() for value in values.split(","))
    return parsed
