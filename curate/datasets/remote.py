"""Files behind a URL (`https://`, `s3://`, `gs://`, `hf://`, …), read through fsspec."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from curate.errors import DataError

_URL = re.compile(r"^[a-z][a-z0-9+.-]*://")


def is_url(name: str) -> bool:
    """Whether a name is a URL and not that of a file."""
    return bool(_URL.match(name))


def read_remote(url: str) -> list[tuple[PurePosixPath, bytes]]:
    """Name and bytes of the file that a URL names, or of all in its folder or glob, sorted.

    Raises DataError when nothing is there, or when it cannot be reached.
    """
    with _reached(url):
        filesystem, paths = _find(url)
        return [(_name(found, _is_web(url)), filesystem.cat_file(found)) for found in paths]


def open_remote(url: str) -> list[RemoteFile] | None:
    """The Parquet files that a URL, its folder or its glob names, sorted, not read yet; None if any is of another kind.

    None for the web too: few servers give parts of a file, and they have no folders.
    """
    if _is_web(url):
        return None
    with _reached(url):
        filesystem, paths = _find(url)
        if any(PurePosixPath(path).suffix.lower() != ".parquet" for path in paths):
            return None
        return [RemoteFile(filesystem, path) for path in paths]


@dataclass(frozen=True)
class RemoteFile:
    """A file in some storage."""

    filesystem: Any
    path: str

    def open(self) -> Any:
        """For reading parts of it, each of them asked for alone; DataError if it is not there."""
        with _reached(str(self.filesystem.unstrip_protocol(self.path))):
            return self.filesystem.open(self.path, "rb", cache_type="none")

    def version(self) -> str:
        """Changes whenever the content does: made of what the storage says of the file (size, time, ETag)."""
        return f"{self.path} {self.filesystem.ukey(self.path)}"


def _find(url: str) -> tuple[Any, list[str]]:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url)
    if _is_web(url):  # ? and * are no signs of a glob there
        return filesystem, [path]
    if any(sign in path for sign in "*?["):
        found = filesystem.glob(path)
    elif filesystem.isdir(path):
        found = [file for file in filesystem.find(path) if not file.endswith(".manifest.json")]
    else:
        found = [path]
    if not found:
        raise DataError(f"No file matches {url}.", expected="a URL, or a folder or glob of files in that storage")
    return filesystem, sorted(found)


@contextmanager
def _reached(url: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"{url} needs a package that is not installed: {error}",
            expected="the fsspec driver of that kind of storage",
            try_next="pip install s3fs, for s3://; gcsfs for gs://; adlfs for az://",
        ) from error
    except Exception as error:  # each kind of storage raises its own
        raise DataError(
            f"{url} cannot be read: {type(error).__name__} {error}".rstrip(),
            expected="the URL of a data file that can be reached from here",
            try_next="open it in a browser, or check the credentials for that storage",
        ) from error


def _is_web(url: str) -> bool:
    return url.startswith("http")


def _name(path: str, web: bool) -> PurePosixPath:
    return PurePosixPath(re.split(r"[?#]", path)[0] if web else path)
