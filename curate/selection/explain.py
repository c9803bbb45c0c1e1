"""What a selection changed; two splits compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.columns import columns_read, values_of
from curate.data.ids import hash_texts
from curate.data.stores import as_arrow, in_types_of
from curate.data.table import QATable, read
from curate.selection.groups import Groups, as_float, first_answers, groups_of, subject_codes
from curate.selection.ranking import SCORE_PREFIX

if TYPE_CHECKING:
    from curate.selection.select import Selection

QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
SHIFTS = 5
"""How many of the largest shifts, and of the most frequent values, are told."""


def quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Scores at the usual quantiles, each the score of some row; NaN does not count. (N,) -> {"0.5": …}"""

    values = values[~np.isnan(values)]  # a copy, which may be put in order
    if not len(values):
        return {}
    at = [round(q * (len(values) - 1)) for q in QUANTILES]
    values.partition(at)
    return {f"{q:g}": float(values[i]) for q, i in zip(QUANTILES, at, strict=True)}


def overlaps(masks: Mapping[str, NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """For every two splits, how many rows they share. Masks are (N,) each."""

    return [{"a": a, "b": b, "rows": int(np.count_nonzero(masks[a] & masks[b]))} for a, b in combinations(masks, 2)]


def mix(groups: Groups, before: NDArray[np.bool_], after: Mapping[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """How often each group occurs before and after, as shares, and what moved most.

    `moved` is the share of rows that would have to change group to undo the change (total variation distance):
    0 when the mix is the same, 1 when no group is left. Rows in no group (-1) do not count.
    """
    shares = _shares(groups, before)
    return {
        "distinct": int((shares > 0).sum()),
        "most_frequent": _told(groups.labels, shares),
        "splits": {name: _moved(groups.labels, shares, _shares(groups, mask)) for name, mask in after.items()},
    }


def _moved(labels: Sequence[str], before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    shift = after - before
    largest = [i for i in np.argsort(-np.abs(shift).round(12), kind="stable")[:SHIFTS] if shift[i]]
    return {
        "distinct": int((after > 0).sum()),
        "moved": float(np.abs(shift).sum() / 2),
        "most_frequent": _told(labels, after),
        "shifts": [{"value": labels[i], "before": float(before[i]), "after": float(after[i])} for i in largest],
    }


def _told(labels: Sequence[str], shares: NDArray[np.float64]) -> list[dict[str, Any]]:
    most = np.argsort(-shares, kind="stable")[:SHIFTS]
    return [{"value": labels[i], "share": float(shares[i])} for i in most if shares[i]]


def _shares(groups: Groups, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    codes = groups.codes[mask]
    counts = np.bincount(codes[codes >= 0], minlength=len(groups.labels))
    return counts / max(1, counts.sum())


EXPLAINED = 100_000
"""Quantiles and mixes of a larger table are those of every 2nd, 3rd, … row: of at most this many."""


class MixSample:
    """Relations and answers of every `stride`-th row, gathered batch by batch while the rows stream by."""

    def __init__(self, data: QATable) -> None:
        self.roles = {"relation": data.roles.relation, "answers": data.roles.answers}
        self.stride = -(-len(data) // EXPLAINED)
        self.fields = list(dict.fromkeys(name for name in self.roles.values() if name is not None))
        self._columns = columns_read(self.fields, data.schema.names)
        self._schema = pa.schema([data.schema.field(name) for name in self._columns])
        self._parts: list[pa.Table] = []

    def of(self, batch: pa.Table, start: int) -> pa.Table:
        """What to gather of the batch whose first row is row `start` of the table."""

        rows = np.arange(-start % self.stride, batch.num_rows, self.stride)
        part = batch.select(self._columns)
        return in_types_of(self._schema, part if self.stride == 1 else part.take(as_arrow(rows)))

    def add(self, part: pa.Table) -> None:
        """Gather what `of` took from the next batch."""
        self._parts.append(part)

    def table(self) -> pa.Table:
        """The rows gathered."""

        return pa.concat_tables(self._parts)


def sample(data: QATable) -> MixSample:
    """Gather from the table by reading the two columns."""
    gathered = MixSample(data)
    gathered.add(gathered.of(data.table_of(gathered.fields), 0))
    return gathered


def explain(selection: Selection) -> dict[str, Any]:
    """Quantiles of the pool and of every split, rows that splits share, and how the mixes moved.

    The pool is here all rows that have a score and meet --where and the thresholds, evaluation sets among them.
    """
    return explain_scores(selection) | explain_mixes(selection, sample(selection.data))


def explain_scores(selection: Selection) -> dict[str, Any]:
    """The part that scores and masks tell."""
    masks = {split.name: split.mask for split in selection.splits.values()}
    shown = selection.ranking.shown
    return {
        "quantiles": {name: _quantiles(shown, mask) for name, mask in {"pool": selection.pool.before, **masks}.items()},
        "overlap": overlaps(masks),
    }


def explain_mixes(selection: Selection, gathered: MixSample) -> dict[str, Any]:
    """The part that relations and answers tell: how their mixes moved."""
    every = slice(None, None, gathered.stride)
    before = selection.pool.before[every]
    masks = {split.name: split.mask[every] for split in selection.splits.values()}
    table = gathered.table()
    mixes: dict[str, Any] = {"counted": "all rows" if gathered.stride == 1 else f"1 row in {gathered.stride}"}
    for role, column in gathered.roles.items():
        if column is not None:
            values = values_of(table, column)
            groups = first_answers(values) if role == "answers" else groups_of(values, column)
            mixes[role] = mix(groups, before, masks)
    return mixes


def _quantiles(shown: NDArray[np.float64], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Of at most EXPLAINED of the rows; the least and the greatest are always those of all."""

    values = shown if mask.all() else shown[np.flatnonzero(mask)]
    found = quantiles(values[:: max(1, -(-len(values) // EXPLAINED))])
    if found and len(values) > EXPLAINED:
        found |= {"0": float(np.nanmin(values)), "1": float(np.nanmax(values))}
    return found


def compare(files: list[str]) -> dict[str, Any]:
    """Compare splits (or any QA files) by the ids, subjects, scores, relations and answers they hold.

    Mixes are told as shifts from the first file to each of the others.
    """
    names = _names(files)
    tables = dict(zip(names, map(read, files), strict=True))
    ids = {name: _distinct(data.id_hashes()) for name, data in tables.items()}
    subjects = {
        name: _subjects(data.encoded(data.roles.subject), data.roles.subject)
        for name, data in tables.items()
        if data.roles.subject is not None
    }
    return {
        "kind": "comparison",
        "files": files,
        "splits": [
            {"split": name, "rows": len(data), "distinct_subjects": len(subjects.get(name, []))}
            for name, data in tables.items()
        ],
        "overlap": _shared(ids, subjects),
        "scores": _scores(tables),
        **_mixes(tables),
    }


def _names(files: list[str]) -> list[str]:
    stems = [Path(file).name.removesuffix(".parquet") for file in files]
    names = stems if len(set(stems)) == len(stems) else files
    return list(names) if len(set(names)) == len(names) else [f"{name} ({i})" for i, name in enumerate(names, start=1)]


def _distinct(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.unique(hashes)


def _subjects(column: pa.ChunkedArray, name: str) -> NDArray[np.uint64]:
    """Hashes of the distinct subjects, those that a holdout would call the same being one."""
    codes, texts = subject_codes(column, name)
    return _distinct(hash_texts([texts[code] for code in set(codes[codes >= 0].tolist())]))


def _shared(ids: dict[str, Any], subjects: dict[str, Any]) -> list[dict[str, Any]]:
    """For every two files the ids and subjects in common, counted by hash."""

    names = list(ids)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [
        {
            "a": a,
            "b": b,
            "rows": len(np.intersect1d(ids[a], ids[b], assume_unique=True)),
            "subjects": len(np.intersect1d(subjects[a], subjects[b], assume_unique=True))
            if a in subjects and b in subjects
            else None,
        }
        for a, b in pairs
    ]


def _scores(tables: dict[str, QATable]) -> dict[str, dict[str, Any]]:
    """Quantiles of every score that all files have."""

    first = next(iter(tables.values())).schema
    common = [
        n for n in first.names if n.startswith(SCORE_PREFIX) and all(n in t.schema.names for t in tables.values())
    ]
    numeric = [
        n
        for n in common
        if all(pa.types.is_floating(k := t.schema.field(n).type) or pa.types.is_integer(k) for t in tables.values())
    ]
    found: dict[str, dict[str, Any]] = {}
    for column in numeric:
        values = {name: as_float(data.column(column)) for name, data in tables.items()}
        found[column.removeprefix(SCORE_PREFIX)] = {
            name: {"measured": int((~np.isnan(v)).sum()), "quantiles": quantiles(v)} for name, v in values.items()
        }
    return found


def _mixes(tables: dict[str, QATable]) -> dict[str, Any]:
    source = np.repeat(np.arange(len(tables)), [len(data) for data in tables.values()])
    mixes: dict[str, Any] = {}
    for role in ("relation", "answers"):
        columns = [data.roles.as_dict()[role] for data in tables.values()]
        if any(column is None for column in columns):
            continue
        parts = [d.column(str(c)) for d, c in zip(tables.values(), columns, strict=True)]
        if any(part.type != parts[0].type for part in parts):
            parts = [part.cast(pa.string()) for part in parts] if not _nested(parts) else []
        if parts:
            joined = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
            groups: Groups = first_answers(joined) if role == "answers" else groups_of(joined, role)
            masks = {name: source == i for i, name in enumerate(tables)}
            first = next(iter(masks))
            mixes[role] = mix(groups, masks[first], masks)
    return mixes


def _nested(parts: list[pa.ChunkedArray]) -> bool:
    return any(pa.types.is_nested(part.type) for part in parts)
