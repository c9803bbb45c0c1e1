"""A model on the Hub that cannot be had: what is said, with a Hub that runs here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import curate
from curate.errors import DataError, ModelError
from curate.lm.model import load_model

PROGRAM = """
from curate.errors import ModelError
from curate.lm.model import load_model
for name in ("owner/gated", "owner/gated-too", "owner/missing"):
    try:
        load_model(name)
    except ModelError as error:
        print(error.message().replace("\\n", " "))
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hub does when somebody without access asks."""

    def do_GET(self) -> None:
        self.send_response(403 if "gated-too" in self.path else 401)
        self.send_header("X-Error-Code", "GatedRepo" if "gated" in self.path else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_gated_and_missing_models_are_told_apart(hub: str, tmp_path: Path) -> None:
    """In a process of its own: where the Hub is, is settled when its library is imported."""
    settings = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    program = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(program, env=os.environ | settings, capture_output=True, text=True, check=True)
    gated, gated_too, missing = run.stdout.splitlines()
    assert "The model 'owner/gated' is gated" in gated
    assert f"ask for access at {hub}/owner/gated, then `hf auth login`" in gated
    assert "The model 'owner/gated-too' is gated" in gated_too
    assert "The model 'owner/missing' cannot be loaded" in missing
    assert "HF_HUB_OFFLINE" not in missing


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nobody answers where the Hub should be; gives the folder of what was downloaded before."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_without_a_network_it_is_said_at_once(no_network: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelError, match="cannot be reached") as error:
        load_model("owner/model")
    assert error.value.try_next == "the folder of a model on this machine"
    with pytest.raises(DataError, match=r"no local file 'owner/data', no such dataset .* cannot be reached"):
        curate.read("owner/data")
    assert not caplog.records, "retries that are told of"


def test_without_a_network_what_was_downloaded_before_is_used(
    no_network: Path, tiny_model: Callable[[str], Path]
) -> None:
    repository = no_network / "models--owner--model"
    shutil.copytree(tiny_model("llama"), repository / "snapshots" / ("1" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1" * 40)
    loaded = load_model("owner/model")
    assert (loaded.name, loaded.revision) == ("owner/model", "1" * 40)
