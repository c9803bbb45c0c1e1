"""Figures that cost nothing, for tests that say nothing of figures: drawing takes half the time of a small run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pytest

LONG = 100_000
"""Bytes of a figure: those that cost nothing must not fit on a full disk either."""
BLANK = {"png": b"\x89PNG\r\n\x1a\n" + bytes(LONG), "svg": b'<svg viewBox="0 0 1 1">' + b" " * LONG + b"</svg>"}


@contextmanager
def figures() -> Iterator[None]:
    """Figures are made of their data as ever, and saved blank."""

    def savefig(figure: Any, file: BinaryIO, *, format: str, **options: Any) -> None:
        file.write(BLANK[format])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", savefig)
        yield
