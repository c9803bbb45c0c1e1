"""What somebody else wrote is shown and never obeyed: no control character of the data reaches a terminal."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from curate.cli.console import Output, make_table
from curate.display import bar, clean, lines

Curate = Callable[..., Any]

CLEAR, TITLE, LINK = "\x1b[2J\x1b[31m", "\x1b]0;owned\x07", "\x1b]8;;http://x.example\x1b\\"
TURNED = "\u202egnp.exe\u202c\u2066\u200f"
MARKUP = "[red]x[/red] [link=http://x.example]y[/link] :cat:"
HOSTILE = f"{CLEAR}{TITLE}{LINK}\r\x08\x7f\x9b31m\x85{TURNED}\u2028 {MARKUP}"


def obeyed(text: str) -> list[str]:
    """The characters in a text that a terminal would obey."""
    controls = [c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    turning = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return controls + [c for c in text if unicodedata.bidirectional(c) in turning or c in "\u200e\u200f\u061c"]


def test_clean_text_is_obeyed_by_no_terminal_and_says_the_same() -> None:
    everything = "".join(map(chr, range(0x3000))) + "\udfff漢字🐦\ud800"
    assert obeyed(everything)
    assert not obeyed(clean(everything))
    assert json.loads(clean(json.dumps(everything, ensure_ascii=False))) == everything
    assert clean("Zoë asked:\n\twhich 🐦?") == "Zoë asked:\n\twhich 🐦?"


@pytest.fixture
def files(tmp_path: Path, curate: Curate) -> Path:
    """Rows with such text in every cell, in the names of columns and in the name of the file."""
    rows = [
        {
            "question": f"{HOSTILE} {number}?",
            "answer": [f"{HOSTILE}{number}"],
            "subject": f"{HOSTILE} {number // 2}",
            "relation": f"{HOSTILE}{number % 2}",
            f"views{MARKUP}\x1b[31m\u202e": number,
            "views": number,
        }
        for number in range(12)
    ]
    path = tmp_path / f"{CLEAR.replace('/', '')}[red]\u202e.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def shown(result: Any, exit_code: int = 0) -> str:
    """What a command printed, none of which is obeyed."""
    assert result.exit_code == exit_code, result.output
    text = result.stdout + result.stderr
    assert obeyed(text) == []
    return str(text)


def test_every_command_that_prints_data_prints_it_clean(curate: Curate, files: Path, tmp_path: Path) -> None:
    column = f"views{MARKUP}\x1b[31m\u202e"
    scored = tmp_path / "\x1b[1m scored.parquet"
    text = shown(curate("score", files, "--by", f"column:{column}", "-o", scored))
    assert "[red]x[/red]" in text, "markup is text"
    assert ":cat:" in text
    split = (scored, "--top", "0.5", "--bottom", "0.5", "--where", f'relation="{HOSTILE}0"', "-o")
    assert "[link=http" in shown(curate("select", *split, tmp_path / "\x1b[1m splits"))
    assert "\\u001b[2J" in shown(curate("select", *split, tmp_path / "other", "--dry-run"))
    for command in (
        ("show", files),
        ("show", scored),
        ("show", tmp_path / "\x1b[1m splits"),
        ("show", "--compare", tmp_path / "\x1b[1m splits" / "top.parquet", scored),
    ):
        assert "\\u202e" in shown(curate(*command))
        as_json = curate(*command, "--json")
        shown(as_json)
        assert "\\x1b[" in repr(json.loads(as_json.stdout))


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("show", f"{HOSTILE}.csv"), 1),
        (("score", "FILE", "--by", f"column:{HOSTILE}", "-o", "x.parquet"), 1),
        (("score", "FILE", "--by", HOSTILE, "-o", "x.parquet"), 1),
        (("score", "FILE", "--by", "column:views", "-o", f"{HOSTILE.replace('/', '')}.txt"), 1),
        (("score", "FILE", "--by", "column:views", "--answer-column", HOSTILE, "-o", "x.parquet"), 1),
        (("score", "FILE", "--by", "loss", "--model", f"./{HOSTILE}", "-o", "x.parquet"), 1),
        (("select", "FILE", "--by", "column:views", "--top", HOSTILE, "-o", "x.parquet"), 1),
        (("select", "FILE", "--by", "column:views", "--where", f"views={HOSTILE}", "--top", "1", "-o", "x.parquet"), 1),
        (("select", "FILE", "--by", "column:views", "--stratify-by", HOSTILE, "--top", "0.5", "-o", "x.parquet"), 1),
        (("merge", f"{HOSTILE}.parquet", "-o", "x.parquet"), 1),
        (("run", HOSTILE, "-o", "x"), 1),
        (("simulate", HOSTILE, "-o", "x"), 1),
        (("show", f"--{HOSTILE}"), 2),
        ((HOSTILE,), 2),
    ],
)
def test_errors_are_clean(curate: Curate, files: Path, arguments: tuple[str, ...], exit_code: int) -> None:
    named = [str(files) if argument == "FILE" else argument for argument in arguments]
    assert re.search(r"\\u001b|\\x1b", shown(curate(*named), exit_code)) or exit_code == 2


def test_what_is_logged_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    assert logging.lastResort is not None
    logging.lastResort.handle(logging.makeLogRecord({"msg": f"{HOSTILE} is read", "levelno": logging.WARNING}))
    assert obeyed(stream.getvalue()) == []
    assert "\\u001b" in stream.getvalue()


def test_tables_notes_and_progress_are_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = StringIO()
    monkeypatch.setattr("sys.stdout", printed)
    monkeypatch.setattr("sys.stderr", printed)
    out = Output(as_json=False, quiet=False)
    out.note(HOSTILE)
    out.result({}, make_table(HOSTILE, [HOSTILE, "n"], [[HOSTILE, 1], [None, 2]]), HOSTILE)
    show = lines("rows", clock=iter(range(0, 1000, 40)).__next__)
    show(HOSTILE, 1, 2)
    show(HOSTILE, 2, 2)
    with bar("rows") as show:
        show(HOSTILE, 1, 2)
        show(HOSTILE, 2, 2)
    assert obeyed(printed.getvalue()) == []
    assert printed.getvalue().count("[red]") >= 6
