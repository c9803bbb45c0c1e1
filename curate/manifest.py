"""The manifest: everything that could change an output, so that the output can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.datasets.read import QATable
from curate.versions import versions


def make_manifest(command: str, data: QATable, **details: Any) -> dict[str, Any]:
    """A manifest for an output of `command` on `data`.

    It holds no time and no folder name: the same inputs and options give the same bytes.
    """
    origin = {"name": data.source.name, "sha256": data.source.fingerprint, "rows": len(data)}
    return manifest_for(command, origin, data.columns.as_dict(), **details)


def manifest_for(
    command: str, origin: Mapping[str, Any], columns: Mapping[str, str | None], **details: Any
) -> dict[str, Any]:
    """The same from its parts: name, SHA-256 and rows of the input, and its columns by role."""
    return {
        "command": command,
        "versions": versions("pyarrow", "numpy"),
        "input": dict(origin),
        "columns": dict(columns),
        **details,
    }
