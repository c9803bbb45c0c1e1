"""`curate views build`: dumps to one sorted Parquet table of (title, views), in constant memory."""

from __future__ import annotations

import bz2
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from curate.datasets.write import manifest_path, whole_file, with_manifest, write_json
from curate.errors import DataError, PageViewsError
from curate.manifest import versions
from curate.wikipedia.dumps import Parsed, Wanted, layout_of, month_in, parse_block, total_by_title

if TYPE_CHECKING:
    import pyarrow as pa

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
        import pyarrow.parquet as pq

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
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(total_by_title(pa.concat_tables(tables)), path, compression="lz4", use_dictionary=False)


def _merge(runs: Sequence[Path], output: Path, manifest: dict[str, Any]) -> int:
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

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
