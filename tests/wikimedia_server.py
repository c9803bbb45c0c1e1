"""A small Wikimedia: the MediaWiki, Wikidata and pageviews APIs over a real socket, stumbling as often as asked."""

from __future__ import annotations

import gzip
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

STUMBLES = ("429", "500", "503", "slow", "truncated", "dropped", "cut", "html", "maxlag")

TRICKS = {
    "deep": "[" * 200_000,
    "list": "[]",
    "other": '{"items": 1, "query": 2}',
    "negative": '{"items": [{"timestamp": "2021100100", "views": -5}]}',
    "huge": '{"items": [{"timestamp": "2021100100", "views": 1000000000000000000000000000000}]}',
    "nan": '{"items": [{"timestamp": "2021100100", "views": NaN}]}',
    "text": '{"items": [{"timestamp": "2021100100", "views": "many"}]}',
    "title": '{"query": {"pages": [{"title": "AC/DC\\ud800"}, {"title": "Ridley Scott", "pageprops": 1}]}}',
    "endless": '{"query": {"pages": []}, "continue": {"more": 1}}',
}
"""Whole answers that no honest server gives; `_stumble` knows more."""


@dataclass
class Article:
    """Views by month (`2021-10`); a month that is not named had none."""

    views: dict[str, int] = field(default_factory=dict)
    disambiguation: bool = False
    created: str = "2003-01-01"


@dataclass
class World:
    """What the wiki knows, and how it behaves: `items` have a title here, and one in so many other `wikis`.

    Every answer takes `delay` seconds. `failing` is the share of requests that stumble, in one of the ways
    `stumbles`; `slow` the seconds a slow answer takes, `retry_after` what a 429 or 503 asks for.
    """

    articles: dict[str, Article] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)
    wikis: dict[str, int] = field(default_factory=dict)
    delay: float = 0.0
    failing: float = 0.0
    stumbles: Sequence[str] = STUMBLES
    slow: float = 1.0
    retry_after: str = "0"


@dataclass
class Request:
    """One request as it arrived, and how it was met: `answered`, or the way the server stumbled."""

    path: str
    agent: str
    at: float
    met: str


class WikimediaServer:
    """Serves a World on localhost from its own threads; a context manager."""

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world = world
        self.log: list[Request] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        server = self

        class Handler(_Handler):
            wikimedia = server

        self._http = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> WikimediaServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def options(self) -> list[str]:
        """What makes the command line ask here."""
        return ["--pageviews-url", self.url, "--mediawiki-url", self.url]

    def asked(self, met: str | None = "answered") -> Counter[str]:
        """How often each article's views were asked for; only requests met in that way, or all with None."""
        with self._lock:
            return Counter(article_in(r.path) for r in self.log if is_views(r.path) and met in (None, r.met))

    def next_stumble(self) -> str | None:
        """How the next request goes wrong; None if it does not."""
        with self._lock:
            if self._random.random() >= self.world.failing:
                return None
            return self._random.choice(list(self.world.stumbles))

    def note(self, path: str, agent: str, met: str) -> None:
        with self._lock:
            self.log.append(Request(path, agent, time.monotonic(), met))


@cache
def gzip_bomb() -> bytes:
    return gzip.compress(bytes(32 << 20), 1)


def is_views(path: str) -> bool:
    return path.startswith("/metrics/pageviews/per-article/")


