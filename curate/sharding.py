"""One of several equal parts of a dataset, for runs that know nothing of each other: `--shard 3/8`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.chunks import CHUNK
from curate.datasets.write import plain
from curate.errors import SettingError

_OWN = ("shard", "statuses")
"""What differs between the manifests of the shards of one run."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number` of `count`, the first being 1.

    A shard is a stretch of whole chunks, so that the model sees the rows in the same company as in a run without
    shards, and gives the same numbers to the last bit.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise SettingError(
                f"There is no shard {self.number} of {self.count}.",
                expected="--shard I/N, with I from 1 to N",
                try_next=f"--shard 1/{max(1, self.count)}",
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def file_name(self) -> str:
        """`shard-03-of-64.parquet`: the numbers as wide as the count, so that names sort as numbers do."""
        return f"shard-{self.number:0{len(str(self.count))}}-of-{self.count}.parquet"

    def stretch(self, rows: int) -> range:
        """Its rows of a dataset of so many; the shards differ by at most one chunk, and some may be empty."""
        chunks = -(-rows // CHUNK)
        start, stop = (n * chunks // self.count * CHUNK for n in (self.number - 1, self.number))
        return range(min(start, rows), min(stop, rows))


def find_shard(shard: str | tuple[int, int] | Shard | None) -> Shard | None:
    """The shard that `"3/8"` or `(3, 8)` names; SettingError for anything else."""
    if shard is None or isinstance(shard, Shard):
        return shard
    if isinstance(shard, str):
        match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
        if match is None:
            raise SettingError(f"--shard {shard} is not a shard.", expected="--shard I/N", try_next="--shard 1/8")
        return Shard(int(match[1]), int(match[2]))
    return Shard(*shard)


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """The same only for shards of one run: of versions, input, columns, and estimators with all their settings."""
    content = json.dumps(plain(shared_part(manifest)), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def shared_part(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifests of the shards of one run have in common."""
    return {name: value for name, value in manifest.items() if name not in _OWN}
