"""Stopped at any moment, on a disk that is full, by a user without a home: the same command leaves the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wikimedia_server import Article, WikimediaServer, World

Curate = Callable[..., Any]
ROOT = Path(__file__).parents[2]
ROWS = [{"question": f"Who painted no. {n}?", "answer": f"painter {n % 7}", "views": n} for n in range(40)]


def contents(folder: Path) -> dict[str, bytes]:
    """What every file in a folder holds, and that the other folders in it are there."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


STOPPED = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch, peft, transformers, matplotlib.pyplot
import curate.scoring, curate.selection, curate.validation.validate
from curate.cli.app import main
from tests import blank
curate.scoring.CHUNK = 4
undrawn = blank.figures()  # drawing takes as long as all else
undrawn.__enter__()

def start(words):
    child = os.fork()  # libraries are loaded, so that a signal meets the work
    if not child:
        sys.argv = ["curate", *words]
        try:
            main()
        except SystemExit as ended:
            os._exit(ended.code or 0)  # to take Python apart takes longer than the work
    return child

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def is_over(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

for words, output, moments in json.loads(sys.argv[1]):
    began = time.monotonic()
    assert ended(start([*words, f"whole/{output}"])) == 0
    seconds = time.monotonic() - began
    for moment, number in moments:
        before = set(Path("stopped").glob(moment or "none"))
        child = start([*words, f"stopped/{output}"])
        if moment:
            while not is_over(child) and set(Path("stopped").glob(moment)) <= before:
                time.sleep(0.005)
        else:
            time.sleep(random.uniform(0, seconds))
        for _ in range(2):  # as `timeout` does
            if not is_over(child):
                os.kill(child, number)
        print(moment, number, ended(child))
    assert ended(start([*words, f"stopped/{output}"])) == 0
"""
KILL, TERM = int(signal.SIGKILL), int(signal.SIGTERM)


def test_whenever_a_command_is_stopped_the_same_command_leaves_the_same_and_nothing_else(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """By SIGTERM and kill -9, at random moments and in the middle of a finetuning."""
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, ROWS[:9])))
    model = f"--device cpu --model {tiny_model('llama')}"
    train = "--seeds 1 --epochs 6 --patience 6 --batch-size 4 --learning-rate 1e-2"
    random = [["", TERM], ["", KILL]]
    parts, trained = "run/.parts/*.json", "run/.parts/*/checkpoint-*/trainer_state.json"
    asked = {
        f"score facts.jsonl --by loss --shots 0 {model} -o": ("scored.parquet", 3 * random),
        "select facts.jsonl --by column:views --top 0.5 --bottom 0.5 --random 0.5 -o": ("splits", 3 * random),
        f"validate facts.jsonl --eval test.jsonl {train} {model} -o": (
            "run",
            [[parts, TERM], [trained, TERM], [trained, KILL], *random],
        ),
    }
    program = [sys.executable, "-c", STOPPED, json.dumps([[words.split(), *what] for words, what in asked.items()])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    ends = [line.rsplit(" ", 2) for line in done.stdout.splitlines() if line.endswith(("0", "143", "-15", "-9"))]
    assert {code for _, number, code in ends if number == str(KILL)} <= {"-9", "0"}
    assert {code for _, number, code in ends if number == str(TERM)} <= {"143", "0", "-15"}, "-15: not even begun"
    assert [code for moment, _, code in ends if moment] == ["143", "143", "-9"], "it was not over before"
    assert done.stderr.count("curate: interrupted") == sum(code == "143" for *_, code in ends)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small disk of its own, or gives it another size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: str) -> Path:
        again = ["-o", "remount"] if place.is_mount() else []
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", *again, "none", str(place)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("score facts.jsonl --by column:views -o", "scored.parquet"),
        ("select facts.jsonl --by column:views --top 0.5 --bottom 0.5 -o", "splits"),
        ("validate small.jsonl --eval small.jsonl --device cpu --seeds 1 --epochs 1 --model MODEL -o", "run"),
    ],
)
def test_on_a_full_disk_there_is_a_message_and_with_room_the_same_command_leaves_the_same(
    command: str, output: str, disk: Callable[[str], Path], curate: Curate, tiny_model: Callable[[str], Path]
) -> None:
    place = disk("64k")
    rows = [{**row, "noise": os.urandom(3000).hex()} for row in ROWS]
    for name, some in (("facts", rows), ("small", ROWS)):
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    words = command.replace("MODEL", str(tiny_model("llama"))).split()
    full = curate(*words, place / output)
    assert full.exit_code == 1 and "No space left on device" in full.stderr, full.stderr
    assert not list(place.rglob("*tmp"))
    disk("50m")
    assert curate(*words, place / output).exit_code == 0
    assert curate(*words, f"whole/{output}").exit_code == 0
    assert contents(place) == contents(Path("whole"))


NOBODY = """
import json, os, sys
from curate.cli.app import app

def type_all():
    for words in json.loads(sys.argv[1]):
        try:
            app(words.split())
        except SystemExit as ended:
            assert not ended.code, words

os.chdir("warm")  # everything is imported, since the packages may be root's alone
type_all()
os.chdir("..")
os.environ["TMPDIR"] = os.path.abspath("tmp")
os.setgid(54321)
os.setuid(54321)  # nobody has this number
type_all()
"""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root may be somebody else")
def test_a_user_without_a_home_scores_selects_and_looks(world_of_painters: WikimediaServer) -> None:
    folder = Path(tempfile.mkdtemp())  # where another user may look
    try:
        rows = [{**row, "subject": f"Painter {n}"} for n, row in enumerate(ROWS[:6])]
        for place in (folder, folder / "warm", folder / "tmp"):
            place.mkdir(exist_ok=True)
            place.chmod(0o777)
            (place / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        server = " ".join(world_of_painters.options)
        commands = [
            f"score facts.jsonl --by pageviews --window 2021-10 {server} -o scored.parquet",
            "select scored.parquet --top 0.5 --bottom 0.5 -o splits",
            "show splits",
        ]
        homeless = {name: text for name, text in os.environ.items() if name not in ("HOME", "USER", "XDG_CACHE_HOME")}
        homeless |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "warm")}
        program = [sys.executable, "-c", NOBODY, json.dumps(commands)]
        done = subprocess.run(program, cwd=folder, env=homeless, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr and "Painter" in done.stdout
        assert (folder / "tmp" / "curate-54321" / "wikipedia.sqlite").exists()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def world_of_painters() -> Iterator[WikimediaServer]:
    with WikimediaServer(World({f"Painter {n}": Article({"2021-10": n + 1}) for n in range(6)})) as server:
        yield server
