"""`curate_id`: a name for every example that survives reordering, so that joins never go by position."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.data.answers import MAY_SPELL, answer_text, parse_answers
from curate.data.columns import Columns
from curate.errors import ColumnError, setting
from curate.records import Example

CHUNK = 8_192
"""Rows hashed at a time, so that what is in work fits the processor's cache."""
LONG = 1024
"""Bytes above which a text is hashed by itself, with BLAKE2b: one of a megabyte would take a hundred thousand steps."""


def id_hashes(ids: Sequence[str] | pa.Array | pa.ChunkedArray, seed: int, salt: str) -> NDArray[np.uint64]:
    """A seeded 64-bit hash of every id: (N,) uint64. Another salt gives an unrelated order."""
    return keyed(hash_texts(ids), seed, salt)


def keyed(hashes: NDArray[np.uint64], seed: int, salt: str) -> NDArray[np.uint64]:
    """Unseeded hashes made seeded ones, each different hash a different one. (N,) -> (N,)"""
    key = hashlib.blake2b(f"{salt}:{seed}".encode(), digest_size=8).digest()
    return _mixed(hashes ^ np.uint64(int.from_bytes(key, "little")))


def hash_texts(texts: Sequence[str] | pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """A 64-bit hash of the UTF-8 bytes of every text; null counts as empty. (N,) -> (N,)"""
    if not isinstance(texts, (pa.Array, pa.ChunkedArray)):
        texts = pa.array(texts, pa.large_string())
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    parts = [_hash_array(c[i : i + CHUNK]) for c in chunks for i in range(0, len(c), CHUNK)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)


def _hash_array(array: Any) -> NDArray[np.uint64]:
    """Eight bytes of every text at a time, each mixed into what came before; long texts one by one.

    All texts lie in one buffer, `starts` (N,) and `sizes` (N,) tell where. Step `done` takes the word at byte `done` of
    every text at once, so that there are as many steps as the longest text has words, whatever N is.
    """
    array = array.cast(pa.large_binary())
    if array.null_count:
        array = array.fill_null(b"")
    _, ends, data = array.buffers()
    offsets = np.frombuffer(ends, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    content = b"" if data is None else bytes(data[first:last])
    content += bytes(8)  # for the last word of the last text
    words = np.ndarray(len(content) - 7, dtype="<u8", buffer=content, strides=(1,))  # a word at every byte
    starts, sizes = offsets[:-1] - first, np.diff(offsets)
    lengths = np.where(sizes > LONG, 0, sizes)
    hashes = _mixed(lengths.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    whole = int(lengths.min()) // 8 * 8  # bytes in words that every text fills
    masks = np.array([(1 << 8 * own) - 1 for own in range(9)], dtype=np.uint64)  # the rest of a word is the next text's
    for done in range(0, whole, 8):
        hashes = _mixed(hashes ^ words[starts + done])
    for done in range(whole, int(lengths.max()), 8):
        rows = np.flatnonzero(lengths > done)
        word = words[starts[rows] + done] & masks[np.minimum(lengths[rows] - done, 8)]
        hashes[rows] = _mixed(hashes[rows] ^ word)
    for row in np.flatnonzero(sizes > LONG):
        text = content[starts[row] : starts[row] + sizes[row]]
        hashes[row] = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return hashes


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of MurmurHash3 (64 bits): one to one, every input bit moves every output bit."""
    x = x ^ (x >> np.uint64(33))
    x = x * np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    x = x * np.uint64(0xC4CEB9FE1A85EC53)
    x ^= x >> np.uint64(33)
    return x


ID_COLUMN = "curate_id"
FIELD_END, ANSWER_END = "\x1f", "\x1e"
DIGITS = 16


def hex_ids(hashes: NDArray[np.uint64]) -> pa.Array:
    """The hashes (N,) in hexadecimal digits, as text."""
    pairs = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint16)
    digits = pairs[np.frombuffer(hashes.astype(">u8").tobytes(), dtype=np.uint8)]
    ends = np.arange(len(hashes) + 1, dtype=np.int32) * DIGITS
    return pa.StringArray.from_buffers(len(hashes), pa.py_buffer(ends), pa.py_buffer(digits))


def key_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a key as text, null where there is none. (N,)"""
    if _is_text(column.type) or pa.types.is_integer(column.type):
        return pc.cast(column, pa.string())
    return pa.chunked_array([[None if value is None else str(value) for value in column.to_pylist()]], pa.string())


def check_key(column: pa.ChunkedArray, name: str, where: str) -> None:
    """ColumnError unless the user's own key is complete and unique; no Python object a row while it is."""
    keys = key_texts(column)
    if keys.null_count or pc.any(pc.equal(keys, "")).as_py():
        row = next(row for row, key in enumerate(keys.to_pylist(), start=1) if not key)
        wrong = f"is empty in row {row}"
    elif pc.count_distinct(keys).as_py() < len(keys):
        counts = Counter(keys.to_pylist())
        wrong = f"holds {next(key for key in counts if counts[key] > 1)!r} more than once"
    else:
        return
    raise ColumnError(
        f"{where}: the id column {name!r} {wrong}.",
        expected="a complete and unique key",
        try_next=f"leave out {setting('id_column')}; curate then makes ids from the content",
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""What `str.strip` strips."""


def content_hashes(batch: pa.Table, roles: Columns, examples: Callable[[], Iterable[Example]]) -> NDArray[np.uint64]:
    """The hash of question, accepted answers and subject of every row, on which its id is based. (N,)

    `examples` makes the batch's examples; it is called only where columns do not tell by themselves: in multiple
    choice, and for what lies deeper in a column or is made of several.
    """
    if roles.choices or not {roles.question, roles.answers, roles.subject} - {None} <= set(batch.column_names):
        rows = [(e.question, ANSWER_END.join(e.answers), e.subject or "") for e in examples()]
        parts = [_binary(texts) for texts in zip(*rows, strict=True)]
    else:
        subjects = pa.nulls(batch.num_rows) if roles.subject is None else batch[roles.subject]
        parts = [cell_texts(batch[roles.question]), joined_answers(batch[roles.answers]), cell_texts(subjects)]
    return hash_texts(pc.binary_join_element_wise(*parts, pa.scalar(FIELD_END.encode(), pa.large_binary())))


def cell_texts(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """`answer_text` of every cell, in UTF-8. (N,)"""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_integer(array.type):
        array = pc.cast(array, pa.string())
    if not _is_text(array.type):
        return _binary(map(answer_text, array.to_pylist()))
    filled = pc.fill_null(array, "") if array.null_count else array  # filling copies all texts
    return pc.cast(pc.utf8_trim(filled, BLANKS), pa.large_binary())


def joined_answers(column: pa.ChunkedArray) -> pa.Array:
    """The accepted answers of every cell, as `parse_answers` finds them, joined, in UTF-8. (N,)"""
    array = column.combine_chunks()
    if pa.types.is_integer(array.type):
        return cell_texts(array)
    if _is_text(array.type):
        texts = cell_texts(array)
        content = bytes(texts.buffers()[-1] or b"")
        if not any(sign in content for sign in (b"[", b"{", b"(", b"|")):
            return texts
        listed = pc.match_substring_regex(texts, rf"{MAY_SPELL}|\|")
        return pc.replace_with_mask(texts, listed, _joined(array.filter(listed))) if pc.any(listed).as_py() else texts
    plain = pa.types.is_list(array.type) and not pa.types.is_nested(array.type.value_type)
    if plain and pc.all(pc.equal(pc.list_value_length(array), 1), skip_nulls=False).as_py():
        return cell_texts(array.flatten())
    return _joined(array)


def _joined(array: pa.Array) -> pa.Array:
    return _binary(ANSWER_END.join(parse_answers(cell)) for cell in array.to_pylist())


def _binary(texts: Iterable[str]) -> pa.Array:
    return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())


def number_ids(ids: pa.Array, rows: Sequence[int], occurrences: Sequence[int]) -> pa.Array:
    """The ids with the ones at `rows` marked `-2`, `-3`, …"""
    if not rows:
        return ids
    repeated = np.zeros(len(ids), dtype=bool)
    repeated[rows] = True
    numbered = [f"{ids[row]}-{occurrence}" for row, occurrence in zip(rows, occurrences, strict=True)]
    return pc.replace_with_mask(ids, pa.array(repeated), pa.array(numbered, pa.string()))


MERGED = 16
"""Batches whose hashes are put together, so that a suspect is looked up in few places."""


class DuplicateCounter:
    """Counts how often each content hash has come, over all batches; 10 to 12 bytes of memory a row.

    A table of one bit for the first and the last bits of a hash tells which few of a batch may have come before; only
    those are looked up among the hashes of the earlier batches.
    """

    def __init__(self, rows: int) -> None:
        bits = max(8, (2 * rows).bit_length())
        self._shift = np.uint64(64 - bits)
        self._met = np.zeros(1 << bits, dtype=np.uint8)
        self._merged: list[NDArray[np.uint64]] = []
        self._recent: list[NDArray[np.uint64]] = []
        self._counts: dict[int, int] = {}

    def add(self, hashes: NDArray[np.uint64]) -> tuple[list[int], list[int]]:
        """The rows of the next batch whose hash has come before, and which occurrence each is: 2, 3, …"""
        ordered = np.sort(hashes)
        slots = ordered >> self._shift  # ascending, so that memory is walked through in order
        bits = np.left_shift(np.uint8(1), (ordered & np.uint64(7)).astype(np.uint8))
        met = self._met[slots]
        suspects = np.unique(ordered[(met & bits) != 0])
        repeated = np.concatenate([ordered[1:][ordered[1:] == ordered[:-1]], *self._among_earlier(suspects)])
        self._met[slots] = met | bits
        shared = np.flatnonzero(slots[1:] == slots[:-1])  # of hashes in one slot only the last one's bit is set by now
        np.bitwise_or.at(self._met, slots[shared], bits[shared])
        rows, occurrences = [], []
        for row in np.flatnonzero(np.isin(hashes, repeated)).tolist() if len(repeated) else ():
            count = self._counts[int(hashes[row])] = self._counts.get(int(hashes[row]), 0) + 1
            if count > 1:
                rows.append(row)
                occurrences.append(count)
        self._recent.append(ordered)
        if len(self._recent) == MERGED:
            self._merged.append(np.sort(np.concatenate(self._recent)))
            self._recent = []
        return rows, occurrences

    def _among_earlier(self, suspects: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
        """The suspects that came in an earlier batch; those that came once are counted now."""
        found = []
        for batch in self._merged + self._recent:
            place = np.minimum(np.searchsorted(batch, suspects), len(batch) - 1)
            found.append(suspects[batch[place] == suspects])
            for value in found[-1].tolist():
                self._counts.setdefault(value, 1)
        return found
