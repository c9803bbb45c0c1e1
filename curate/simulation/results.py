"""What a simulation leaves behind: its tables in Parquet, summary.json, figures, the report; the manifest last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.datasets.write import whole_file, with_manifest, write_json, write_text
from curate.simulation.experiment import Experiment, Row, Tables
from curate.simulation.settings import Settings
from curate.versions import versions


@dataclass(frozen=True)
class Simulation:
    """What a finished experiment found: its rows by table (`.tables["results"]`), and what they show (`.summary`)."""

    experiment: Experiment[Any]
    settings: Settings
    seeds: Sequence[int]
    tables: Tables
    summary: dict[str, Any]


def write_simulation(result: Simulation, folder: Path) -> None:
    """Write everything a finished simulation leaves in its folder."""
    from curate.report.simulation import simulation_page

    manifest = {
        "command": "simulate",
        "experiment": result.experiment.name,
        "settings": asdict(result.settings),
        "seeds": list(result.seeds),
        "versions": versions("torch", "numpy", "pyarrow"),
    }
    for name, rows in result.tables.items():
        _write_rows(rows, folder / f"{name}.parquet", manifest)
    write_json(result.summary, folder / "summary.json")
    figures = result.experiment.figures(result.tables)
    for name, png in figures.items():
        with whole_file(folder / "figures" / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    tables = result.experiment.shown(result.summary)
    page = simulation_page(result.experiment.title, result.summary["verdict"], tables, figures, manifest)
    write_text(page, folder / "report.html")
    write_json(manifest, folder / "manifest.json")


def _write_rows(rows: list[Row], path: Path, manifest: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(dict.fromkeys(name for row in rows for name in row))  # of all rows, in order of appearance
    table = pa.table({name: [row.get(name) for row in rows] for name in columns})
    with whole_file(path) as temporary:
        pq.write_table(with_manifest(table, manifest), temporary, compression="zstd")
