"""An evaluation set that shares no subject with what is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.errors import SelectionError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def subject_codes(column: pa.ChunkedArray, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """The subject of every row as a number into the distinct subjects; -1 for a row that has none.

    Subjects are the same when their text is, outer blanks and case aside. ColumnError, with the column's `name`, for
    lists and structs.
    """
    import numpy as np

    from curate.datasets.answers import answer_text
    from curate.rules.values import check_plain, encoded

    check_plain(column, name)
    codes, values = encoded(column)
    number: dict[str, int] = {}
    texts = [answer_text(value).casefold() for value in values]
    new = np.array([number.setdefault(t, len(number)) if t else -1 for t in texts], dtype=np.int64)
    return (new[codes] if len(new) else new), list(number)


def held_out(
    subjects: NDArray[np.int64], hashes: NDArray[np.uint64], pool: NDArray[np.bool_], k: int
) -> NDArray[np.bool_]:
    """All rows, in the pool or not, of whole subjects drawn in the order of their hashes until k pool rows are held.

    `subjects` (N,) are numbers into `hashes`. A row without a subject (-1) is never held out: nobody could say
    what else shares its subject. SelectionError when too few rows have a subject, or none is left to train on.
    """
    import numpy as np

    counts = np.bincount(subjects[pool & (subjects >= 0)], minlength=len(hashes))
    order = np.argsort(hashes, kind="stable")
    held = np.cumsum(counts[order])
    if not len(held) or held[-1] < k:
        found = int(held[-1]) if len(held) else 0
        raise SelectionError(
            f"{k} rows were to be held out, and only {found} rows have a subject.",
            expected="a smaller --holdout, or another --holdout-by",
        )
    drawn = np.zeros(len(hashes) + 1, dtype=bool)  # the last place is where -1, no subject, looks
    drawn[order[: int(np.searchsorted(held, k)) + 1]] = True
    mask = drawn[subjects]
    if not (pool & ~mask).any():
        raise SelectionError(
            "Holding out whole subjects leaves no row to choose from.",
            expected="a smaller --holdout, or more subjects",
        )
    return mask
