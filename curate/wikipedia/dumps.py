"""An offline table of page views, from Wikimedia's dumps: loading them, and summing them up."""

from __future__ import annotations

import bz2
import hashlib
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from curate.data.files import manifest_path, versions, whole_file, with_manifest, write_json
from curate.data.stores import PARQUET, file_fingerprint, open_parquet_file, read_ahead, seal
from curate.display import Progress
from curate.errors import DataError, EstimatorError, OutputError, PageViewsError, setting
from curate.wikipedia.client import GaveUpError, PoliteClient, RateLimiter, Retry, TroubleError, check_busy
from curate.wikipedia.options import MONTH, BuildSettings, FetchSettings, check_contact, http_base, parse_window

if TYPE_CHECKING:
    import duckdb
    import httpx

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


Layout = tuple[str, ...]
"""The fields of a line, which spaces separate."""

COMPLETE: Layout = ("project", "title", "page_id", "access", "views", "days")
"""`pageview_complete`: en.wikipedia Zürich 34196 mobile-web 41235 A1330B1411…"""

HOURLY: Layout = ("project", "title", "views", "bytes")
"""`pageviews`: en.m Zürich 57 0"""


def project_codes(wanted: BuildSettings, layout: Layout) -> list[str]:
    """What the first field of a wanted line may be."""
    if layout is COMPLETE:
        return [wanted.wiki]
    language, _, family = wanted.wiki.partition(".")
    suffix = _HOURLY_FAMILIES.get(family, f".{family}")
    desktop, mobile = [f"{language}{suffix}"], [f"{language}.m{suffix}", f"{language}.zero{suffix}"]
    return {"desktop": desktop, "mobile-web": mobile, "mobile-app": []}.get(wanted.access, desktop + mobile)


def layout_of(lines: bytes) -> Layout | None:
    """The layout of the first line that has one; None if no line looks like a dump's."""
    for line in lines.split(b"\n", 1000)[:1000]:
        fields = line.split(b" ")
        for layout in (COMPLETE, HOURLY):
            if len(fields) == len(layout) and fields[layout.index("views")].isdigit():
                return layout
    return None


def month_in(path: Path) -> str | None:
    """The month a dump's name tells: 2021-10 for pageviews-202110-user.bz2 and pageviews-20211001-000000.gz."""
    match = _MONTH_IN_NAME.search(path.name)
    return f"{match[1]}-{match[2]}" if match else None


def parse_block(block: bytes, layout: Layout, wanted: BuildSettings) -> tuple[pa.Table, int, int]:
    """The wanted lines of a block (title as in the dump, views), how many it has, and how many of them are malformed.

    The block is of whole lines. One is malformed if it has another number of fields, or if it is one of the project and
    its views are not a number or its title is not UTF-8.
    """
    odd: list[int] = []

    def skip(row: csv.InvalidRow) -> str:
        odd.append(row.actual_columns)
        return "skip"

    columns = [name for name in layout if name in ("project", "title", "access", "views")]
    rows = csv.read_csv(
        pa.BufferReader(block),
        csv.ReadOptions(column_names=list(layout), block_size=1 << 20),
        csv.ParseOptions(delimiter=" ", quote_char=False, invalid_row_handler=skip),
        csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    lines = rows.num_rows + len(odd)
    rows = rows.filter(_is_one_of(rows["project"], project_codes(wanted, layout)))
    if layout is COMPLETE and wanted.access != "all-access":
        rows = rows.filter(pc.equal(rows["access"], wanted.access))
    if wanted.titles is not None:
        rows = rows.filter(_is_one_of(rows["title"], wanted.titles))
    found = rows.num_rows
    # 18 digits fit 64 bits; the few real counts have ten.
    number = pc.and_(pc.ascii_is_decimal(rows["views"]), pc.less_equal(pc.binary_length(rows["views"]), 18))
    rows = _with_readable_titles(rows.filter(number).select(["title", "views"]))
    table = rows.set_column(1, "views", rows["views"].cast(pa.int64()))
    return table, lines, len(odd) + found - table.num_rows


def _is_one_of(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))


def _with_readable_titles(rows: pa.Table) -> pa.Table:
    """The rows whose titles are UTF-8; they are looked at one by one only where some are not."""
    try:
        rows["title"].validate(full=True)
        return rows
    except pa.ArrowInvalid:
        titles = rows["title"].cast(pa.binary()).to_pylist()
        return rows.filter(pa.array([title.decode(errors="ignore").encode() == title for title in titles], pa.bool_()))


