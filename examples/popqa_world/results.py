"""Fill the tables and figures of a page under docs/results/ from the folders of worlds that commands.sh leaves.

    python examples/popqa_world/results.py docs/results/popqa-world.md WORK/popqa

Between `<!-- WORLD TABLE -->` and `<!-- end -->` the page gets that table; everything else is written by hand.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from popqa_world.tables import (
    agreement_table,
    arms_table,
    memory_table,
    quintiles_table,
    relations_table,
    selecting_table,
    world_table,
)

import curate
from curate.summary import rank_correlation


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    return dict(json.loads(path.read_text()))


def correlations(scored: Path) -> tuple[dict[tuple[str, str], float], list[str]]:
    """Rank correlation of every pair of scores of a file, and their names."""
    table = curate.read(scored).table
    scores = {
        name.removeprefix("score_"): table[name].to_numpy() for name in table.column_names if name.startswith("score_")
    }
    return {(a, b): rank_correlation(scores[a], scores[b]) for a, b in permutations(scores, 2)}, list(scores)


def tables_of(work: Path) -> dict[str, str]:
    """Every table that a world and the runs in its folder give, by name."""
    world = read_json(work / "world.json")
    runs = {path.name: read_json(path / "run/summary.json") for path in sorted(work.glob("by-*")) if done(path)}
    found = {"world": world_table(world), "memory": memory_table(world)}
    if (work / "scored.parquet").is_file():
        found["agreement"] = agreement_table(*correlations(work / "scored.parquet"))
    found["selecting"] = selecting_table({name.removeprefix("by-"): summary for name, summary in runs.items()})
    for path in work.glob("*/run/summary.json"):
        name, summary = path.parents[1].name, read_json(path)
        found[f"{name} arms"] = arms_table(summary)
        found[f"{name} relations"] = relations_table(summary)
        found[f"{name} quintiles"] = quintiles_table(summary)
        found[f"{name} verdict"] = summary["verdict"]
        found[f"{name} attention"] = (summary["attention"] or {}).get("sentence", "")
    return {f"{work.name} {name}": text for name, text in found.items()}


def done(folder: Path) -> bool:
    """Whether a run was finished."""
    return (folder / "run/summary.json").is_file()


def fill(page: str, tables: dict[str, str]) -> str:
    """The page with every marked table as it is now; an unknown name raises KeyError."""
    return re.sub(
        r"<!-- ([\w -]+?) -->\n.*?<!-- end -->",
        lambda found: f"<!-- {found[1]} -->\n{tables[found[1]]}\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def copy_figures(work: Path, page: str, folder: Path) -> None:
    """The figures of the runs of a world that the page shows, named after world and run."""
    folder.mkdir(exist_ok=True)
    for path in work.glob("*/run/figures/*.png"):
        name = f"{work.name}-{path.parents[2].name}-{path.name}"
        if f"figures/{name}" in page:
            shutil.copyfile(path, folder / name)


def main() -> None:
    page, *worlds = map(Path, sys.argv[1:])
    tables = {name: text for work in worlds for name, text in tables_of(work).items()}
    filled = fill(page.read_text(), tables)
    page.write_text(filled)
    for work in worlds:
        copy_figures(work, filled, page.parent / "figures")


if __name__ == "__main__":
    main()
