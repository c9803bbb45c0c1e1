"""The report of a simulation: its verdict, tables, figures and settings on one page."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from curate.report.page import flat
from curate.report.render import render
from curate.simulation.experiment import Shown


def simulation_page(
    title: str, verdict: str, tables: Sequence[Shown], figures: Mapping[str, bytes], manifest: Mapping[str, Any]
) -> str:
    """One HTML page that needs no network; all text is escaped."""
    return render(
        "simulation.html.j2",
        title=title,
        verdict=verdict,
        tables=tables,
        figures={name: base64.b64encode(png).decode() for name, png in figures.items()},
        experiment=manifest["experiment"],
        settings=list(flat(manifest["settings"])),
        manifest=json.dumps(manifest, indent=2, ensure_ascii=False),
    )
