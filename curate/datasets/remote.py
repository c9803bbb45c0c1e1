"""Files behind a URL (`https://`, `s3://`, `gs://`, `hf://`, …), read through fsspec."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from curate.errors import DataError

_URL = re.compile(r"^[a-z][a-z0-9+.-]*://")


def is_url(name: str) -> bool:
    """Whether a name is a URL and not that of a file."""
    return bool(_URL.match(name))


def read_remote(url: str) -> list[tuple[PurePosixPath, bytes]]:
    """Name and bytes of the file that a URL names, or of all that its glob names, sorted.

    Raises DataError when nothing is there, or when it cannot be reached.
    """
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        web = url.startswith("http")  # where ? and * are no signs of a glob
        paths = sorted(filesystem.glob(path)) if "*" in path and not web else [path]
        contents = [(_name(found, web), filesystem.cat_file(found)) for found in paths]
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
    if not contents:
        raise DataError(f"No file matches {url}.", expected="a URL, or a glob of files in that storage")
    return contents


def _name(path: str, web: bool) -> PurePosixPath:
    return PurePosixPath(re.split(r"[?#]", path)[0] if web else path)
