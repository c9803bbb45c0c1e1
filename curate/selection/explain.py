"""What a selection changed, told from scores and masks; files of splits side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.columns import columns_read, values_of
from curate.data.ids import hash_texts
from curate.data.stores import as_arrow, in_types_of
from curate.data.table import QATable, read_with
from curate.selection.groups import Groups, first_answers, groups_of, subjects_of
from curate.selection.ranking import SCORE_PREFIX, as_float, is_number
from curate.settings import ReadSettings
from curate.summary import quantiles

Mask = NDArray[np.bool_]

SHIFTS = 5
"""How many of the largest shifts, and of the most frequent values, are told."""

EXPLAINED = 100_000
"""Quantiles and mixes of a larger table are those of every 2nd, 3rd, … row: of at most this many."""


def explain_scores(scores: NDArray[np.float64], pool: Mask, splits: Mapping[str, Mask]) -> dict[str, Any]:
    """Quantiles of the scores in the pool and in every split, and how many rows each two splits share. (N,) each"""
    return {
        "quantiles": {name: _quantiles(scores, mask) for name, mask in {"pool": pool, **splits}.items()},
        "overlap": [
            {"a": a, "b": b, "rows": int(np.count_nonzero(splits[a] & splits[b]))} for a, b in combinations(splits, 2)
        ],
    }


def _quantiles(scores: NDArray[np.float64], mask: Mask) -> dict[str, float]:
    """Of at most EXPLAINED of the rows; the least and the greatest are always those of all."""
    values = scores if mask.all() else scores[np.flatnonzero(mask)]
    found = quantiles(values[:: max(1, -(-len(values) // EXPLAINED))])
    if found and len(values) > EXPLAINED:
        found |= {"0": float(np.nanmin(values)), "1": float(np.nanmax(values))}
    return found


class MixSample:
    """Relations and answers of every `stride`-th row of a table, gathered while its batches stream by."""

    def __init__(self, data: QATable) -> None:
        self._roles = {"relation": data.roles.relation, "answers": data.roles.answers}
        self.columns = columns_read([name for name in self._roles.values() if name], data.schema.names)
        self.stride = -(-len(data) // EXPLAINED)
        self._schema = pa.schema([data.schema.field(name) for name in self.columns])
        self._parts: list[pa.Table] = []

    def of(self, start: int, batch: pa.Table) -> pa.Table:
        """What to gather of the batch whose first row is row `start` of the table."""
        rows = np.arange(-start % self.stride, batch.num_rows, self.stride)
        part = batch.select(self.columns)
        return in_types_of(self._schema, part if self.stride == 1 else part.take(as_arrow(rows)))

    def add(self, part: pa.Table) -> None:
        """Gather what `of` took from the next batch."""
        self._parts.append(part)

    def mixes(self, pool: Mask, splits: Mapping[str, Mask]) -> dict[str, Any]:
        """How the mix of relations, and that of first answers, is in the pool and in every split. (N,) masks"""
        table = pa.concat_tables(self._parts)
        before, after = pool[:: self.stride], {name: mask[:: self.stride] for name, mask in splits.items()}
        found: dict[str, Any] = {"counted": "all rows" if self.stride == 1 else f"1 row in {self.stride}"}
        for role, name in self._roles.items():
            if name is not None:
                found[role] = mix(_grouped(role, values_of(table, name), name), before, after)
        return found


def _grouped(role: str, column: pa.ChunkedArray, name: str) -> Groups:
    return first_answers(column) if role == "answers" else groups_of(column, name)


def mix(groups: Groups, before: Mask, after: Mapping[str, Mask]) -> dict[str, Any]:
    """How often each group occurs before and after, as shares, and what moved most.

    `moved` is the share of rows that would have to change group to undo the change (total variation distance):
    0 when the mix is the same, 1 when no group is left. Rows in no group (-1) do not count.
    """
    shares = _shares(groups, before)
    return {
        "distinct": int(np.count_nonzero(shares)),
        "most_frequent": _most_frequent(groups.labels, shares),
        "splits": {name: _moved(groups.labels, shares, _shares(groups, mask)) for name, mask in after.items()},
    }


def _shares(groups: Groups, mask: Mask) -> NDArray[np.float64]:
    codes = groups.codes[mask]
    counts = np.bincount(codes[codes >= 0], minlength=len(groups.labels))
    return counts / max(1, counts.sum())


def _most_frequent(labels: Sequence[str], shares: NDArray[np.float64]) -> list[dict[str, Any]]:
    most = np.argsort(-shares, kind="stable")[:SHIFTS]
    return [{"value": labels[i], "share": float(shares[i])} for i in most if shares[i]]


def _moved(labels: Sequence[str], before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
    shift = after - before
    largest = [i for i in np.argsort(-np.abs(shift).round(12), kind="stable")[:SHIFTS] if shift[i]]
    return {
        "distinct": int(np.count_nonzero(after)),
        "moved": float(np.abs(shift).sum() / 2),
        "most_frequent": _most_frequent(labels, after),
        "shifts": [{"value": labels[i], "before": float(before[i]), "after": float(after[i])} for i in largest],
    }


def compare(files: list[str], settings: ReadSettings) -> dict[str, Any]:
    """Compare splits (or any QA files) by the ids, subjects, scores, relations and answers they hold.

    Mixes are told as shifts from the first file to each of the others.
    """
    tables = {name: read_with(file, settings) for name, file in zip(_names(files), files, strict=True)}
    ids = {name: np.unique(data.id_hashes()) for name, data in tables.items()}
    subjects = {name: _subjects(data, data.roles.subject) for name, data in tables.items() if data.roles.subject}
    return {
        "kind": "comparison",
        "files": files,
        "splits": [
            {"split": name, "rows": len(data), "distinct_subjects": len(subjects.get(name, []))}
            for name, data in tables.items()
        ],
        "overlap": [
            {
                "a": a,
                "b": b,
                "rows": _in_common(ids[a], ids[b]),
                "subjects": _in_common(subjects[a], subjects[b]) if a in subjects and b in subjects else None,
            }
            for a, b in combinations(tables, 2)
        ],
        "scores": {column.removeprefix(SCORE_PREFIX): _scores(column, tables) for column in _common_scores(tables)},
        **dict(_mixes(tables)),
    }


def _names(files: list[str]) -> list[str]:
    """What to call the files: by their names, or their paths, or numbered, whatever tells them apart."""
    stems = [Path(file).name.removesuffix(".parquet") for file in files]
    names = stems if len(set(stems)) == len(stems) else files
    return list(names) if len(set(names)) == len(names) else [f"{name} ({i})" for i, name in enumerate(names, start=1)]


def _subjects(data: QATable, name: str) -> NDArray[np.uint64]:
    """Hashes of the distinct subjects, those that a holdout would call the same being one."""
    subjects = subjects_of(data, name)
    used = np.unique(subjects.codes[subjects.codes >= 0])  # a dictionary may have values that no row has
    return np.unique(hash_texts([subjects.labels[code] for code in used]))


def _in_common(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> int:
    return len(np.intersect1d(a, b, assume_unique=True))


def _common_scores(tables: Mapping[str, QATable]) -> list[str]:
    """The score columns that hold numbers in all files."""
    schemas = [data.schema for data in tables.values()]
    names = [name for name in schemas[0].names if name.startswith(SCORE_PREFIX)]
    return [name for name in names if all(name in s.names and is_number(s.field(name).type) for s in schemas)]


def _scores(column: str, tables: Mapping[str, QATable]) -> dict[str, dict[str, Any]]:
    """How many rows of each file have this score, and its quantiles there."""
    values = {name: as_float(data.column(column)) for name, data in tables.items()}
    return {n: {"measured": int(np.count_nonzero(~np.isnan(v))), "quantiles": quantiles(v)} for n, v in values.items()}


def _mixes(tables: Mapping[str, QATable]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of relations and of answers, where all files have them in columns of comparable types."""
    source = np.repeat(np.arange(len(tables)), [len(data) for data in tables.values()])
    masks = {name: source == number for number, name in enumerate(tables)}
    for role in ("relation", "answers"):
        columns = [data.roles.as_dict()[role] for data in tables.values()]
        if None in columns:
            continue
        parts = [data.column(str(name)) for data, name in zip(tables.values(), columns, strict=True)]
        if any(part.type != parts[0].type for part in parts):
            if any(pa.types.is_nested(part.type) for part in parts):
                continue
            parts = [part.cast(pa.string()) for part in parts]
        joined = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
        yield role, mix(_grouped(role, joined, role), next(iter(masks.values())), masks)
