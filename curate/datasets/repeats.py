"""Which rows repeat an earlier one, told batch by batch while the rows stream by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MERGED = 16
"""Batches whose hashes are put together, so that a suspect is looked up in few places."""


class Repeats:
    """Counts how often each content hash has come, over all batches; 10 to 12 bytes of memory a row.

    A table of one bit for the first and the last bits of a hash tells which few of a batch may have come before; only
    those are looked up among the hashes of the earlier batches.
    """

    def __init__(self, rows: int) -> None:
        import numpy as np

        bits = max(8, (2 * rows).bit_length())
        self._shift = np.uint64(64 - bits)
        self._met = np.zeros(1 << bits, dtype=np.uint8)
        self._merged: list[NDArray[np.uint64]] = []
        self._recent: list[NDArray[np.uint64]] = []
        self._counts: dict[int, int] = {}

    def add(self, hashes: NDArray[np.uint64]) -> tuple[list[int], list[int]]:
        """The rows of the next batch whose hash has come before, and which occurrence each is: 2, 3, …"""
        import numpy as np

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
        self._keep(ordered)
        return rows, occurrences

    def _keep(self, ordered: NDArray[np.uint64]) -> None:
        import numpy as np

        self._recent.append(ordered)
        if len(self._recent) == MERGED:
            self._merged.append(np.sort(np.concatenate(self._recent)))
            self._recent = []

    def _among_earlier(self, suspects: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
        """The suspects that came in an earlier batch; those that came once are counted now."""
        import numpy as np

        found = []
        for batch in self._merged + self._recent:
            place = np.minimum(np.searchsorted(batch, suspects), len(batch) - 1)
            found.append(suspects[batch[place] == suspects])
            for value in found[-1].tolist():
                self._counts.setdefault(value, 1)
        return found
