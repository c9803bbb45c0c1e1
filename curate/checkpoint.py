"""Finished pieces of work on disk, each under a hash of everything that made it: a stopped run goes on from there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.data.files import write_text


def key_of(*content: Any) -> str:
    """A hash of JSON content, 32 hexadecimal digits: what is not equal has another key. Other objects count as text.

    Whatever could change a piece of work belongs into its key: curate's version, settings, model, data.

    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Checkpoint:
    """A folder of finished pieces, one JSON file each: `KEY.json`. A file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when the first piece is put there."""
        self.folder = folder

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def path(self, key: str) -> Path:
        """The file of a piece."""
        return self.folder / f"{key}.json"

    def get(self, key: str) -> Any:
        """The finished piece, or None where it is not there yet."""
        return json.loads(self.path(key).read_text(encoding="utf-8")) if key in self else None

    def put(self, key: str, value: Any) -> None:
        """Keep a piece. As JSON: `get` gives tuples as lists, and the keys of mappings as texts."""
        write_text(json.dumps(value), self.path(key))

    def make(self, key: str, work: Callable[[], Any]) -> Any:
        """The piece as `get` gives it, made and kept now if it is not there yet."""
        if key not in self:
            self.put(key, work())
        return self.get(key)

    def clear(self) -> None:
        """Remove all pieces: the work is done as a whole."""
        shutil.rmtree(self.folder, ignore_errors=True)
