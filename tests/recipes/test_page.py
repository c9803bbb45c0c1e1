"""docs/recipes.md says what the settings are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from curate.recipes.recipe import names
from curate.recipes.run import resolve
from tests.test_docs import ROOT, load

PAGE = (ROOT / "docs" / "recipes.md").read_text()


def keys(settings: dict[str, Any], path: str = "") -> list[str]:
    """The dotted names of all settings."""
    found = []
    for name, value in settings.items():
        inner = keys(value, f"{path}{name}.") if isinstance(value, dict) and name != "where" else [f"{path}{name}"]
        found += inner
    return found


def test_every_key_stands_on_the_page_with_its_default_and_meaning() -> None:
    script = load("recipes")
    assert script.page() == PAGE, "python docs/tables/recipes.py writes it anew"
    everything = keys(resolve("world").as_dict())
    assert {"limit", "selection.top", "estimators.pageviews.window"} <= set(everything)
    assert [key for key in everything if f"| `{key}` |" not in PAGE] == []


def test_every_bundled_recipe_stands_on_the_page() -> None:
    assert [name for name in names() if f"| `{name}` |" not in PAGE] == []


def test_the_recipe_that_the_page_shows_is_one(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(shown)
    recipe = resolve(tmp_path / "mine.yaml")
    assert (recipe["selection.by"], recipe["selection.top"], recipe["validation.by"]) == (("loss",), "30%", "views")
