"""An offline table of page views, from Wikimedia's dumps."""

from __future__ import annotations

import bz2
import hashlib
import os
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from random import random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from curate.data.files import manifest_path, whole_file, with_manifest, write_json
from curate.data.table import versions
from curate.errors import DataError, OutputError, PageViewsError
from curate.wikipedia.client import LONGEST_WAIT, Patience, retry_after

if TYPE_CHECKING:
    import httpx

ALL_ACCESS = "all-access"

# How the hourly files abbreviate the projects: `en` is en.wikipedia, `en.d` en.wiktionary, `en.m.d` its mobile site.
_HOURLY_FAMILIES = {
    "wikipedia": "",
    "wikibooks": ".b",
    "wiktionary": ".d",
    "wikimedia": ".m",
    "wikinews": ".n",
    "wikiquote": ".q",
    "wikisource": ".s",
    "wikiversity": ".v",
    "wikivoyage": ".voy",
    "mediawiki": ".w",
    "wikidata": ".wd",
}
_MONTH_IN_NAME = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])(?!\d(?!\d))")


@dataclass(frozen=True)
class Layout:
    """The fields of a line, which spaces separate."""

    name: Literal["complete", "hourly"]
    fields: tuple[str, ...]


COMPLETE = Layout("complete", ("project", "title", "page_id", "access", "views", "days"))
"""`pageview_complete`: en.wikipedia Zürich 34196 mobile-web 41235 A1330B1411…"""

HOURLY = Layout("hourly", ("project", "title", "views", "bytes"))
"""`pageviews`: en.m Zürich 57 0"""


@dataclass(frozen=True)
class Wanted:
    """Which lines count: those of a project and an access method; with `titles`, of these articles only."""

    project: str
    access: str = ALL_ACCESS
    titles: frozenset[str] | None = None

    def project_codes(self, layout: Layout) -> list[str]:
        """What the first field of such a line may be."""
        if layout is COMPLETE:
            return [self.project]
        language, _, family = self.project.partition(".")
        suffix = _HOURLY_FAMILIES.get(family, f".{family}")
        mobile = [f"{language}.m{suffix}", f"{language}.zero{suffix}"]
        return {"desktop": [f"{language}{suffix}"], "mobile-web": mobile, "mobile-app": []}.get(
            self.access, [f"{language}{suffix}", *mobile]
        )


@dataclass(frozen=True)
class Parsed:
    """What a block held: `table` (title as in the dump, views) of the wanted lines, and how many lines were what."""

    table: pa.Table
    lines: int
    malformed: int


def layout_of(lines: bytes) -> Layout | None:
    """The layout of the first line that has one; None if no line looks like a dump's."""
    for line in lines.split(b"\n", 1000)[:1000]:
        fields = line.split(b" ")
        for layout, views in ((COMPLETE, 4), (HOURLY, 2)):
            if len(fields) == len(layout.fields) and fields[views].isdigit():
                return layout
    return None


def month_in(path: Path) -> str | None:
    """The month a dump's name tells: 2021-10 for pageviews-202110-user.bz2 and pageviews-20211001-000000.gz."""
    match = _MONTH_IN_NAME.search(path.name)
    return f"{match[1]}-{match[2]}" if match else None


def parse_block(block: bytes, layout: Layout, wanted: Wanted) -> Parsed:
    """The wanted lines of a block of whole lines.

    A line is malformed if it has another number of fields, or if it is one of the project and its views are not a
    number or its title is not UTF-8.
    """

    odd: list[int] = []

    def skip(row: csv.InvalidRow) -> str:
        odd.append(row.actual_columns)
        return "skip"

    columns = [name for name in ("project", "title", "access", "views") if name in layout.fields]
    rows = csv.read_csv(
        pa.BufferReader(block),
        csv.ReadOptions(column_names=list(layout.fields), block_size=1 << 20),
        csv.ParseOptions(delimiter=" ", quote_char=False, invalid_row_handler=skip),
        csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    lines = rows.num_rows + len(odd)
    rows = rows.filter(_is_one_of(rows["project"], wanted.project_codes(layout)))
    if layout is COMPLETE and wanted.access != ALL_ACCESS:
        rows = rows.filter(pc.equal(rows["access"], wanted.access))
    if wanted.titles is not None:
        rows = rows.filter(_is_one_of(rows["title"], wanted.titles))
    found = rows.num_rows
    # 18 digits fit 64 bits; the few real counts have ten.
    number = pc.and_(pc.ascii_is_decimal(rows["views"]), pc.less_equal(pc.binary_length(rows["views"]), 18))
    rows = _with_readable_titles(rows.filter(number).select(["title", "views"]))
    table = rows.set_column(1, "views", rows["views"].cast(pa.int64()))
    return Parsed(table, lines, len(odd) + found - table.num_rows)


def total_by_title(table: pa.Table) -> pa.Table:
    """One row a title, its views summed."""
    totals = table.group_by("title").aggregate([("views", "sum")])
    return totals.rename_columns(["title", "views"])


def _is_one_of(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))


