"""Files side by side: sizes, scores, what they share, and how their mixes differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.rows import ScoredRows, open_rows
from curate.hashing import hash_texts
from curate.rules.holdout import subject_codes
from curate.rules.mixes import mix, quantiles
from curate.rules.ranking import SCORE_PREFIX
from curate.rules.values import Groups, as_float, first_answers, groups_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def compare(files: list[str]) -> dict[str, Any]:
    """Compare splits (or any QA files) by the ids, subjects, scores, relations and answers they hold.

    Mixes are told as shifts from the first file to each of the others.
    """
    names = _names(files)
    tables = dict(zip(names, map(open_rows, files), strict=True))
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
    import numpy as np

    return np.unique(hashes)


def _subjects(column: pa.ChunkedArray, name: str) -> NDArray[np.uint64]:
    """Hashes of the distinct subjects, those that a holdout would call the same being one."""
    codes, texts = subject_codes(column, name)
    return _distinct(hash_texts([texts[code] for code in set(codes[codes >= 0].tolist())]))


def _shared(ids: dict[str, Any], subjects: dict[str, Any]) -> list[dict[str, Any]]:
    """For every two files the ids and subjects in common, counted by hash."""
    import numpy as np

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


def _scores(tables: dict[str, ScoredRows]) -> dict[str, dict[str, Any]]:
    """Quantiles of every score that all files have."""
    import numpy as np
    import pyarrow as pa

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


def _mixes(tables: dict[str, ScoredRows]) -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa

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
    import pyarrow as pa

    return any(pa.types.is_nested(part.type) for part in parts)
