"""Runs the blocks of docs/quickstart.md in an empty folder, in order, and says what they print.

python docs/tables/quickstart.py FOLDER    # an empty one; writes what they print into the page

A `sh` or `python` block is run; the `text` block right after it is what it prints on standard output. One that ends
with a line `…` shows the beginning.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "quickstart.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
CUT = "…\n"


@dataclass(frozen=True)
class Block:
    """A block of the page: its language, its text, and what the page shows that it prints, if anything."""

    language: str
    text: str
    shown: str | None


def blocks(page: str) -> list[Block]:
    """The blocks that are run, in the order of the page."""
    return [Block(*found.groups()) for found in BLOCK.finditer(page)]


def run(block: Block, folder: Path) -> str:
    """What a block prints on standard output, blanks at line ends left out; RuntimeError if it fails."""
    bin_ = folder.parent / f"{folder.name}-bin"
    bin_.mkdir(exist_ok=True)
    command = bin_ / "curate"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m curate "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    program = ["bash", "-eu"] if block.language == "sh" else [sys.executable, "-"]
    done = subprocess.run(program, input=block.text, cwd=folder, env=environment, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"This block failed:\n{block.text}\n{done.stderr}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.strip("\n").splitlines() if line.strip())


def cut_like(printed: str, shown: str) -> str:
    """As much of what was printed as the page shows."""
    if not shown.endswith(CUT):
        return printed
    lines = printed.splitlines(keepends=True)
    return "".join(lines[: len(shown.splitlines()) - 1]) + CUT


def without_fractions(text: str) -> str:
    """The text, its decimal fractions made alike: their last digits depend on the processor. Counts stay.

    Blanks and the lines of tables, which are as wide as the numbers, do not count.
    """
    return re.sub(r"[\s─]+", " ", re.sub(r"[-+−]?\d+\.\d+(e[-+]\d+)?", "#", text))


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    page = PAGE.read_text(encoding="utf-8")
    for found in list(BLOCK.finditer(page)):
        block = Block(*found.groups())
        printed = run(block, folder)
        if block.shown is not None:
            code = found[0].partition("```\n\n```text\n")[0]
            page = page.replace(found[0], f"{code}```\n\n```text\n{cut_like(printed, block.shown)}```\n")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
