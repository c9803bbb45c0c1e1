"""`curate views fetch`: the dump of a month, loaded in as many sittings as it takes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from random import random
from typing import TYPE_CHECKING, Any

from curate.errors import OutputError, PageViewsError
from curate.wikipedia.polite import LONGEST_WAIT, Patience, retry_after

if TYPE_CHECKING:
    import httpx

OFFICIAL_DUMPS = "https://dumps.wikimedia.org/other/pageview_complete/monthly"
CHECKSUM_FILES = {"sha256sums.txt": "sha256", "sha1sums.txt": "sha1", "md5sums.txt": "md5"}
BLOCK = 1 << 20

Progress = Callable[[str, int, int], None]
"""Called with (file name, bytes there, bytes in all)."""


@dataclass(frozen=True)
class Fetched:
    """A dump on disk: its size, how many bytes this run loaded, and the checksum it was compared with, if any."""

    path: Path
    size: int
    loaded: int
    checksum: str | None


def dump_url(base: str, month: str, agent: str) -> str:
    """Where the dump of a month (`2021-10`) and an agent (`user`, `spider`, `automated`) lies."""
    return f"{base.rstrip('/')}/{month[:4]}/{month}/pageviews-{month.replace('-', '')}-{agent}.bz2"


def fetch(
    http: httpx.Client,
    url: str,
    folder: Path,
    progress: Progress | None = None,
    patience: Patience | None = None,
    sleep: Callable[[float], Any] = time.sleep,
) -> Fetched:
    """Load `url` into `folder`; what an earlier run left as `.part` is not loaded again.

    Raises PageViewsError when the server has no such file or never answers, and when the checksum is wrong.
    """
    target = folder / url.rsplit("/", 1)[1]
    if target.is_file():
        return Fetched(target, target.stat().st_size, 0, None)
    part = target.with_name(f"{target.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        loaded = _load(http, url, part, progress, patience or Patience(), sleep)
        checksum = _check(http, url, part)
        part.replace(target)
    except OSError as error:
        raise OutputError(
            f"{part} cannot be written: {error.strerror or error}.", expected="room on the disk"
        ) from error
    return Fetched(target, target.stat().st_size, loaded, checksum)


def _load(
    http: httpx.Client,
    url: str,
    part: Path,
    progress: Progress | None,
    patience: Patience,
    sleep: Callable[[float], Any],
) -> int:
    import httpx

    loaded = failures = 0
    while True:
        there = part.stat().st_size if part.is_file() else 0
        wait = None
        try:
            done, wait = _load_some(http, url, part, there, progress)
            reason = "a busy server"
        except httpx.TransportError as error:
            done, reason = False, str(error) or type(error).__name__
        gained = max(0, part.stat().st_size - there) if part.is_file() else 0
        loaded += gained
        if done:
            return loaded
        failures = 1 if gained else failures + 1  # a download that moves is worth going on with
        if failures >= patience.attempts or (wait or 0) > LONGEST_WAIT:
            raise PageViewsError(
                f"{url} cannot be loaded ({reason}).",
                expected="a server that answers",
                try_next="the same command again later; what was loaded is kept",
            )
        sleep(wait if wait is not None else patience.delay(failures, random()))


def _load_some(
    http: httpx.Client, url: str, part: Path, there: int, progress: Progress | None
) -> tuple[bool, float | None]:
    """Load what is missing: whether the file is whole now, and how long the server asks to wait if not."""
    # "identity", since a server that compresses on the way would make byte positions meaningless.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    with http.stream("GET", url, headers=headers) as response:
        if response.status_code == 429 or response.status_code >= 500:
            return False, retry_after(response.headers.get("Retry-After"), datetime.now(timezone.utc))
        if response.status_code == 416 and _total(response) == there:
            return True, None
        if response.status_code not in (200, 206):
            raise _refused(url, response.status_code)
        if response.status_code == 200:
            there = 0  # the server sends the whole file, whatever it was asked
        total = there + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if there else "wb") as file:
            for data in response.iter_raw():  # as it comes: what waited for a full block would be lost with the line
                file.write(data)
                there += len(data)
                if progress:
                    progress(part.stem, there, max(total, there))
    return there >= total, None


def _total(response: httpx.Response) -> int:
    """The size of the file, from the Content-Range of an answer that has no more of it (`bytes */123`)."""
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(size) if size.isdigit() else -1


def _check(http: httpx.Client, url: str, part: Path) -> str | None:
    """Compare with the checksum that the folder publishes, if it does; the name of the kind of checksum."""
    folder, _, name = url.rpartition("/")
    for listing, kind in CHECKSUM_FILES.items():
        response = http.get(f"{folder}/{listing}")
        if response.status_code != 200:
            continue
        published = {words[-1].lstrip("*"): words[0] for line in response.text.splitlines() if (words := line.split())}
        if name not in published:
            continue
        if _digest(part, kind) != published[name].lower():
            part.unlink()
            raise PageViewsError(
                f"{name} does not have the {kind} that its server publishes; it was deleted.",
                expected=published[name],
                try_next="the same command again",
            )
        return kind
    return None


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        while data := file.read(BLOCK):
            digest.update(data)
    return digest.hexdigest()


def _refused(url: str, status: int) -> PageViewsError:
    return PageViewsError(
        f"{url} is not there (HTTP {status}).",
        expected="a month that has ended, since July 2015, and a server that lays dumps out as Wikimedia does",
        try_next="--month 2021-10, or --dumps-url BASE",
    )
