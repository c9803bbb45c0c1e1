"""Folders that a command fills bit by bit, over several runs: its own, and nobody else's."""

from __future__ import annotations

from pathlib import Path

from curate.datasets.write import check_writable
from curate.errors import OutputError


def check_own_folder(folder: Path, mark: str, command: str) -> None:
    """Raise OutputError now if `command` could not write to the folder later.

    It may be new, empty, or one in which the command has been at work before, which leaves `mark` there.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", expected="a folder", try_next="another name for -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists():
        raise OutputError(
            f"The folder {folder} holds files that {command} did not make.",
            expected="a new or empty folder, or one that it made earlier",
            try_next="another name for -o",
        )
    check_writable(folder)