READ = 1 << 18
"""Compressed bytes read at a time."""

BLOCK = 4 << 20
"""Bytes of text parsed at a time."""

MEMORY = "160MB"
"""What DuckDB may hold of the lines; the others are in temporary files."""

THREADS = 4
"""At most, of DuckDB: each needs a share of that memory, and 64 of them would not get enough."""

CORES = os.cpu_count() or 1

ROW_GROUP = 100_000

_SUM = """
SELECT replace(title, '_', ' ') AS title, CAST(sum(views) AS BIGINT) AS views FROM lines GROUP BY 1 ORDER BY 1
"""

T = TypeVar("T")


def build_table(
    paths: Sequence[Path], output: Path, wanted: BuildSettings, progress: Progress | None = None
) -> dict[str, Any]:
    """Sum the views of every title over all dumps and write them, sorted by title; returns the manifest.

    The files are read side by side, one a core. Raises PageViewsError for a file that is damaged or no dump, and
    for dumps without a single line of the project.
    """
    dumps = [Dump(path, wanted) for path in sorted(dict.fromkeys(paths))]
    total = sum(dump.size for dump in dumps)
    with whole_file(output) as temporary:
        with in_duckdb(memory_limit=MEMORY, threads=min(THREADS, CORES), temp_directory=f"{temporary}.d") as db:
            db.sql("CREATE TABLE lines (title VARCHAR, views BIGINT)")
            for table in in_turn([read_ahead(dump.tables()) for dump in dumps], CORES):
                # Summed inside a block already: less to insert.
                db.from_arrow(table.group_by("title").aggregate([("views", "sum")])).insert_into("lines")
                if progress:
                    progress("views build", sum(dump.read for dump in dumps), total)
            manifest = _manifest(dumps, wanted)
            manifest["rows"] = _write_sums(db, temporary, manifest)
        if not manifest["rows"]:
            raise PageViewsError(
                f"The {len(dumps)} dumps hold no line of {wanted.wiki}.",
                expected="a project as the dumps call it, such as en.wikipedia or de.wiktionary",
                try_next=setting("project", "NAME"),
            )
    write_json(manifest, manifest_path(output))
    return manifest


