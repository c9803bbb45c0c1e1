"""Finished work on disk, told by everything that made it: a stopped run goes on, and nothing is overwritten unasked."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.data.files import manifest_in, manifest_path, read_manifest, write_json, write_text
from curate.data.stores import open_parquet_file
from curate.display import duration
from curate.errors import DataError, OutputError, setting

DIGITS = 32

PARTS = ".parts"
"""The folder of finished parts, inside that of a run or a simulation."""


def key_of(*content: Any) -> str:
    """A hash of JSON content, 32 hexadecimal digits: what is not equal has another key. Other objects count as text.

    Whatever could change a piece of work belongs into its key: curate's version, settings, model, data.

    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


class Checkpoint:
    """A folder of finished pieces, one JSON file each, `KEY.json`, after a line with its checksum.

    A file is there whole or not at all; one that was damaged since counts as not there.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is made when the first piece is put there."""
        self.folder = folder

    def __contains__(self, key: str) -> bool:
        return self._text(key) is not None

    def path(self, key: str) -> Path:
        """The file of a piece."""
        return self.folder / f"{key}.json"

    def _text(self, key: str) -> str | None:
        try:
            checksum, _, text = self.path(key).read_text(encoding="utf-8").partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        return text if checksum == _checksum(text) else None

    def get(self, key: str) -> Any:
        """The finished piece, or None where it is not there yet."""
        text = self._text(key)
        return None if text is None else json.loads(text)

    def put(self, key: str, value: Any) -> None:
        """Keep a piece. As JSON: `get` gives tuples as lists, and the keys of mappings as texts."""
        text = json.dumps(value)
        write_text(f"{_checksum(text)}\n{text}", self.path(key))

    def make(self, key: str, work: Callable[[], Any]) -> Any:
        """The piece as `get` gives it, made and kept now if it is not there yet."""
        if key not in self:
            self.put(key, work())
        return self.get(key)

    def drop_others(self, keys: Collection[str]) -> None:
        """Remove what is kept under other keys, which settings that no longer apply have left."""
        for path in self.folder.glob("*"):
            key = path.name[:DIGITS]
            if re.fullmatch("[0-9a-f]+", key) and len(key) == DIGITS and key not in keys:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all pieces: the work is done as a whole."""
        shutil.rmtree(self.folder, ignore_errors=True)


STATUS = "status.json"


class Status:
    """How far the work in a folder is, while it goes on: `status.json` there, which is gone at the end.

    `weights` are the parts of the work and what each takes, in any unit. The time left is told from the pace of the
    parts that were done since the beginning, not of those that an earlier run had done. Nothing is written where it is
    not to be `told`.
    """

    def __init__(self, folder: Path, weights: Mapping[str, float], told: bool = True) -> None:
        self._file, self._weights = folder / STATUS if told else None, dict(weights)
        self._begun, self._fresh = time.monotonic(), 0.0
        self._told: dict[str, Any] = {"begun": _now(), "parts": len(weights), "done": 0}

    def begin(self, part: str) -> None:
        """The work is at this part now."""
        self._tell(part=part)

    def end(self, part: str, kept: bool = False) -> str | None:
        """A part is done, or was `kept` of an earlier run; what to say of what is left, if the pace is known."""
        weight = self._weights.pop(part, 0.0)
        self._fresh += 0.0 if kept else weight
        done, left = self._told["done"] + 1, None
        if self._fresh:
            left = sum(self._weights.values()) * (time.monotonic() - self._begun) / self._fresh
        ends = None if left is None else _now(left)
        self._tell(done=done, ends=ends)
        if kept or left is None or not self._weights:
            return None
        return f"{done} of {self._told['parts']} parts done, {duration(left)} left"

    def hears(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """`say`, whose last line stands in the file too."""

        def both(line: str) -> None:
            self._tell(said=line)
            say(line)

        return both

    def close(self) -> None:
        """The work is whole: what there is to know of it is in its files."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _tell(self, **more: Any) -> None:
        self._told |= more | {"heard": _now()}
        if self._file is not None:
            with suppress(OSError, OutputError):  # no work stops because it could not be told of
                write_json(self._told, self._file)


def _now(seconds: float = 0.0) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def read_status(folder: Path) -> dict[str, Any] | None:
    """The status of work that goes on in a folder, or stopped in the middle, with the seconds left and since it was
    heard of; None where there is none."""
    try:
        told: dict[str, Any] = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        now, ends = datetime.now(timezone.utc), told.get("ends")
        heard = (now - datetime.fromisoformat(told["heard"])).total_seconds()
        left = None if ends is None else max(0.0, (datetime.fromisoformat(ends) - now).total_seconds())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return {**told, "seconds_left": left, "seconds_since": max(0.0, heard)}


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def manifest_of(output: Path) -> Mapping[str, Any]:
    """The manifest of a file, inside it or beside it; empty where curate did not write it."""
    try:
        if output.suffix == ".parquet":
            return manifest_in(open_parquet_file(output).schema_arrow)
        return read_manifest(manifest_path(output))
    except (OSError, DataError, pa.ArrowException):  # a damaged file is none of ours any more
        return {}


def is_made(output: Path, same: Callable[[Mapping[str, Any]], bool], force: bool) -> bool:
    """Whether a file is there that was made in the `same` way, as its manifest tells; not if it is to be made by force.

    OutputError, with what would go, for any other file that is there.
    """
    if force or not output.exists():
        return False
    manifest = manifest_of(output)
    if manifest and same(manifest):
        return True
    raise would_go(output, _content(manifest))


def would_go(output: Path, content: str) -> OutputError:
    """The error for an output that would replace another one."""
    return OutputError(
        f"{output} is there already, {content}.",
        expected="a new name, or what made it: then nothing is done twice",
        try_next=f"another name for {setting('output')}, or {setting('force')} to replace it",
    )


def _content(manifest: Mapping[str, Any]) -> str:
    """What is in a file, by its manifest."""
    source = manifest.get("input", {})
    rows = f"{source.get('rows')} rows of {source.get('name')}"
    if manifest.get("command") == "score":
        part = f", shard {manifest['shard']['number']} of {manifest['shard']['count']}" if "shard" in manifest else ""
        names = ", ".join(str(estimator.get("name")) for estimator in manifest.get("estimators", []))
        return f"with other scores: {names} for {rows}{part}"
    if manifest.get("command") == "select":
        split = manifest.get("selection", {})
        which = f"{split.get('split')} ({split.get('asked')} by {split.get('by')})"
        return f"another split: {which}, {split.get('rows')} of {rows}"
    return f"made by curate {manifest['command']}" if "command" in manifest else "and curate did not write it"
