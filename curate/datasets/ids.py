"""`curate_id`: a name for every example that survives reordering, so that joins never go by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from curate.errors import ColumnError
from curate.hashing import hash_texts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

ID_COLUMN = "curate_id"
FIELD_END, ANSWER_END = "\x1f", "\x1e"
DIGITS = 16


def content_ids(contents: Iterable[tuple[str, Sequence[str], str | None]]) -> list[str]:
    """16 hexadecimal digits from the content of every example: its question, answers and subject."""
    import pyarrow as pa

    texts = (
        FIELD_END.join([question, ANSWER_END.join(answers), subject or ""]) for question, answers, subject in contents
    )
    return hex_ids(hash_texts(pa.array([in_utf8(text) for text in texts], pa.large_binary()))).to_pylist()


def in_utf8(text: str) -> bytes:
    """The text in UTF-8, halves of surrogate pairs included."""
    return text.encode("utf-8", "surrogatepass")


def hex_ids(hashes: NDArray[np.uint64]) -> pa.Array:
    """The hashes (N,) in hexadecimal digits, as text."""
    import numpy as np
    import pyarrow as pa

    pairs = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint16)
    digits = pairs[np.frombuffer(hashes.astype(">u8").tobytes(), dtype=np.uint8)]
    ends = np.arange(len(hashes) + 1, dtype=np.int32) * DIGITS
    return pa.StringArray.from_buffers(len(hashes), pa.py_buffer(ends), pa.py_buffer(digits))


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