def _with_readable_titles(rows: pa.Table) -> pa.Table:
    try:
        rows["title"].validate(full=True)
        return rows
    except pa.ArrowInvalid:
        titles = rows["title"].cast(pa.binary()).to_pylist()
        return rows.filter(pa.array([_is_utf8(title) for title in titles], pa.bool_()))


def _is_utf8(title: bytes) -> bool:
    try:
        title.decode()
    except UnicodeDecodeError:
        return False
    return True


READ = 1 << 18
BLOCK = 4 << 20
RUN_ROWS = 250_000
MERGE_MEMORY = "160MB"
"""Compressed bytes read at a time, text parsed at a time, rows summed before they go to disk, memory to merge them."""

_MERGE = """
SELECT replace(title, '_', ' ') AS title, CAST(sum(views) AS BIGINT) AS views
FROM read_parquet(?) GROUP BY 1 ORDER BY 1
"""

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Called with (what, compressed bytes read, compressed bytes in all)."""


@dataclass(frozen=True)
class Dump:
    """One dump as it was read."""

    name: str
    sha256: str
    lines: int
    malformed: int


def build_table(
    dumps: Sequence[Path], output: Path, wanted: Wanted, progress: Progress | None = None
) -> dict[str, Any]:
    """Sum the views of every title over all dumps and write them, sorted by title; returns the manifest.

    The files are read side by side, one a core. Raises PageViewsError for a file that is damaged or no dump, and
    for dumps without a single line of the project.
    """
    dumps = sorted(dict.fromkeys(dumps))
    reading = _Reading(sum(_size(path) for path in dumps), progress)
    with TemporaryDirectory(prefix=f".{output.name}.", dir=_made(output.parent)) as folder:
        with ThreadPoolExecutor(min(len(dumps), os.cpu_count() or 1)) as pool:
            jobs = [pool.submit(_sum_dump, path, Path(folder), n, wanted, reading) for n, path in enumerate(dumps)]
            try:
                read = [job.result() for job in jobs]
            except BaseException:
                reading.stopped = True
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        manifest = _manifest(dumps, read, wanted)
        runs = sorted(Path(folder).glob("*.parquet"))
        if not runs:
            raise PageViewsError(
                f"The {len(dumps)} dumps hold no line of {wanted.project}.",
                expected="a project as the dumps call it, such as en.wikipedia or de.wiktionary",
                try_next="--project NAME",
            )
        manifest["rows"] = _merge(runs, output, manifest)
    write_json(manifest, manifest_path(output))
    return manifest


def read_titles(path: Path) -> frozenset[str]:
    """The titles to keep, as the dumps write them: from a text file with one a line, or a Parquet column `title`."""
    if path.suffix == ".parquet":
        titles = pq.read_table(path, columns=["title"])["title"].to_pylist()
    else:
        try:
            titles = path.read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}.", expected="a file with a title a line"
            ) from error
    return frozenset(title.strip().replace(" ", "_") for title in titles if title and title.strip())


def blocks(path: Path, seen: Callable[[bytes], None]) -> Iterator[bytes]:
    """The text of a dump (.bz2, .gz or plain) in blocks of whole lines; `seen` is given every byte read."""
    text: list[bytes] = []
    size = 0
    for piece in _decompressed(path, seen):
        text.append(piece)
        size += len(piece)
        if size >= BLOCK:
            whole, _, rest = b"".join(text).rpartition(b"\n")
            if whole:
                yield whole + b"\n"
            text, size = [rest], len(rest)
    if size:
        yield b"".join(text)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next one made in another thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        end: Any = object()
        following = pool.submit(next, items, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, items, end)
            yield item


class _Reading:
    """How far all files together have been read."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.done, self.progress, self.stopped = total, 0, progress, False

    def advance(self, size: int) -> None:
        if self.stopped:
            raise InterruptedError
        self.done += size
        if self.progress:
            self.progress("views build", self.done, self.total)


def _sum_dump(path: Path, folder: Path, number: int, wanted: Wanted, reading: _Reading) -> Dump:
    digest = hashlib.sha256()
    lines = malformed = 0

    def seen(data: bytes) -> None:
        digest.update(data)
        reading.advance(len(data))

    def parsed() -> Iterator[Parsed]:
        layout = None
        for block in ahead(blocks(path, seen)):
            layout = layout or layout_of(block)
            if layout is None:
                raise _not_a_dump(path, block)
            yield parse_block(block, layout, wanted)

    waiting: list[pa.Table] = []
    runs = 0
    for part in parsed():
        lines, malformed = lines + part.lines, malformed + part.malformed
        waiting.append(part.table)
        if sum(table.num_rows for table in waiting) >= RUN_ROWS:
            _write_run(waiting, folder / f"{number}-{runs}.parquet")
            waiting, runs = [], runs + 1
    if any(table.num_rows for table in waiting):
        _write_run(waiting, folder / f"{number}-{runs}.parquet")
    return Dump(path.name, digest.hexdigest(), lines, malformed)