def article_in(path: str) -> str:
    """The title that a path for views asks for, as the wiki writes it."""
    return unquote(path.split("/")[7]).replace("_", " ")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wikimedia: WikimediaServer

    def log_message(self, *arguments: object) -> None: ...

    def do_GET(self) -> None:
        stumble = self.wikimedia.next_stumble()
        self.wikimedia.note(self.path, self.headers.get("User-Agent", ""), stumble or "answered")
        status, answer = self._answer()
        body = json.dumps(answer, ensure_ascii=False).encode()
        time.sleep(self.wikimedia.world.delay)
        if stumble is None:
            self._send(status, body)
        else:
            self._stumble(stumble, body)

    def _answer(self) -> tuple[int, Any]:
        if is_views(self.path):
            return views_answer(self.wikimedia.world, self.path)
        path, _, query = self.path.partition("?")
        if path == "/w/api.php":
            return 200, api_answer(self.wikimedia.world, {k: v[0] for k, v in parse_qs(query).items()})
        return 404, {"title": "Not found"}

    def _stumble(self, stumble: str, body: bytes) -> None:
        world = self.wikimedia.world
        if stumble.isdigit():
            headers = {"Retry-After": world.retry_after} if stumble in ("429", "503") else {}
            self._send(int(stumble), b"{}", headers)
        elif stumble == "slow":
            time.sleep(world.slow)
            self._send(503, b"{}")
        elif stumble == "truncated":
            self._send(200, body[: len(body) // 2])
        elif stumble == "html":
            self._send(200, b"<html>Our servers are currently under maintenance</html>")
        elif stumble == "maxlag":
            lagged = json.dumps({"error": {"code": "maxlag", "info": "Waiting for a database"}}).encode()
            self._send(*((503, b"{}") if is_views(self.path) else (200, lagged)))
        elif stumble in TRICKS:
            self._send(200, TRICKS[stumble].encode())
        elif stumble == "hang":
            time.sleep(world.slow)
            self._hang_up()
        elif stumble in ("drip", "drip headers"):
            self._drip(stumble == "drip")
        elif stumble == "bomb":
            self._send(200, gzip_bomb(), {"Content-Encoding": "gzip"})
        elif stumble == "packed":
            self._send(200, body, {"Content-Encoding": "br"})
        elif stumble == "loop":
            self._send(302, b"", {"Location": self.path})
        elif stumble == "elsewhere":
            self._send(302, b"", {"Location": self.wikimedia.url.replace("127.0.0.1", "localhost") + self.path})
        elif stumble == "nowhere":
            self._send(302, b"", {"Location": "http://127.0.0.1:port/"})
        elif stumble == "cut":
            self._send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
            self._hang_up()
        else:
            self._hang_up()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, headers_first: bool) -> None:
        """An answer that never ends, a byte at a time."""
        if headers_first:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        with suppress(OSError):
            while True:
                self.wfile.write(b"x")
                time.sleep(0.02)

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def views_answer(world: World, path: str) -> tuple[int, Any]:
    """As AQS answers: only months with views, and 404 when there is none at all."""
    _, _, _, _, project, access, agent, _, granularity, start, end = path.split("/")
    title = article_in(path)
    found = world.articles.get(title, Article()).views
    items = [
        {
            "project": project,
            "article": title.replace(" ", "_"),
            "granularity": granularity,
            "timestamp": f"{month.replace('-', '')}0100",
            "access": access,
            "agent": agent,
            "views": views,
        }
        for month, views in sorted(found.items())
        if start[:6] <= month.replace("-", "") <= end[:6]
    ]
    if not items:
        return 404, {"type": "about:blank", "title": "Not Found", "detail": "The date(s) you used are valid, but …"}
    return 200, {"items": items}


def api_answer(world: World, params: dict[str, str]) -> Any:
    """As `/w/api.php` answers: titles and their pages, or the sitelinks of items."""
    if params["action"] == "wbgetentities":
        return _entities(world, params)
    titles = params["titles"].split("|")
    if len(titles) > 50:
        return {"error": {"code": "toomanyvalues", "info": "Too many values supplied for parameter titles"}}
    query: dict[str, Any] = {"normalized": [], "redirects": [], "pages": []}
    ends = dict.fromkeys(_end_of(world, title, query, "redirects" in params) for title in titles)
    query["pages"] = [_page(world, title, params) for title in ends]
    return {"batchcomplete": True, "query": {kind: found for kind, found in query.items() if found}}


def _end_of(world: World, title: str, query: dict[str, Any], follow: bool) -> str:
    normal = " ".join(title.replace("_", " ").split())
    normal = normal[:1].upper() + normal[1:]
    if normal != title:
        query["normalized"].append({"fromencoded": False, "from": title, "to": normal})
    seen = {normal}
    while follow and normal in world.redirects:
        step = {"from": normal, "to": world.redirects[normal]}
        if step not in query["redirects"]:
            query["redirects"].append(step)
        normal = step["to"]
        if normal in seen:
            break
        seen.add(normal)
    return normal


def _page(world: World, title: str, params: dict[str, str]) -> dict[str, Any]:
    article = world.articles.get(title)
    if article is None:
        known = title in world.redirects
        return {"ns": 0, "title": title} | ({"pageid": 1} if known else {"missing": True})
    page: dict[str, Any] = {"pageid": 1, "ns": 0, "title": title}
    if article.disambiguation:
        page["pageprops"] = {"disambiguation": ""}
    if params.get("prop") == "revisions":
        page["revisions"] = [{"timestamp": f"{article.created}T12:00:00Z"}]
    return page


def _entities(world: World, params: dict[str, str]) -> Any:
    site = params.get("sitefilter") or params.get("sites") or "enwiki"
    by_title = {title: item for item, title in world.items.items()}
    names = params.get("ids", params.get("titles", "")).split("|")
    if len(names) > 50:
        return {"error": {"code": "toomanyvalues", "info": "Too many values supplied"}}
    if "ids" in params and any(len(item) > 11 for item in names):
        return {"error": {"code": "no-such-entity", "info": "Could not find an entity with the ID"}}
    entities: dict[str, Any] = {}
    for number, name in enumerate(names, 1):
        item = name if "ids" in params else by_title.get(name, "")
        if item not in world.items:
            named = {"id": name} if "ids" in params else {"site": site, "title": name}
            entities[name if "ids" in params else str(-number)] = {**named, "missing": ""}
            continue
        links = {site: world.items[item]} if world.items[item] else {}
        if "sitefilter" not in params:
            links |= {f"x{n}wiki": f"Title {n}" for n in range(world.wikis.get(item, 0))}
        entities[item] = {
            "type": "item",
            "id": item,
            "sitelinks": {name: {"site": name, "title": title, "badges": []} for name, title in links.items()} or [],
        }
    return {"entities": entities, "success": 1}
