"""Whatever the standard streams are and however files are called: no traceback, the right exit code, no result lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")

Typed = Callable[..., subprocess.CompletedProcess[str]]
SCORE = "score facts.jsonl --by column:views -o scored.parquet"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    """Types a command into a shell, in a folder with facts.jsonl; `streams` are redirections."""
    rows = [{"question": f"Who wrote Žižek {n}?", "answer": "Ž", "views": n} for n in range(9)]
    (tmp_path / "facts.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))

    def run(words: str, streams: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        line = f'"{sys.executable}" -m curate {words} {streams}'
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
        return done

    return run


@pytest.mark.parametrize(
    ("words", "stream", "why"),
    [
        *((words, "/dev/full", "No space left on device") for words in ("show facts.jsonl --json", "--version", SCORE)),
        *((words, "&-", "Bad file descriptor") for words in ("show facts.jsonl", "--help", SCORE)),
    ],
)
def test_standard_output_that_cannot_be_written_is_one_message(
    typed: Typed, tmp_path: Path, words: str, stream: str, why: str
) -> None:
    done = typed(words, f">{stream}")
    assert done.returncode == 1
    assert done.stderr.count(f"curate: Standard output cannot be written: {why}.") == 1
    assert (tmp_path / "scored.parquet").exists() == (words == SCORE), "what was done is done"


@pytest.mark.parametrize("stream", ["/dev/full", "&-"])
def test_notes_that_cannot_be_printed_are_done_without(typed: Typed, tmp_path: Path, stream: str) -> None:
    done = typed(SCORE, f"2>{stream}")
    assert done.returncode == 0 and done.stdout.endswith("scored.parquet\n")
    assert typed("show nowhere.parquet", f"2>{stream}").returncode == 1
    assert typed("show nowhere.parquet", f"2>{stream}").stdout == "", "a message is no result"
    assert typed("show --nonsense", f"2>{stream}").returncode == 2
    whole = typed("select scored.parquet --top 4 -o top.parquet --json", "0<&- 2>&-")
    assert json.loads(whole.stdout)["rows"] == 9


def test_what_a_stream_cannot_spell_is_written_as_an_escape(typed: Typed) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    told = typed("show facts.jsonl --json", **ascii_only)
    assert told.stdout.isascii() and json.loads(told.stdout)["examples"][0]["prompt"].startswith(
        "Question: Who wrote Ž"
    )
    typed(SCORE, **ascii_only)
    shown = typed("show scored.parquet", **ascii_only)
    assert shown.returncode == 0 and "####" in shown.stdout and r"\u017di\u017eek" in shown.stdout
    assert "Žižek" in typed("show facts.jsonl", PYTHONIOENCODING="utf-8").stdout


def test_names_that_are_not_utf8_are_read_and_refused_for_what_is_written(
    typed: Typed, curate: Callable[..., Any], tmp_path: Path
) -> None:
    odd = r"$(printf 'b\xff')"
    assert curate(*SCORE.split()).exit_code == 0
    folder = tmp_path / os.fsdecode(b"b\xff")
    folder.mkdir()
    for name in ("facts.jsonl", "scored.parquet", "scored.parquet.manifest.json"):
        (folder / os.fsdecode(b"c\xff" + name.encode())).write_bytes((tmp_path / name).read_bytes())
    inside = rf"{odd}/$(printf 'c\xff')"
    for name in ("facts.jsonl", "scored.parquet"):
        assert curate("show", folder / os.fsdecode(b"c\xff" + name.encode())).exit_code == 0
    done = typed(f"score {inside}facts.jsonl --by column:views -o again.parquet")
    assert done.returncode == 0, done.stderr
    assert typed(f"select {inside}scored.parquet --top 4 -o top.parquet").returncode == 0
    assert curate("show", "again.parquet", "--json").exit_code == 0
    for words in (
        f"score facts.jsonl --by column:views -o {odd}.parquet",
        f"select scored.parquet --top 4 -o {odd}.parquet",
    ):
        done = typed(words)
        assert done.returncode == 1 and r"The name b\udcff.parquet is not UTF-8" in done.stderr
        assert "Try: -o scored.parquet" in done.stderr
    assert r"There is no file, folder or dataset 'no\udcff'" in typed(r"show $(printf 'no\xff')").stderr


def test_an_output_through_a_link_keeps_the_link(typed: Typed, curate: Callable[..., Any], tmp_path: Path) -> None:
    for place in ("far", "far/splits"):
        (tmp_path / place).mkdir()
    for name in ("scored.parquet", "splits"):
        (tmp_path / name).symlink_to(f"far/{name}")  # one leads nowhere yet
    for _ in range(2):
        assert curate(*f"{SCORE} --force".split()).exit_code == 0
        assert (
            curate(*["select", "scored.parquet", "--top", "4", "--bottom", "4", "-o", "splits/", "--force"]).exit_code
            == 0
        )
        assert (tmp_path / "scored.parquet").is_symlink() and (tmp_path / "splits").is_symlink()
    assert (tmp_path / "far" / "splits" / "top.parquet").exists()
    assert not list(tmp_path.rglob("*.tmp"))
    assert curate("show", tmp_path / "far" / "scored.parquet").exit_code == 0


LOOK = """
import os, sys
import curate
b"warm".decode("utf-8-sig")
curate.read(sys.argv[1]).examples()
os.setuid(65534)  # only now, since the packages may be root's alone
try:
    curate.read(sys.argv[2]).examples()
except curate.CurateError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root may be somebody else")
def test_a_folder_that_may_not_be_listed_is_said_to_be_so(typed: Typed, tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())  # where another user may look, up to here
    try:
        (folder / "data.jsonl").write_text('{"question": "q?", "answer": "a"}')
        for mode in (0o711, 0o744, 0o700):
            folder.chmod(mode)
            for name in (folder, folder / "data.jsonl"):
                command = [sys.executable, "-c", LOOK, str(tmp_path / "facts.jsonl"), str(name)]
                done = subprocess.run(command, capture_output=True, text=True)
                if mode == 0o711 and name != folder:
                    assert done.returncode == 0, "a file in it may be read by its name"
                else:
                    assert done.returncode == 1 and "its folder may not be listed" in done.stderr, done.stderr
    finally:
        shutil.rmtree(folder)
