"""Rows by relation, subject or first answer, and what is taken of every group."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.answers import answer_text, parse_answers
from curate.data.columns import column_list, columns_of, columns_read, nearest
from curate.data.ids import hash_texts
from curate.data.repeats import SHARES, Held, ambiguous
from curate.data.stores import as_arrow, as_numpy, encode, valid_rows
from curate.data.table import QATable, read
from curate.errors import ColumnError, SelectionError, setting
from curate.prompts import Patterns


@dataclass(frozen=True)
class Groups:
    """The group of every row: `codes` (N,) int32 into `labels`, which are sorted; -1 where there is none."""

    codes: NDArray[np.int32]
    labels: Sequence[str]

    @classmethod
    def of(cls, codes: NDArray[np.int32], texts: Sequence[str | None]) -> Groups:
        """Rows that are numbers into `texts` (N,), by their text; those of equal texts are one group, None is none."""
        labels = sorted({text for text in texts if text is not None})
        place = {label: i for i, label in enumerate(labels)}
        new = [-1 if text is None else place[text] for text in texts]
        return cls(np.array([*new, -1], dtype=np.int32)[codes], labels)  # the last place is where -1, no text, looks


def encoded(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[Any]]:
    """For every row the number of its value among the distinct values (null is one), and these."""
    array = encode(column).unify_dictionaries()
    if not array.num_chunks:
        return np.empty(0, dtype=np.int32), []
    values = array.chunk(0).dictionary.to_pylist()
    null = len(values)  # Arrow cannot unify dictionaries with null among their values
    codes = np.concatenate([as_numpy(chunk.indices, np.int32, null) for chunk in array.chunks])
    return codes, [*values, None] if array.null_count else values


def role_column(data: QATable, name: str, asked_by: str) -> str:
    """The column a role (`relation`) plays or that has this name; ColumnError when there is neither.

    `asked_by` is the setting that names it.
    """
    role = data.roles.as_dict().get(name)
    column = role if isinstance(role, str) else name
    if columns_of(column, data.schema.names) is None:
        close = "pattern" if (asked_by, name) == ("stratify_by", "relation") else nearest(name, data.schema.names)
        raise ColumnError(
            f"{data.name} has no column {name!r} (asked for with {setting(asked_by)}).",
            expected=f"one of its columns: {column_list(data.schema.names)}",
            try_next=setting(asked_by, f"{close}=VALUE" if asked_by == "where" else close),
        )
    return column


def groups_by(data: QATable, name: str, asked_by: str) -> Groups:
    """The rows by their text in the column that `name` is, or is the role of, or by what DERIVED makes of columns."""
    if name in DERIVED and name not in data.schema.names:
        return DERIVED[name](data)
    return groups_of(data.encoded(role_column(data, name, asked_by)), name)


def groups_by_all(data: QATable, names: Sequence[str], asked_by: str) -> Groups:
    """The rows by several of these at once: a group is `country, once`."""
    found = [groups_by(data, name, asked_by) for name in names]
    codes = np.zeros(len(data), dtype=np.int64)
    for groups in found:
        codes = codes * len(groups.labels) + groups.codes
    used, of_rows = np.unique(codes, return_inverse=True)
    parts: list[list[str]] = []
    for groups in reversed(found):
        used, own = np.divmod(used, max(1, len(groups.labels)))
        parts.insert(0, [groups.labels[code] for code in own.tolist()])
    return Groups(of_rows.astype(np.int32), [", ".join(texts) for texts in zip(*parts, strict=True)])


OFTEN: Mapping[int, str] = {1: "once", 4: "2-4", 20: "5-20", sys.maxsize: "over 20"}
"""How common an answer is in its relation: by the most that it may occur."""

NONE = "(none)"


def answer_frequency(answers: Groups, relations: Groups | None) -> Groups:
    """The rows by how often their first answer occurs in their relation, or, without relations, in all: `2-4`."""
    pairs = answers.codes.astype(np.int64)
    if relations is not None:
        pairs = pairs + (len(answers.labels) + 1) * relations.codes
    _, of_rows, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    bands = np.searchsorted([*OFTEN], counts[of_rows]).astype(np.int32)
    return Groups.of(np.where(answers.codes < 0, len(OFTEN), bands).astype(np.int32), [*OFTEN.values(), NONE])


def _by_frequency(data: QATable) -> Groups:
    answers = first_answers(data.column(data.roles.answers))
    return answer_frequency(answers, groups_by(data, "relation", "stratify_by") if data.roles.relation else None)


def answer_length(answers: Groups) -> Groups:
    """The rows by how many words their first answer has: `1 word`, `2 words`, `3 words`, `4 or more`."""
    words = [min(4, len(label.split())) for label in answers.labels]
    texts = ["1 word" if n < 2 else "4 or more" if n == 4 else f"{n} words" for n in words]
    return Groups.of(np.where(answers.codes < 0, len(texts), answers.codes).astype(np.int32), [*texts, NONE])


def question_patterns(column: pa.ChunkedArray, name: str) -> Groups:
    """The rows by the pattern of their question, `Who wrote …`, as the questions of the column have them."""
    codes, values = _plain_values(column, name)
    texts = [answer_text(value) for value in values]
    few = np.argsort(hash_texts(texts), kind="stable")[: Patterns.MOST_QUESTIONS]  # the same in any order of rows
    patterns = Patterns(texts[number] for number in few)
    return Groups.of(codes, [patterns.of(text) or NONE for text in texts])


DERIVED: Mapping[str, Callable[[QATable], Groups]] = {
    "answer-frequency": _by_frequency,
    "answer-length": lambda data: answer_length(first_answers(data.column(data.roles.answers))),
    "pattern": lambda data: question_patterns(data.encoded(data.roles.question), data.roles.question),
}
"""What groups are made of besides columns and roles, by name."""


def groups_of(column: pa.ChunkedArray, name: str) -> Groups:
    """The rows by their text in a column; null is a group of its own.

    ColumnError, with the `name` of the column, where cells are lists or structs: those are not told apart by a text.
    """
    codes, values = _plain_values(column, name)
    return Groups.of(codes, [NONE if v is None else answer_text(v) for v in values])


def rows_with(data: QATable, name: str, values: Sequence[str], of: str = "") -> NDArray[np.bool_]:
    """The rows with one of the values in a role or column, (N,); SelectionError for a value that no row `of` it has.

    Of `relation!` the rows with none of them.
    Where no column is called so, `ambiguous` is no, question or subject, and `shared:FILE` the most that a row has in
    common with the rows of a file: no, answer, subject or question.
    """
    if name.endswith("!") and name not in data.schema.names:
        return ~rows_with(data, name[:-1], values, of)
    kind, _, file = name.partition(":")
    if name not in data.schema.names and (name == "ambiguous" or (kind == "shared" and file)):
        return _told(data, name, values, read(file) if file else None)
    groups = groups_by(data, name, "where")
    used = np.flatnonzero(np.bincount(groups.codes))  # a dictionary may have values that no row has
    found = [groups.labels[code] for code in used.tolist()]
    absent = next((value for value in values if value not in found), None)
    if absent is not None:
        some = [f'"{label}"' if "," in label else label for label in found[:12]]
        raise SelectionError(
            f"No row{of} has {absent!r} in {name}.",
            expected=f"one of: {', '.join(some)}{', …' if len(some) < len(found) else ''}",
        )
    return np.array([label in values for label in groups.labels])[groups.codes]


def _told(data: QATable, name: str, values: Sequence[str], other: QATable | None) -> NDArray[np.bool_]:
    """The rows of which one of the values holds, told from all rows, or from those of another table."""
    if other is None:
        found = ambiguous(data)
        masks = {"no": ~np.logical_or.reduce([*found.values()]), **found}
    else:
        held = Held(other.examples())
        batches = data.batches(columns_read(data.roles.fields(), data.schema.names))
        most = np.array([held.most(example) for batch in batches for example in data.examples_of(batch)])
        masks = {share: most == number for number, share in enumerate(SHARES)}
    absent = next((value for value in values if value not in masks), None)
    if absent is not None:
        raise SelectionError(f"{name} is never {absent!r}.", expected=f"one of: {', '.join(masks)}")
    return np.logical_or.reduce([masks[value] for value in values])


def subjects_of(data: QATable, column: str) -> Groups:
    """The rows by their subject: the same when its text is, outer blanks and case aside; a row may have none."""
    codes, values = _plain_values(data.encoded(column), column)
    return Groups.of(codes, [answer_text(value).casefold() or None for value in values])


def _plain_values(column: pa.ChunkedArray, name: str) -> tuple[NDArray[np.int32], list[Any]]:
    if pa.types.is_nested(column.type):
        raise ColumnError(
            f"The column {name!r} holds {column.type}, which is no group.",
            expected="a column of plain values",
            try_next="another column",
        )
    return encoded(column)


def first_answers(column: pa.ChunkedArray) -> Groups:
    """The rows by the answer that trains, the first accepted one."""
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        has_items, items = _first_items(column)
        codes, cells = encoded(items)
        texts = [answer_text(cell) for cell in cells]
        if all(texts):  # else what trains is a later item
            of_rows = np.full(len(column), -1, dtype=np.int32)
            of_rows[has_items] = codes
            return Groups.of(of_rows, texts)
    codes, answers = accepted_answers(column)
    return Groups.of(codes, [a[0] if a else None for a in answers])


def _first_items(column: pa.ChunkedArray) -> tuple[NDArray[np.bool_], pa.ChunkedArray]:
    """Which lists have items (N,), and the first item of each of these."""
    masks, items = [np.empty(0, dtype=bool)], []
    for chunk in column.chunks:
        offsets = as_numpy(chunk.offsets, np.int32)
        mask = valid_rows(chunk) & (np.diff(offsets) > 0)
        masks.append(mask)
        items.append(chunk.values.take(as_arrow(offsets[:-1][mask])))
    return np.concatenate(masks), pa.chunked_array(items, column.type.value_type)


def accepted_answers(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[tuple[str, ...]]]:
    """For every row the number of its cell among the distinct cells, and the accepted answers of each of these."""
    if not pa.types.is_nested(column.type):
        codes, cells = encoded(column)
        return codes, [parse_answers(cell) for cell in cells]
    number: dict[tuple[str, ...], int] = {}
    rows = [number.setdefault(parse_answers(cell), len(number)) for cell in column.to_pylist()]
    return np.array(rows, dtype=np.int32), list(number)


def quotas(sizes: Sequence[int], share: Fraction) -> list[int]:
    """Rows to take from groups of these sizes: share × size rounded down or up, round-half-up(share × all) in sum.

    The groups whose remainder is largest are rounded up (the first of equals).

    >>> quotas([3, 3, 4], Fraction(1, 2))
    [2, 1, 2]
    """
    return _rounded(sizes, share, [0] * len(sizes))


def quotas_of_tail(sizes: Sequence[int], share: Fraction) -> list[int]:
    """The same for the tail: other groups are rounded up where head and tail of a group would meet.

    So head and tail share no row while their size is at most half of the rows.

    >>> quotas_of_tail([3, 3, 4], Fraction(1, 2))
    [1, 2, 2]
    """
    return _rounded(sizes, share, quotas(sizes, share))


def _rounded(sizes: Sequence[int], share: Fraction, taken: Sequence[int]) -> list[int]:
    wanted = [share * size for size in sizes]
    base = [w.numerator // w.denominator for w in wanted]
    more = int(share * sum(sizes) + Fraction(1, 2)) - sum(base)
    meets = [b + 1 + t > size for b, t, size in zip(base, taken, sizes, strict=True)]
    by_need = sorted(
        (i for i, w in enumerate(wanted) if w.denominator != 1), key=lambda i: (meets[i], base[i] - wanted[i], i)
    )
    for i in by_need[:more]:
        base[i] += 1
    return base


CLASS_COLUMN = "known_class"
WORDS = ("highly", "maybe", "weakly", "unknown")
"""The classes that `known` tells, from the best known, as they are typed."""
UNKNOWN = WORDS.index("unknown")
KNOWN = (0, 1)
"""The numbers of those that a model knows: highly and maybe."""


def class_word(text: Any) -> str:
    """`HighlyKnown`, or `highly`, as `highly`; `Unknown` as `unknown`."""
    word = str(text).strip().lower()
    return word if word == WORDS[-1] else word.removesuffix("known")


def class_numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """The class of every row as a number into WORDS, from the best known; -1 where there is none. (N,)"""
    codes, values = encoded(column)
    numbers = [WORDS.index(word) if (word := class_word(value)) in WORDS else -1 for value in values]
    return np.array([*numbers, -1])[codes]


STEP = 0.6180339887498949
"""The golden ratio's: its multiples, less their whole parts, are spread evenly whatever their number."""