@contextmanager
def in_duckdb(**config: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory, and on disk where that is full; what goes wrong in it is an OSError of one line."""
    import duckdb

    try:
        with duckdb.connect(config=config) as db:
            db.sql("SET enable_progress_bar = false")  # it would be drawn on stdout, which is for results
            yield db
    except duckdb.Error as error:
        raise OSError(str(error).splitlines()[0]) from error


def _write_sums(db: duckdb.DuckDBPyConnection, path: Path, manifest: dict[str, Any]) -> int:
    """Write the sums of all lines; returns how many titles they are."""
    schema = pa.schema([("title", pa.string()), ("views", pa.int64())])
    schema = with_manifest(schema.empty_table(), manifest).schema
    pa.default_memory_pool().release_unused()
    rows = 0
    with pq.ParquetWriter(path, schema, **PARQUET) as writer:
        for batch in db.sql(_SUM).to_arrow_reader(ROW_GROUP):
            writer.write_batch(pa.record_batch(batch.columns, schema), row_group_size=ROW_GROUP)
            rows += batch.num_rows
    seal(path)
    return rows


class Dump:
    """One dump (.bz2, .gz or plain text) as it is read: so many bytes, lines and malformed lines so far."""

    def __init__(self, path: Path, wanted: BuildSettings) -> None:
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise PageViewsError(
                f"There is no dump {path}.",
                expected="files such as pageviews-202110-user.bz2",
                try_next="curate views fetch --month 2021-10 -o dumps/",
            ) from error
        self.path, self.wanted = path, wanted
        self.read = self.lines = self.malformed = 0
        self._digest = hashlib.sha256()

    def tables(self) -> Iterator[pa.Table]:
        """The wanted lines (title as in the dump, views), a block at a time."""
        layout = None
        for block in read_ahead(self.blocks()):
            layout = layout or layout_of(block)
            if layout is None:
                line = block.split(b"\n", 1)[0][:60].decode(errors="replace")
                raise PageViewsError(
                    f"{self.path} is not a page-view dump: it begins with {line!r}.",
                    expected="lines such as 'en.wikipedia Zürich 34196 desktop 41235 A1330B1411' or 'en.m Zürich 57 0'",
                    try_next="curate views fetch --month 2021-10 -o dumps/",
                )
            table, lines, malformed = parse_block(block, layout, self.wanted)
            self.lines += lines
            self.malformed += malformed
            yield table

    def blocks(self) -> Iterator[bytes]:
        """The text in blocks of whole lines."""
        text: list[bytes] = []
        size = 0
        for piece in self._unpacked():
            text.append(piece)
            size += len(piece)
            if size >= BLOCK:
                whole, _, rest = b"".join(text).rpartition(b"\n")
                if whole:
                    yield whole + b"\n"
                text, size = [rest], len(rest)
        if size:
            yield b"".join(text)

    def _unpacked(self) -> Iterator[bytes]:
        make: Callable[[], Any] = _DECOMPRESSORS.get(self.path.suffix, _Plain)
        machine = make()
        try:
            with self.path.open("rb") as file:
                while data := file.read(READ):
                    self.read += len(data)
                    self._digest.update(data)
                    while data:
                        if machine.eof:
                            machine = make()  # one stream after another, as parallel compressors write them
                        yield machine.decompress(data)
                        data = machine.unused_data if machine.eof else b""
        except (OSError, zlib.error, EOFError) as error:
            raise self._damaged(f"cannot be read: {error}.", "it again") from error
        if not machine.eof:
            raise self._damaged("is cut off: it ends in the middle of the compressed data.", "the rest of it")

    def _damaged(self, found: str, needed: str) -> PageViewsError:
        try_next = f"curate views fetch, to load {needed}"
        return PageViewsError(f"{self.path} {found}", expected="a whole dump", try_next=try_next)

    def describe(self) -> dict[str, Any]:
        """What the manifest tells of it."""
        counts = {"lines": self.lines, "malformed": self.malformed}
        return {"name": self.path.name, "sha256": self._digest.hexdigest(), **counts}


class _Plain:
    """Looks like a decompressor and leaves the text as it is."""

    eof = True
    unused_data = b""

    def decompress(self, data: bytes) -> bytes:
        return data


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".bz2": bz2.BZ2Decompressor,
    ".gz": partial(zlib.decompressobj, wbits=31),
}


def in_turn(sources: Sequence[Iterator[T]], at_once: int) -> Iterator[T]:
    """The items of all sources, one of each in turn, so many sources at once."""
    waiting = iter(sources)
    active = deque(islice(waiting, at_once))
    while active:
        source = active.popleft()
        try:
            yield next(source)
            active.append(source)
        except StopIteration:
            active.extend(islice(waiting, 1))


def read_titles(path: Path) -> frozenset[str]:
    """The titles to keep, as the dumps write them: from a text file with one a line, or a Parquet column `title`."""
    if path.suffix == ".parquet":
        titles = open_parquet_file(path).read(["title"])["title"].to_pylist()
    else:
        try:
            titles = path.read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}.", expected="a file with a title a line"
            ) from error
    return frozenset(title.strip().replace(" ", "_") for title in titles if title and title.strip())


def _manifest(dumps: Sequence[Dump], wanted: BuildSettings) -> dict[str, Any]:
    return {
        "command": "views build",
        "versions": versions("pyarrow", "duckdb"),
        "project": wanted.wiki,
        "access": wanted.access,
        "titles": "all" if wanted.titles is None else len(wanted.titles),
        "months": sorted({month for dump in dumps if (month := month_in(dump.path))}),
        "dumps": [dump.describe() for dump in dumps],
    }


OFFICIAL_DUMPS = "https://dumps.wikimedia.org/other/pageview_complete/monthly"
CHECKSUM_FILES = {"sha256sums.txt": "sha256", "sha1sums.txt": "sha1", "md5sums.txt": "md5"}

RATE = 5.0
"""Requests a second, so that a server that hangs up again and again is not asked without a pause."""

RETRY = Retry(unreachable=Retry.attempts)
"""A server that does not answer at first is waited for as long as one that stops in the middle."""

DEADLINE = 24 * 3600.0
"""Seconds for one request; what it loaded is not loaded again."""


@dataclass(frozen=True)
class Fetched:
    """A dump on disk: its size, how many bytes this run loaded, and the checksum it was compared with, if any."""

    path: Path
    size: int
    loaded: int
    checksum: str | None


def fetch_months(
    months: Sequence[str], folder: Path, settings: FetchSettings, progress: Progress | None = None
) -> list[Fetched]:
    """Load the dumps of all months into a folder, one after the other."""
    for month in months:
        if not MONTH.match(month):
            raise EstimatorError(
                f"{month!r} is not a month.", expected=f"{setting('month', '2021-10')}, once for each month"
            )
        parse_window(month, datetime.now(timezone.utc).date())
    if settings.dumps_url is None:
        check_contact(settings.contact)
    base = http_base("dumps_url", settings.dumps_url or OFFICIAL_DUMPS)
    agents = ("user", "spider", "automated") if settings.agent == "all-agents" else (settings.agent,)
    client = PoliteClient(settings.contact, RateLimiter(RATE), RETRY)
    return [fetch(client, dump_url(base, month, agent), folder, progress) for month in months for agent in agents]


def dump_url(base: str, month: str, agent: str) -> str:
    """Where the dump of a month (`2021-10`) and an agent (`user`, `spider`, `automated`) lies."""
    return f"{base.rstrip('/')}/{month[:4]}/{month}/pageviews-{month.replace('-', '')}-{agent}.bz2"


def fetch(client: PoliteClient, url: str, folder: Path, progress: Progress | None = None) -> Fetched:
    """Load `url` into `folder`; what an earlier run left as `.part` is not loaded again.

    Raises PageViewsError when the server has no such file or never answers, and when the checksum is wrong.
    """
    target = folder / url.rsplit("/", 1)[1]
    if target.is_file():
        return Fetched(target, target.stat().st_size, 0, None)
    part = target.with_name(f"{target.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _length(part)
        client.retried(url, partial(_load_rest, client, url, part, progress))
        loaded = max(0, _length(part) - before)
        checksum = _check(client, url, part)
        part.replace(target)
    except GaveUpError as error:
        raise PageViewsError(
            f"{url} cannot be loaded ({error}).",
            expected="a server that answers",
            try_next="the same command again later; what was loaded is kept",
        ) from error
    except OSError as error:
        raise OutputError(
            f"{part} cannot be written: {error.strerror or error}.", expected="room on the disk"
        ) from error
    return Fetched(target, target.stat().st_size, loaded, checksum)


def _load_rest(client: PoliteClient, url: str, part: Path, progress: Progress | None) -> None:
    """Load what is missing. TroubleError when it breaks off: a download that moves is worth going on with."""
    before = there = _length(part)
    # "identity", since a server that compresses on the way would make byte positions meaningless.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    try:
        with client.stream(url, DEADLINE, headers=headers) as response:
            check_busy(response)
            if response.status_code == 416 and _total(response) == there:
                return
            if response.status_code not in (200, 206):
                raise PageViewsError(
                    f"{url} is not there (HTTP {response.status_code}).",
                    expected="a month that has ended, since July 2015, and a server that lays dumps out as Wikimedia "
                    "does",
                    try_next=f"{setting('month', '2021-10')}, or {setting('dumps_url', 'BASE')}",
                )
            if response.status_code == 200:
                there = 0  # the server sends the whole file, whatever it was asked
            total = there + int(response.headers.get("Content-Length", 0))
            with part.open("ab" if there else "wb") as file:
                for data in response.iter_raw():  # as it comes: what waited for a full block would be lost
                    file.write(data)
                    there += len(data)
                    if progress:
                        progress(part.stem, there, max(total, there))
        if there < total:
            raise TroubleError("a download that broke off")
    except TroubleError as trouble:
        trouble.moved = there > before
        raise


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _total(response: httpx.Response) -> int:
    """The size of the file, from the Content-Range of an answer that has no more of it (`bytes */123`)."""
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(size) if size.isdigit() else -1


def _check(client: PoliteClient, url: str, part: Path) -> str | None:
    """Compare with the checksum that the folder publishes, if it does; the name of the kind of checksum."""
    folder, _, name = url.rpartition("/")
    for listing, kind in CHECKSUM_FILES.items():
        response, content = client.retried(url, partial(client.body, f"{folder}/{listing}"))
        lines = content.decode(errors="replace").splitlines() if response.status_code == 200 else []
        published = {words[-1].lstrip("*"): words[0] for line in lines if (words := line.split())}
        if name not in published:
            continue
        if file_fingerprint([part], kind=kind) != published[name].lower():
            part.unlink()
            raise PageViewsError(
                f"{name} does not have the {kind} that its server publishes; it was deleted.",
                expected=published[name],
                try_next="the same command again",
            )
        return kind
    return None
