"""Rows packed into one sequence: a tree of tokens in which every token sees only the text that it continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from curate.lm.batching import Row, common


@dataclass(slots=True)
class Pack:
    """Rows side by side; what neighbours begin with is there once. `shared` first tokens of all are left out.

    Of token n, `positions[n]` is the place in its text, and `ends[n]` the index after the last token that continues
    it: tokens come depth first, so token i sees token j exactly if j ≤ i < ends[j]. `paths[r]` holds the indices
    of row r's tokens from `shared` on.
    """

    shared: int = 0
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_one_text(self) -> bool:
        """Whether it is a single row, which needs no mask but the causal one."""
        return len(self.rows) == 1

    def add(self, row: Row, alike: int) -> None:
        """Put a row behind the others; its first `alike` tokens, the shared ones included, are those of the last."""
        stem = self.paths[-1][: alike - self.shared] if self.paths else []
        first, new = len(self.ids), row.ids[self.shared + len(stem) :]
        self.ids.extend(new)
        self.positions.extend(range(self.shared + len(stem), len(row.ids)))
        self.paths.append([*stem, *range(first, len(self.ids))])
        self.rows.append(row)
        self.ends.extend([0] * len(new))
        for index in self.paths[-1]:
            self.ends[index] = len(self.ids)


def make_packs(rows: Sequence[Row], shared: int, room: int, most: int) -> list[Pack]:
    """Rows, sorted by their tokens, in packs of `room` tokens, the longest pack first.

    A long row gets as much room again for rows that begin like it (the answers to one prompt), up to `most`
    tokens with the shared ones. `room` 0 packs nothing.
    """
    packs: list[Pack] = []
    alike = [0, *(common(a.ids, b.ids) for a, b in pairwise(rows))]
    for row, same in zip(rows, alike, strict=True):
        if packs and room:
            allowed = min(max(room, 2 * len(packs[-1].paths[0])), most - shared)
            if len(packs[-1]) + len(row.ids) - max(same, shared) <= allowed:
                packs[-1].add(row, same)
                continue
        packs.append(Pack(shared))
        packs[-1].add(row, shared)
    return sorted(packs, key=lambda pack: -len(pack))