def portions(weights: Sequence[float] | NDArray[Any], k: int) -> NDArray[np.int64]:
    """How many of the first k of an order that runs through all groups at once belong to each: (G,) weights -> (G,)

    The j-th of a group comes at (j + its offset) / its weight, so that each group has weight × k / all of them, rounded
    down or up, k in sum, and fewer never where k is more. The offsets, one a group, are spread evenly over 0 to 1: else
    groups of one row would all come at once.

    >>> portions([10, 10, 30], 5).tolist(), portions([0.7, 0.3], 20).tolist()
    ([1, 1, 3], [14, 6])
    """
    sizes = np.asarray(weights, dtype=np.float64)
    offsets = np.arange(1, len(sizes) + 1) * STEP % 1

    def until(place: float) -> NDArray[np.int64]:
        return np.floor(np.round(place * sizes, 9) + 1 - offsets).astype(np.int64)

    low, high = 0.0, (k + len(sizes)) / sizes.sum()
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if until(middle).sum() <= k else (low, middle)
    counts = until(low)
    counts[np.flatnonzero(until(high) > counts)[: k - counts.sum()]] += 1
    return counts


BLOCK = 1 << 18
"""Rows sorted into groups at a time, or as many as there are groups."""


def rows_by_group(codes: NDArray[np.int32], pool: NDArray[np.bool_], groups: int) -> list[NDArray[np.int64]]:
    """The row numbers of every group's part of the pool, ascending: (N,) codes -> one array a group

    A block of rows is sorted at a time, since sorting takes three times the memory of what it sorts.
    """
    sizes = np.bincount(codes[pool], minlength=groups)
    sorted_rows = np.empty(sizes.sum(), dtype=np.int64)
    ends = np.cumsum(sizes)
    free = ends - sizes  # where the next row of each group goes
    block = max(BLOCK, groups)
    for start in range(0, len(codes), block):
        rows = start + np.flatnonzero(pool[start : start + block])
        of_rows = codes[rows].astype(np.int16 if groups < 2**15 else np.int32)  # 16 bits are sorted in linear time
        counts = np.bincount(of_rows, minlength=groups)
        shift = free - (np.cumsum(counts) - counts)
        sorted_rows[np.repeat(shift, counts) + np.arange(len(rows))] = rows[np.argsort(of_rows, kind="stable")]
        free += counts
    return np.split(sorted_rows, ends[:-1])


