"""How real files are read with no flag at all: makes the table in docs/datasets.md.

python docs/tables/recognised.py ../shared/data
"""

from __future__ import annotations

import sys
from pathlib import Path

import curate

DATASETS = (
    "popqa/popQA.tsv",
    "popqa/popqa_questions_14267.json",
    "entityquestions/train",
    "entityquestions/dev",
    "entityquestions/test",
    "mmlu/dev",
    "mmlu/val",
    "mmlu/test",
    "mmlu_hub_layout/dev",
    "mmlu_hub_layout/test",
)
HEADER = ("read", "rows", "recognised as", "first question", "answers", "subject", "relation")
PAGE = Path(__file__).parents[1] / "datasets.md"
BEGIN, END = "<!-- recognised: made by docs/tables/recognised.py -->", "<!-- end of recognised -->"


def describe(path: Path, name: str) -> tuple[str, ...]:
    """One line of the table: what a file or folder is read as, and its first example."""
    data = curate.read(path)
    example = data.examples()[0]
    texts = (example.question, ", ".join(example.answers), example.subject or "", example.relation or "")
    return (f"`{name}`", f"{len(data):,}", data.columns.preset or "", *map(shorten, texts))


def shorten(text: str, width: int = 48) -> str:
    """The beginning of a text, fit for a cell of a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= width else f"{text[: width - 1]}…"


def table(folder: Path) -> str:
    """The table in Markdown."""
    rows = [HEADER, ("---",) * len(HEADER), *(describe(folder / name, name) for name in DATASETS)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    made = f"{before}{BEGIN}\n{table(Path(sys.argv[1]))}\n{END}{rest.partition(END)[2]}"
    PAGE.write_text(made, encoding="utf-8")
