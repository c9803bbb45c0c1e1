"""Seeded 64-bit hashes of ids, the same on every machine and in every version: what orders ties and draws rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

CHUNK = 8_192
"""Rows hashed at a time, so that what is in work fits the processor's cache."""
LONG = 1024
"""Bytes above which a text is hashed by itself, with BLAKE2b: one of a megabyte would take a hundred thousand steps."""


def id_hashes(ids: Sequence[str] | pa.Array | pa.ChunkedArray, seed: int, salt: str) -> NDArray[np.uint64]:
    """A seeded 64-bit hash of every id: (N,) uint64. Another salt gives an unrelated order."""
    return keyed(hash_texts(ids), seed, salt)


def keyed(hashes: NDArray[np.uint64], seed: int, salt: str) -> NDArray[np.uint64]:
    """Unseeded hashes made seeded ones, each different hash a different one. (N,) -> (N,)"""
    import numpy as np

    key = hashlib.blake2b(f"{salt}:{seed}".encode(), digest_size=8).digest()
    return _mixed(hashes ^ np.uint64(int.from_bytes(key, "little")))


def hash_texts(texts: Sequence[str] | pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """A 64-bit hash of the UTF-8 bytes of every text; null counts as empty. (N,) -> (N,)"""
    import numpy as np
    import pyarrow as pa

    if not isinstance(texts, (pa.Array, pa.ChunkedArray)):
        texts = pa.array(texts, pa.large_string())
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    parts = [_hash_array(c[i : i + CHUNK]) for c in chunks for i in range(0, len(c), CHUNK)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)


def _hash_array(array: Any) -> NDArray[np.uint64]:
    """Eight bytes of every text at a time, each mixed into what came before; long texts one by one."""
    import numpy as np
    import pyarrow as pa

    array = array.cast(pa.large_binary())
    if array.null_count:
        array = array.fill_null(b"")
    _, ends, data = array.buffers()
    offsets = np.frombuffer(ends, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    content = (b"" if data is None else bytes(data[first:last])) + bytes(8)
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
    import numpy as np

    x = x ^ (x >> np.uint64(33))
    x = x * np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    x = x * np.uint64(0xC4CEB9FE1A85EC53)
    x ^= x >> np.uint64(33)
    return x
