"""Dumps of both formats become one sorted table, whatever they hold, and are loaded in as many sittings as it takes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import OutputError, PageViewsError
from curate.wikipedia import dumps as building
from curate.wikipedia.client import PoliteClient, RateLimiter, Retry
from curate.wikipedia.dumps import (
    COMPLETE,
    HOURLY,
    build_table,
    dump_url,
    fetch,
    in_duckdb,
    layout_of,
    month_in,
    parse_block,
)
from curate.wikipedia.options import BuildSettings

Curate = Callable[..., Any]

COMPLETE_LINES = """\
de.wikipedia Zürich 9 desktop 50 A50
en.wikipedia "Heroes"_(song) 11 desktop 3 A1B2
en.wikipedia AC/DC 5 desktop 900 A400B500
en.wikipedia AC/DC 5 mobile-web 1100 A1100
en.wikipedia AC/DC 5 mobile-app 7 A7
en.wikipedia AC/DC null desktop 1 B1
en.wikipedia Zürich 34196 mobile-web 41235 A41235
en.wikipedia.beta Zürich 1 desktop 5 A5
en.wiktionary zebra 8 desktop 4 A4
"""
HOURLY_LINES = """\
de Zürich 7 0
de.m Zürich 3 0
en AC/DC 20 0
en.m AC/DC 30 0
en.zero AC/DC 1 0
en.d AC/DC 500 0
en.m.d AC/DC 500 0
en Main_Page 242332 4737756101
"""


def rows_of(table: Path) -> dict[str, int]:
    found = pq.read_table(table)
    assert found.column_names == ["title", "views"]
    titles = found["title"].to_pylist()
    assert titles == sorted(titles, key=str.encode)
    assert len(set(titles)) == len(titles)
    return dict(zip(titles, found["views"].to_pylist(), strict=True))


def dump(folder: Path, name: str, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path = folder / name
    path.write_bytes({".bz2": bz2.compress, ".gz": gzip.compress}.get(path.suffix, bytes)(content))
    return path


def test_a_monthly_dump_is_summed_over_access_methods_and_pages(tmp_path: Path) -> None:
    path = dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES)
    build_table([path], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert rows_of(tmp_path / "v.parquet") == {'"Heroes" (song)': 3, "AC/DC": 2008, "Zürich": 41235}


def test_an_hourly_dump_counts_the_mobile_site_too(tmp_path: Path) -> None:
    path = dump(tmp_path, "pageviews-20211001-000000.gz", HOURLY_LINES)
    build_table([path], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert rows_of(tmp_path / "v.parquet") == {"AC/DC": 51, "Main Page": 242332}


@pytest.mark.parametrize(
    ("project", "access", "views"),
    [
        ("en.wikipedia", "desktop", {"AC/DC": 901, '"Heroes" (song)': 3}),
        ("en.wikipedia", "mobile-app", {"AC/DC": 7}),
        ("de.wikipedia", "all-access", {"Zürich": 50}),
        ("en.wiktionary", "all-access", {"zebra": 4}),
    ],
)
def test_project_and_access_choose_lines(tmp_path: Path, project: str, access: str, views: dict[str, int]) -> None:
    path = dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES)
    build_table([path], tmp_path / "v.parquet", BuildSettings(project, access))
    assert rows_of(tmp_path / "v.parquet") == views


def test_several_files_are_summed_and_their_months_remembered(tmp_path: Path, curate: Curate) -> None:
    dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES)
    dump(tmp_path, "pageviews-202111-user.bz2", COMPLETE_LINES)
    dump(tmp_path, "pageviews-20211101-000000.gz", HOURLY_LINES)
    run = curate("views", "build", *tmp_path.glob("pageviews*"), "-o", "v.parquet", "--json")
    made = json.loads(run.stdout)
    assert run.exit_code == 0
    assert rows_of(tmp_path / "v.parquet")["AC/DC"] == 2 * 2008 + 51
    assert made["months"] == ["2021-10", "2021-11"]
    assert [d["lines"] for d in made["dumps"]] == [9, 8, 9] or sorted(d["lines"] for d in made["dumps"]) == [8, 9, 9]


def test_the_order_of_the_files_changes_nothing(tmp_path: Path) -> None:
    paths = [dump(tmp_path, f"pageviews-20211{n}-user.bz2", COMPLETE_LINES) for n in (0, 1, 2)]
    build_table(paths, tmp_path / "a.parquet", BuildSettings("en.wikipedia"))
    build_table(paths[::-1], tmp_path / "b.parquet", BuildSettings("en.wikipedia"))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_titles_keep_a_subset(tmp_path: Path, curate: Curate) -> None:
    dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES)
    (tmp_path / "titles.txt").write_text('AC/DC\n"Heroes" (song)\nNobody\n')
    assert curate("views", "build", *tmp_path.glob("*.bz2"), "-o", "v.parquet", "--titles", "titles.txt").exit_code == 0
    assert rows_of(tmp_path / "v.parquet") == {'"Heroes" (song)': 3, "AC/DC": 2008}


def test_malformed_lines_are_counted_and_do_no_harm() -> None:
    lines = [
        b"en.wikipedia Good 1 desktop 5 A5",
        b"en.wikipedia No_number 1 desktop many A5",
        b"en.wikipedia Minus 1 desktop -5 A5",
        b"en.wikipedia Too_large 1 desktop 99999999999999999999999 A5",
        b"en.wikipedia Too few",
        b"en.wikipedia One too many 1 desktop 5 A5",
        b"en.wikipedia Not_\xff_text 1 desktop 5 A5",
        b"de.wikipedia Good 1 desktop 5 A5",
    ]
    table, count, malformed = parse_block(b"\n".join(lines), COMPLETE, BuildSettings("en.wikipedia"))
    assert table.to_pylist() == [{"title": "Good", "views": 5}]
    assert (count, malformed) == (8, 6)


TITLES = st.text(st.characters(exclude_characters=" \n\r", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["en.wikipedia", "de.wikipedia"]), TITLES, st.integers(0, 10**12))))
def test_whatever_the_titles_are_their_views_add_up(entries: list[tuple[str, str, int]]) -> None:
    text = "".join(f"{project} {title} null desktop {views} A{views}\n" for project, title, views in entries)
    expected: Counter[str] = Counter()
    for project, title, views in entries:
        expected[title] += views if project == "en.wikipedia" else 0
    table, _, malformed = parse_block(text.encode() or b"\n", COMPLETE, BuildSettings("en.wikipedia"))
    found: Counter[str] = Counter()
    for row in table.to_pylist():
        found[row["title"]] += row["views"]
    assert malformed == 0
    assert +found == +expected


def test_lines_longer_than_a_block_and_blocks_that_end_anywhere(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(building, "READ", 7)
    monkeypatch.setattr(building, "BLOCK", 64)
    path = dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES + f"en.wikipedia {'x' * 300} 1 desktop 2 A2")
    made = build_table([path], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert rows_of(tmp_path / "v.parquet") == {'"Heroes" (song)': 3, "AC/DC": 2008, "Zürich": 41235, "x" * 300: 2}
    assert made["dumps"][0]["lines"] == 10


def test_lines_that_do_not_fit_into_memory_are_summed_too(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(building, "MEMORY", "40MB")
    text = "".join(f"en.wikipedia {'long_' * 20}{n} 1 desktop {n} A{n}\n" for n in range(100_000))
    paths = [dump(tmp_path, f"pageviews-20211{month}-user", text) for month in (0, 1)]
    build_table(paths, tmp_path / "v.parquet", BuildSettings())
    rows = rows_of(tmp_path / "v.parquet")
    assert len(rows) == 100_000 and all(rows[f"{'long ' * 20}{n}"] == 2 * n for n in range(100_000))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *(p.name for p in paths),
        "v.parquet",
        "v.parquet.manifest.json",
    ]


def test_a_disk_that_is_full_is_one_message(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(building, "MEMORY", "20MB")
    monkeypatch.setattr(building, "in_duckdb", partial(in_duckdb, max_temp_directory_size="1MB"))
    text = "".join(f"en.wikipedia {'long_' * 80}{n} 1 desktop {n} A{n}\n" for n in range(60_000))
    path = dump(tmp_path, "pageviews-202110-user", text)
    with pytest.raises(OutputError, match=r"v\.parquet cannot be written: Out of Memory(.|\n)*room on the disk"):
        build_table([path], tmp_path / "v.parquet", BuildSettings())
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_several_streams_is_read_to_its_end(tmp_path: Path) -> None:
    first, second = COMPLETE_LINES[:100].encode(), COMPLETE_LINES[100:].encode()
    for name, compress in (("a-202110.bz2", bz2.compress), ("b-202110.gz", gzip.compress)):
        (tmp_path / name).write_bytes(compress(first) + compress(second))
        build_table([tmp_path / name], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
        assert rows_of(tmp_path / "v.parquet")["AC/DC"] == 2008


@pytest.mark.parametrize("suffix", [".bz2", ".gz"])
def test_a_file_that_is_cut_off_is_refused_and_nothing_is_written(tmp_path: Path, suffix: str) -> None:
    path = dump(tmp_path, f"pageviews-202110-user{suffix}", COMPLETE_LINES * 50)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PageViewsError, match="is cut off"):
        build_table([path], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bz2", b"not bzip2 at all", "cannot be read"),
        ("a.gz", b"not gzip at all", "cannot be read"),
        ("a.txt", b"id,question\n1,What?\n", "is not a page-view dump"),
        ("a.txt", b"en.wikipedia Zebra 1 desktop 5 A5\n", "no line of fr.wikipedia"),
    ],
)
def test_what_is_no_dump_is_said_to_be_none(
    tmp_path: Path, curate: Curate, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    run = curate("views", "build", tmp_path / name, "-o", "v.parquet", "--project", "fr.wikipedia")
    assert run.exit_code == 1
    assert message in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "v.parquet").exists()


def test_a_layout_shows_in_the_first_good_line() -> None:
    assert layout_of(b"garbage\nen.wikipedia A 1 desktop 5 A5\n") is COMPLETE
    assert layout_of(b"\nen A 5 0\n") is HOURLY
    assert layout_of(b"a b c d\n") is None


@pytest.mark.parametrize(
    ("name", "month"),
    [
        ("pageviews-202110-user.bz2", "2021-10"),
        ("pageviews-20211003-user.bz2", "2021-10"),
        ("pageviews-20211001-000000.gz", "2021-10"),
        ("views.bz2", None),
    ],
)
def test_the_month_stands_in_the_name(name: str, month: str | None) -> None:
    assert month_in(Path(name)) == month


# A dump is loaded in as many sittings as it takes, and checked where its server says what it should be.


CONTENT = random.Random(0).randbytes(3_000_000)
NAME = "pageviews-202110-user.bz2"
QUICK = Retry(attempts=5, base=0.001)


class DumpServer:
    """Serves one dump; hangs up after `cut` bytes of an answer as often as `cuts` says; knows ranges if `ranges`.

    `busy`: how often a path is answered with 503 first.
    """

    def __init__(self) -> None:
        self.cut, self.cuts, self.ranges = 1_000_000, 0, True
        self.files = {f"/2021/2021-10/{NAME}": CONTENT}
        self.busy: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None: ...

            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers.get("Range")))
                server.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = self.files.get(handler.path)
        wanted = re.match(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        start = int(wanted[1]) if wanted and self.ranges else 0
        if self.busy.get(handler.path):
            self.busy[handler.path] -= 1
            handler.send_response(503)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if content is None or start >= len(content):
            handler.send_response(404 if content is None else 416)
            handler.send_header("Content-Range", f"bytes */{len(content or b'')}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        end = len(content)
        if self.cuts:
            self.cuts -= 1
            end = start + self.cut
            handler.close_connection = True
        with suppress(OSError):
            handler.wfile.write(content[start:end])


@pytest.fixture
def server() -> Iterator[DumpServer]:
    running = DumpServer()
    threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield running
    running.http.shutdown()
    running.http.server_close()


def load(server: DumpServer, folder: Path) -> Any:
    client = PoliteClient(None, RateLimiter(None), QUICK, timeout=5)
    return fetch(client, dump_url(server.url, "2021-10", "user"), folder)


def test_a_dump_lies_where_wikimedia_lays_it() -> None:
    assert dump_url("https://dumps.wikimedia.org/other/pageview_complete/monthly/", "2021-10", "user") == (
        "https://dumps.wikimedia.org/other/pageview_complete/monthly/2021/2021-10/pageviews-202110-user.bz2"
    )


def test_a_download_that_breaks_off_goes_on(server: DumpServer, tmp_path: Path) -> None:
    server.cuts = 2
    found = load(server, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert (found.loaded, found.checksum) == (len(CONTENT), None)
    ranges = [wanted for path, wanted in server.asked if path.endswith(".bz2")]
    assert ranges[0] is None and all(r and r != "bytes=0-" for r in ranges[1:]) and len(ranges) == 3


def test_what_an_earlier_run_loaded_is_not_loaded_again(server: DumpServer, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:2_500_000])
    assert load(server, tmp_path).loaded == 500_000
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert load(server, tmp_path).loaded == 0
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_a_part_that_is_the_whole_file_needs_no_more(server: DumpServer, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert load(server, tmp_path).loaded == 0
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_whole_file_again(server: DumpServer, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 100)
    load(server, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("listing", ["sha256sums.txt", "sha1sums.txt", "md5sums.txt"])
def test_a_published_checksum_is_compared(server: DumpServer, tmp_path: Path, listing: str) -> None:
    kind = listing.removesuffix("sums.txt")
    server.files[f"/2021/2021-10/{listing}"] = f"{hashlib.new(kind, CONTENT).hexdigest()}  {NAME}\n".encode()
    assert load(server, tmp_path).checksum == kind


def test_a_wrong_checksum_leaves_nothing(server: DumpServer, tmp_path: Path) -> None:
    server.files["/2021/2021-10/md5sums.txt"] = f"{'0' * 32}  {NAME}\n".encode()
    with pytest.raises(PageViewsError, match="does not have the md5"):
        load(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_busy_is_asked_again(server: DumpServer, tmp_path: Path) -> None:
    """For the dump and for its checksum, which is not passed over for being slow to come."""
    server.files["/2021/2021-10/sha256sums.txt"] = f"{'0' * 64}  {NAME}\n".encode()
    server.busy = {f"/2021/2021-10/{NAME}": 2, "/2021/2021-10/sha256sums.txt": 2}
    with pytest.raises(PageViewsError, match="does not have the sha256"):
        load(server, tmp_path)
    assert len(server.asked) == 6


def test_a_download_that_never_moves_is_given_up_and_kept(server: DumpServer, tmp_path: Path) -> None:
    server.cuts, server.cut = 100, 0
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    with pytest.raises(PageViewsError, match="cannot be loaded"):
        load(server, tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:1000]


def test_the_command_loads_months_into_a_folder(server: DumpServer, tmp_path: Path, curate: Callable[..., Any]) -> None:
    run = curate("views", "fetch", "--month", "2021-10", "-o", "dumps", "--dumps-url", server.url, "--json")
    assert run.exit_code == 0
    assert json.loads(run.stdout)["files"][0]["bytes"] == len(CONTENT)
    assert (tmp_path / "dumps" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--month", "2021-11"], "is not there (HTTP 404)"),
        (["--month", "october"], "'october' is not a month"),
        (["--month", "2021-10", "--agent", "robots"], "There is no --agent 'robots'"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    server: DumpServer, curate: Callable[..., Any], arguments: list[str], message: str
) -> None:
    run = curate("views", "fetch", *arguments, "-o", "dumps", "--dumps-url", server.url)
    assert run.exit_code == 1
    assert message in run.stderr


def test_wikimedia_is_not_asked_without_a_contact(curate: Callable[..., Any]) -> None:
    run = curate("views", "fetch", "--month", "2021-10", "-o", "dumps")
    assert run.exit_code == 1
    assert "--contact you@example.org" in run.stderr
