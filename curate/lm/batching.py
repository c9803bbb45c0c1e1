"""What goes through the model together: rows that serve several answers, groups that share a beginning, batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from curate.lm.encode import Encoded

LEAST_SAVED = 512
"""Tokens that must be saved before another pass through the model is worth it."""
CACHED_PER_BUDGET = 8
"""Cached tokens a batch may stand on, per token of its budget: every row of a batch has its copy of the cache."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens that go through the model once, and the answers (indices of encoded items) that are read from them."""

    ids: tuple[int, ...]
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows, sorted by their tokens, whose first `shared` tokens are the same and computed once."""

    rows: tuple[Row, ...]
    shared: int = 0


def make_rows(items: Sequence[Encoded], indices: Sequence[int]) -> list[Row]:
    """Rows for the items at `indices`, sorted by their tokens, as few as possible.

    An input that is the beginning of another needs no row of its own: every letter of a multiple-choice
    question is read from one row, and one-token answers from the row of a longer answer to the same prompt.
    """
    inputs = {i: items[i].inputs for i in indices}
    rows: list[tuple[tuple[int, ...], list[int]]] = []
    # In sorted order, whatever begins with an input comes right after it.
    for index in sorted(indices, key=inputs.__getitem__, reverse=True):
        ids = inputs[index]
        if rows and rows[-1][0][: len(ids)] == ids:
            rows[-1][1].append(index)
        else:
            rows.append((ids, [index]))
    return [Row(ids, tuple(members)) for ids, members in reversed(rows)]


def make_groups(rows: Sequence[Row], items: Sequence[Encoded]) -> list[Group]:
    """Sorted rows in groups that share a beginning worth sharing, and one group of all the rest."""
    groups: list[Group] = []
    loose: list[Row] = []
    for run in _runs(rows):
        # The token before an answer predicts it, so it must not be in the cached part.
        first_answer = min(items[i].start for row in run for i in row.items)
        shared = min(common(run[0].ids, run[-1].ids), first_answer - 1)
        if shared * (len(run) - 1) >= LEAST_SAVED:
            groups.append(Group(tuple(run), shared))
        else:
            loose.extend(run)
    if loose:
        groups.append(Group(tuple(loose)))
    return groups


def common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many first tokens two rows have in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices grouped longest first so that rows × longest row stays within the budget (one row at least)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        rows = max(1, token_budget // lengths[order[start]])
        yield order[start : start + rows]
        start += rows


def rows_that_fit(longest: int, shared: int, token_budget: int) -> int:
    """How many sequences a batch may have when its longest has `longest` tokens, the `shared` ones included."""
    by_compute = token_budget // (longest - shared)
    by_cache = CACHED_PER_BUDGET * token_budget // longest
    return max(1, min(by_compute, by_cache) if shared else by_compute)


def _runs(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Runs of neighbours: cut where they share least, again and again, while that saves enough tokens."""
    links = [common(a.ids, b.ids) for a, b in pairwise(rows)]

    def saved(start: int, end: int) -> int:
        return min(links[start : end - 1], default=0) * (end - start - 1)

    runs = [(0, len(rows))] if rows else []
    while runs:
        start, end = runs.pop()
        weakest = min(links[start : end - 1], default=0)
        cuts = [start, *(n + 1 for n in range(start, end - 1) if links[n] == weakest), end]
        parts = list(pairwise(cuts))
        if sum(saved(*part) for part in parts) - saved(start, end) >= LEAST_SAVED:
            runs.extend(reversed(parts))
        else:
            yield rows[start:end]
