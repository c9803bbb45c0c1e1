"""Run a recipe: prepare the data, score, select, validate, each unless it is done already, and sum up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from curate import __version__
from curate.datasets.write import write_json, write_text
from curate.errors import CurateError, RecipeError, SettingError
from curate.folders import check_own_folder
from curate.recipes.catalogue import recipe_text
from curate.recipes.recipe import Recipe, check, with_names
from curate.recipes.sources import pinned
from curate.recipes.steps import STEPS, Ledger, Say
from curate.recipes.words import in_recipe_words
from curate.recipes.work import Meter, Work, no_meter
from curate.recipes.yamlfile import MAPPING, Override, given, override, parse
from curate.validation.processes import processes


@dataclass(frozen=True)
class RecipeRun:
    """What a recipe left in its folder: the settings as they were used, and the outcome."""

    recipe: Recipe
    folder: Path

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The verdict, the arms, the differences, and where everything lies."""
        content: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return content


def run(
    recipe: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    model: str | Path | None = None,
    data: str | Path | None = None,
    by: str | None = None,
    limit: int | None = None,
    seeds: int | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    progress: Say | None = None,
    meter: Meter | None = None,
) -> RecipeRun:
    """Run a recipe; the Python twin of `curate run`.

    `recipe` is a bundled one by name, a YAML file, or its content as a mapping. `model`, `data`, `by`, `limit` and
    `seeds` replace what it says; so does anything in `settings` (`{"selection.top": 0.3}`, or `["selection.top=0.3"]`).
    Writes `recipe.yaml` (every setting as it was used), the data, scores, splits, the run and `summary.json` to the
    folder `output`; what is there already and made from the same is kept.
    """
    if processes() > 1:
        raise SettingError(
            f"{processes()} processes run this recipe together.",
            expected="one; only the validation can be shared",
            try_next="--dry-run prints the steps as commands; torchrun can run curate validate",
        )
    resolved = resolve(recipe, overrides(model, data, by, limit, seeds, settings))
    folder = Path(output)
    ledger = open_folder(folder)
    work = Work(resolved, folder, progress or (lambda line: None), meter or no_meter)
    if resolved.curate not in (None, __version__):
        work.say(f"curate {resolved.curate} wrote this recipe and this is {__version__}: numbers may differ.")
    write_json(ledger.done, folder / STEPS)
    write_text(resolved_yaml(resolved), folder / "recipe.yaml")
    try:
        ledger.run(work.steps(), work.say)
    except CurateError as error:
        raise in_recipe_words(error) from error
    write_json(work.summary(), folder / "summary.json")
    return RecipeRun(resolved, folder)


def plan(
    recipe: str | Path | Mapping[str, Any], output: str | Path, **given: Any
) -> tuple[list[dict[str, Any]], Recipe]:
    """What `run` would do: each step with what it writes, whether it is done, and its command; and the settings."""
    resolved = resolve(recipe, overrides(**given))
    folder = Path(output)
    steps = list(Work(resolved, folder).steps())
    to_do = open_folder(folder).to_do(steps)
    rows = [
        {
            "step": step.name,
            "state": "to do" if step.name in to_do else "done",
            "output": str(step.output),
            "command": step.command,
        }
        for step in steps
    ]
    return rows, resolved


def resolve(recipe: str | Path | Mapping[str, Any], changes: Sequence[Override] = ()) -> Recipe:
    """The settings of a recipe with `changes` in place and nothing left open; RecipeError for what cannot be."""
    if isinstance(recipe, Mapping):
        text, name = json.dumps(recipe, default=str), MAPPING
    else:
        text, name = recipe_text(str(recipe))
    try:
        read, places = parse(text, name, Recipe, changes)
        check(read, lambda key: places.get(key) or places.get(key.partition(".")[0]) or name)
    except RecipeError as error:
        raise in_recipe_words(error) from error
    return pinned(with_names(read))


def overrides(
    model: str | Path | None = None,
    data: str | Path | None = None,
    by: str | None = None,
    limit: int | None = None,
    seeds: int | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
) -> list[Override]:
    """What is given beside a recipe, the particular after the general."""
    named = {"model.name": model, "dataset.train": data, "limit": limit, "validation.seeds": seeds}
    flags = {"model.name": "--model", "dataset.train": "--data", "limit": "--limit", "validation.seeds": "--seeds"}
    found = [given(key, value, flags[key]) for key, value in named.items() if value is not None]
    if by is not None:
        found += [given("estimators.by", [by], "--by"), given("selection.by", None, "--by")]
    if isinstance(settings, Mapping):
        return found + [given(key, value, f"--set {key}") for key, value in settings.items()]
    return found + [override(setting) for setting in settings]


def open_folder(folder: Path) -> Ledger:
    """What is done in a folder; OutputError if it is somebody else's or cannot be written."""
    check_own_folder(folder, STEPS, "curate run")
    return Ledger(folder)


def resolved_yaml(recipe: Recipe) -> str:
    """Every setting, as YAML that gives the same run again."""
    import yaml

    content = recipe.as_dict() | {"curate": __version__}
    head = "# Every setting as it was used. It runs again with: curate run recipe.yaml -o FOLDER\n"
    plain = json.loads(json.dumps(content))  # tuples as lists
    return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