def most_frequent(groups: Groups, answers: Groups, pool: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For every group the answer that most of its pool rows have, as a number into the answers' labels; -2 for none.

    Of equally frequent answers the first by its text. (N,) rows -> (G,) groups
    """
    rows = pool & (answers.codes >= 0)
    both = groups.codes[rows].astype(np.int64) * len(answers.labels) + answers.codes[rows]
    pairs, counts = np.unique(both, return_counts=True)
    group, answer = np.divmod(pairs, max(1, len(answers.labels)))
    best = np.full(len(groups.labels), -2)
    rarest_first = np.lexsort((-answer, counts))  # what is written last stays
    best[group[rarest_first]] = answer[rarest_first]
    return best


def other_answers(
    cells: NDArray[np.int32], accepted: Sequence[tuple[str, ...]], kept: Sequence[str]
) -> NDArray[np.bool_]:
    """The rows that have answers, none of which, alternative ones included, is one of the `kept` answers.

    `cells` (N,) are numbers into `accepted`. Without the alternative answers a model that gives a kept answer to
    every question would be right on part of the test set.
    """
    forbidden = {answer.casefold() for answer in kept}
    other = [bool(a) and not any(answer.casefold() in forbidden for answer in a) for a in accepted]
    return np.array(other, dtype=bool)[cells]


def held_out(
    subjects: NDArray[np.int32], hashes: NDArray[np.uint64], pool: NDArray[np.bool_], k: int
) -> NDArray[np.bool_]:
    """All rows, in the pool or not, of whole subjects drawn in the order of their hashes until k pool rows are held.

    `subjects` (N,) are numbers into `hashes`. A row without a subject (-1) is never held out: nobody could say
    what else shares its subject. SelectionError when too few rows have a subject, or none is left to train on.
    """
    counts = np.bincount(subjects[pool & (subjects >= 0)], minlength=len(hashes))
    order = np.argsort(hashes, kind="stable")
    held = np.cumsum(counts[order])
    found = int(held[-1]) if len(held) else 0
    if found < k:
        raise SelectionError(
            f"{k} rows were to be held out, and only {found} rows have a subject.",
            expected=f"a smaller {setting('holdout')}, or another {setting('holdout_by')}",
        )
    drawn = np.zeros(len(hashes) + 1, dtype=bool)  # the last place is where -1, no subject, looks
    drawn[order[: int(np.searchsorted(held, k)) + 1]] = True
    mask = drawn[subjects]
    if not (pool & ~mask).any():
        raise SelectionError(
            "Holding out whole subjects leaves no row to choose from.",
            expected=f"a smaller {setting('holdout')}, or more subjects",
        )
    return mask