def _write_run(tables: Sequence[pa.Table], path: Path) -> None:
    pq.write_table(total_by_title(pa.concat_tables(tables)), path, compression="lz4", use_dictionary=False)


def _merge(runs: Sequence[Path], output: Path, manifest: dict[str, Any]) -> int:
    import duckdb

    schema = with_manifest(pa.table({"title": pa.array([], pa.string()), "views": pa.array([], pa.int64())}), manifest)
    rows = 0
    pa.default_memory_pool().release_unused()
    with duckdb.connect(config={"memory_limit": MERGE_MEMORY, "temp_directory": str(runs[0].parent)}) as db:
        db.sql("SET enable_progress_bar = false")  # it would be drawn on stdout, which is for results
        reader = db.sql(_MERGE, params=[[str(run) for run in runs]]).to_arrow_reader(100_000)
        with whole_file(output) as temporary, pq.ParquetWriter(temporary, schema.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(pa.record_batch(batch.columns, schema.schema), row_group_size=100_000)
                rows += batch.num_rows
    return rows


def _decompressed(path: Path, seen: Callable[[bytes], None]) -> Iterator[bytes]:
    make: Callable[[], Any]
    if path.suffix == ".bz2":
        make = bz2.BZ2Decompressor
    elif path.suffix == ".gz":
        make = lambda: zlib.decompressobj(wbits=31)  # noqa: E731
    else:
        make = _Plain
    machine = make()
    try:
        with path.open("rb") as file:
            while data := file.read(READ):
                seen(data)
                while data:
                    if machine.eof:
                        machine = make()  # one stream after another, as parallel compressors write them
                    yield machine.decompress(data)
                    data = machine.unused_data if machine.eof else b""
    except (OSError, zlib.error, EOFError) as error:
        if isinstance(error, InterruptedError):
            raise
        raise PageViewsError(
            f"{path} cannot be read: {error}.", expected="a whole dump", try_next="curate views fetch, to load it again"
        ) from error
    if not machine.eof:
        raise PageViewsError(
            f"{path} is cut off: it ends in the middle of the compressed data.",
            expected="a whole dump",
            try_next="curate views fetch, to load the rest of it",
        )


class _Plain:
    """Looks like a decompressor and leaves the text as it is."""

    eof = True
    unused_data = b""

    def decompress(self, data: bytes) -> bytes:
        return data


def _manifest(dumps: Sequence[Path], read: Sequence[Dump], wanted: Wanted) -> dict[str, Any]:
    return {
        "command": "views build",
        "versions": versions("pyarrow", "duckdb"),
        "project": wanted.project,
        "access": wanted.access,
        "titles": "all" if wanted.titles is None else len(wanted.titles),
        "months": sorted({month for month in map(month_in, dumps) if month}),
        "dumps": [{"name": d.name, "sha256": d.sha256, "lines": d.lines, "malformed": d.malformed} for d in read],
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise PageViewsError(
            f"There is no dump {path}.",
            expected="files such as pageviews-202110-user.bz2",
            try_next="curate views fetch --month 2021-10 -o dumps/",
        ) from error


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _not_a_dump(path: Path, block: bytes) -> PageViewsError:
    line = block.split(b"\n", 1)[0][:60].decode(errors="replace")
    return PageViewsError(
        f"{path} is not a page-view dump: it begins with {line!r}.",
        expected="lines such as 'en.wikipedia Zürich 34196 desktop 41235 A1330B1411' or 'en.m Zürich 57 0'",
        try_next="curate views fetch --month 2021-10 -o dumps/",
    )


OFFICIAL_DUMPS = "https://dumps.wikimedia.org/other/pageview_complete/monthly"
CHECKSUM_FILES = {"sha256sums.txt": "sha256", "sha1sums.txt": "sha1", "md5sums.txt": "md5"}
HASHED_AT_ONCE = 1 << 20

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
        while data := file.read(HASHED_AT_ONCE):
            digest.update(data)
    return digest.hexdigest()


def _refused(url: str, status: int) -> PageViewsError:
    return PageViewsError(
        f"{url} is not there (HTTP {status}).",
        expected="a month that has ended, since July 2015, and a server that lays dumps out as Wikimedia does",
        try_next="--month 2021-10, or --dumps-url BASE",
    )
