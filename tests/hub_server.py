"""A stand-in for the Hugging Face Hub: a server of one dataset, as far as `datasets` asks for it."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from typing import Any

REVISION = "1" * 40
CARD = """---
configs:
- config_name: easy
  data_files:
  - split: train
    path: easy/train.jsonl
  - split: test
    path: easy/test.jsonl
- config_name: hard
  data_files: hard/train.jsonl
---
"""


def _lines(*questions: str) -> str:
    return "".join(json.dumps({"question": question, "answer": ["x"]}) + "\n" for question in questions)


FILES = {
    "README.md": CARD,
    "easy/train.jsonl": _lines("a", "b", "c"),
    "easy/test.jsonl": _lines("d"),
    "hard/train.jsonl": _lines("h"),
}


class HubHandler(BaseHTTPRequestHandler):
    """Answers for the dataset `me/facts`."""

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        api, repo = "/api/datasets/me/facts", "/datasets/me/facts/resolve/"
        if path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            self._json([_entry(file) for file in FILES if file.startswith(folder)])
        elif path == api or path.startswith(f"{api}/revision/"):
            self._json({"id": "me/facts", "sha": REVISION, "siblings": [{"rfilename": file} for file in FILES]})
        elif path.startswith(repo) and (file := path.removeprefix(repo).partition("/")[2]) in FILES:
            etag = f'"{_digest(file)}"'
            self._send(FILES[file].encode(), {"ETag": etag, "X-Repo-Commit": REVISION, "Content-Type": "text/plain"})
        else:
            self._json({"error": "not found"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
        self._json([_entry(path) for path in asked if path in FILES])

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"}, status)

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(file: str) -> dict[str, Any]:
    return {"type": "file", "path": file, "size": len(FILES[file]), "oid": _digest(file)}


def _digest(file: str) -> str:
    return hashlib.sha1(FILES[file].encode()).hexdigest()
