"""How well each score tells what a model knows: makes the table in docs/choosing.md of what benchmarks measured.

python docs/tables/knowledge.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "choosing.md"
RESULTS = ROOT / "benchmarks" / "results" / "knowledge.json"
BEGIN, END = "<!-- knowledge: made by docs/tables/knowledge.py -->", "<!-- end of knowledge -->"
WAYS = {
    "all": "all questions",
    "inside_relations": "inside relations",
    "rare_answers": "answers that occur at most 4 times",
    "same_answer": "same relation and answer",
}


def table() -> str:
    """A row a score, in each cell the AUCs of all models."""
    models: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    known = " / ".join(f"{model['model']} ({100 * model['known']:.1f}% known)" for model in models)
    lines = [f"{known}:", "", "| " + " | ".join(["score", *WAYS.values()]) + " |", "|---" * (1 + len(WAYS)) + "|"]
    for name in (name for name in models[0]["auc"] if all(name in model["auc"] for model in models)):
        cells = [" / ".join(f"{model['auc'][name][way]:.2f}".lstrip("0") for model in models) for way in WAYS]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def page() -> str:
    """The page with the table as it is now."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
