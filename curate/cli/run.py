"""`curate run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.console import DryRun, Json, Output, Quiet, command, make_table

if TYPE_CHECKING:
    from curate.recipes.recipe import Recipe


@command
def run(
    recipe: Annotated[
        str | None, typer.Argument(help="A bundled recipe by name (see --list), or a YAML file of yours.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to work in.")] = None,
    model: Annotated[str | None, typer.Option(help="Instead of model.name: folder or Hub id.")] = None,
    data: Annotated[str | None, typer.Option(help="Instead of dataset.train: a file, folder or Hub id.")] = None,
    by: Annotated[str | None, typer.Option(help="Score and select by this estimator instead.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Try out: a sample of so many examples of each arm and of the test set.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Finetunings per arm.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting by its dotted name: selection.top=0.3.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the bundled recipes.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the recipe's YAML, to start one of your own from.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score, select and validate from one YAML file; the paper's experiments come with curate.

    Leaves recipe.yaml (every setting as it was used), scored.parquet, splits/, run/ and summary.json. What is there
    already and made from the same is not made again, so a stopped command goes on when it is typed again.

    Example: curate run popqa --model meta-llama/Llama-2-7b-hf -o out/

    Example: curate run popqa-controlled --data popQA.tsv --limit 40 --seeds 1 --set validation.tune=off -o try/
    """
    from curate.errors import SettingError
    from curate.recipes.recipe import recipe_text

    out = Output(json, quiet)
    if list_ or recipe is None:
        _list(out)
    elif show:
        print(recipe_text(recipe)[0], end="")
    elif output is None:
        recipe_text(recipe)  # a name that is wrong is told before one that is missing
        raise SettingError(
            "There is no folder to work in.", expected="-o FOLDER", try_next=f"curate run {recipe} -o out/"
        )
    else:
        given: dict[str, Any] = {"model": model, "data": data, "by": by, "limit": limit, "seeds": seeds}
        given["settings"] = set_ or ()
        _plan(out, recipe, output, given) if dry_run else _run(out, recipe, output, given)


def _list(out: Output) -> None:
    from curate.recipes.recipe import descriptions

    found = descriptions()
    rows = [[name, about] for name, about in found.items()]
    out.result({"recipes": found}, make_table(None, ["recipe", "what it is"], rows), "curate run NAME -o out/")


def _plan(out: Output, name: str, folder: Path, given: dict[str, Any]) -> None:
    from curate.recipes.run import plan

    steps, recipe = plan(name, folder, **given)
    rows = [[step["step"], step["state"], step["command"] or f"write {step['output']}"] for step in steps]
    content = {
        "dry_run": True,
        "output": str(folder),
        "steps": steps,
        "cost": _cost(recipe),
        "recipe": recipe.as_dict(),
    }
    lines = [f"{step}: {state}\n    {what}" for step, state, what in rows]
    out.result(content, *lines, _cost_line(_cost(recipe)), f"would write {folder}")


def _cost(recipe: Recipe) -> dict[str, int]:
    from curate.settings import grid

    selection = recipe.selection
    arms = sum(
        value not in (None, False) for value in (selection.top, selection.bottom, selection.random, selection.band)
    )
    arms += selection.whole
    settings = len(grid(recipe.validation.tune, recipe.finetuning))
    return {
        "arms": arms,
        "finetunings": arms * recipe.validation.seeds,
        "trials": arms * settings if settings > 1 else 0,
    }


def _cost_line(cost: dict[str, int]) -> str:
    return f"{cost['arms']} arms, {cost['trials']} trials, {cost['finetunings']} finetunings"


def _run(out: Output, name: str, folder: Path, given: dict[str, Any]) -> None:
    from curate.cli.validate import summary_tables
    from curate.recipes.run import run

    found = run(name, folder, **given, progress=out.note, meter=out.progress)
    summary = found.summary
    files = [[what, str(folder / path)] for what, path in summary["files"].items()]
    tables = [*summary_tables(summary), make_table(None, ["what", "where"], files)]
    out.result({"output": str(folder), **summary}, *tables)
    for warning in summary["warnings"]:
        out.note(f"Warning: {warning}")
