"""A dump is loaded in as many sittings as it takes, and checked where its server says what it should be."""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from curate.errors import PageViewsError
from curate.wikipedia.client import PoliteClient, RateLimiter, Retry
from curate.wikipedia.dumps import dump_url, fetch

CONTENT = random.Random(0).randbytes(3_000_000)
NAME = "pageviews-202110-user.bz2"
QUICK = Retry(attempts=5, base=0.001)


class DumpServer:
    """Serves one dump; hangs up after `cut` bytes of an answer as often as `cuts` says; knows ranges if `ranges`."""

    def __init__(self) -> None:
        self.cut, self.cuts, self.ranges = 1_000_000, 0, True
        self.files = {f"/2021/2021-10/{NAME}": CONTENT}
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
    with httpx.Client(timeout=5) as http:
        client = PoliteClient(http, RateLimiter(None), QUICK)
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
