"""`curate_id`: a name for every example that survives reordering, so that joins never go by position."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from curate.errors import ColumnError

ID_COLUMN = "curate_id"
HASH_BYTES = 8
FIELD_END, ANSWER_END = "\x1f", "\x1e"


def content_id(question: str, answers: Sequence[str], subject: str | None) -> str:
    """16 hexadecimal digits from the content of one example."""
    text = FIELD_END.join([question, ANSWER_END.join(answers), subject or ""])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).hexdigest()


def number_repeats(ids: Iterable[str]) -> list[str]:
    """The ids with the second, third, … occurrence of each marked `-2`, `-3`, …"""
    seen: Counter[str] = Counter()
    numbered = []
    for base in ids:
        seen[base] += 1
        numbered.append(base if seen[base] == 1 else f"{base}-{seen[base]}")
    return numbered


def check_key(values: Sequence[object], column: str, where: str) -> list[str]:
    """The user's own key as text; ColumnError unless it is complete and unique."""
    for row, value in enumerate(values, start=1):
        if value is None or value == "":
            raise ColumnError(
                f"{where}: the id column {column!r} is empty in row {row}.",
                expected="a complete and unique key",
                try_next="leave out --id-column; curate then makes ids from the content",
            )
    keys = [str(value) for value in values]
    repeated = next((key for key, count in Counter(keys).items() if count > 1), None)
    if repeated is not None:
        raise ColumnError(
            f"{where}: the id column {column!r} holds {repeated!r} more than once.",
            expected="a complete and unique key",
            try_next="leave out --id-column; curate then makes ids from the content",
        )
    return keys
