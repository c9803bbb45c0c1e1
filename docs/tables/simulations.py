"""The tables and figures of docs/simulations.md and docs/one-layer.md, from what the commands on those pages left.

python docs/tables/simulations.py RUNS

RUNS holds the folders facts, steps, zipf, map, full, one-layer and sweep. Between `<!-- facts/0 -->` and `<!-- end -->`
comes the first table that `curate simulate facts` prints, in place of `facts/verdict` its sentence; every figure that a
page shows is copied, figures/simulations/facts--accuracy.png from RUNS/facts/figures/accuracy.png.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from PIL import Image

from curate.simulation.simulate import find_experiment

DOCS = Path(__file__).parents[1]
PAGES = ("simulations.md", "one-layer.md")
BLOCK = re.compile(r"(<!-- ([a-z-]+)/(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIGURE = re.compile(r"figures/simulations/([a-z-]+?)--([\w-]+\.png)")


def made(runs: Path, name: str, what: str) -> str:
    """A table of an experiment in Markdown, by its number, or its verdict."""
    summary = json.loads((runs / name / "summary.json").read_text(encoding="utf-8"))
    if what == "verdict":
        return f"> {summary['verdict']}"
    table = find_experiment(summary["experiment"]).tables(summary)[int(what)]
    headers, *rows = ([cell.replace("|", "\\|") for cell in row] for row in (table.headers, *table.rows))
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join([f"*{table.title}:*", "", *(f"| {' | '.join(line)} |" for line in lines)])


def fill(page: Path, runs: Path) -> None:
    """Make every block of a page anew, and copy its figures."""
    text = page.read_text(encoding="utf-8")
    text = BLOCK.sub(lambda block: f"{block[1]}{made(runs, block[2], block[3])}\n{block[4]}", text)
    page.write_text(text, encoding="utf-8")
    for name, figure in FIGURE.findall(text):
        target = DOCS / "figures" / "simulations" / f"{name}--{figure}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(runs / name / "figures" / figure) as png:
            png.convert("RGB").quantize(64).save(target, optimize=True)  # a third of the size, to the eye the same


if __name__ == "__main__":
    for page in PAGES:
        fill(DOCS / page, Path(sys.argv[1]))
