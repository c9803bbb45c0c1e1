"""The tables of keys in docs/recipes.md, made from the settings themselves; a test fails when they are stale.

python docs/tables/recipes.py
"""

from __future__ import annotations

from pathlib import Path

from curate.recipes.recipe import KEYS, REQUIRED
from curate.settings import Setting

PAGE = Path(__file__).parents[1] / "recipes.md"
BEGIN, END = "<!-- keys: made by docs/tables/recipes.py -->", "<!-- end of keys -->"

SECTIONS = {
    "model": "The pretrained model that is finetuned, and that scores by loss.",
    "dataset": "What is scored and selected from, and what every arm is tested on.",
    "estimators": "What makes the scores.",
    "selection": "Which splits are cut; each but the evaluation sets is an arm.",
    "finetuning": "How an arm is finetuned. The same for every arm of a comparison.",
    "validation": "How the arms are tuned, tested and compared.",
}


def tables() -> str:
    """A table for the keys at the top, and one for each section."""
    head = "| key | default | |\n|---|---|---|"
    parts = [head, *(row(key, item) for key, item in KEYS.items() if "." not in key)]
    for name, about in SECTIONS.items():
        parts += [f"\n### {name}\n\n{about}\n", head]
        parts += [row(key, item) for key, item in KEYS.items() if key.startswith(f"{name}.")]
    return "\n".join(parts)


def row(key: str, item: Setting) -> str:
    """One key, its default in YAML's words, and what it means."""
    default = "" if item.default in (None, (), {}) else f"`{item.default}`"
    if isinstance(item.default, bool):
        default = default.lower()
    return f"| `{key}` | {'*required*' if key in REQUIRED else default} | {escaped(item.help)} |"


def escaped(text: str) -> str:
    """Fit for a cell of a table, on a site that would take `[X]` for a link."""
    return text.strip().replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")


def page() -> str:
    """The page with its tables made anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
