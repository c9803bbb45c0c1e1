"""`curate demo`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from curate.cli.console import Json, Output, Quiet, command
from curate.cli.validate import summary_tables


@command
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to work in.")] = Path("curate-demo"),
    by: Annotated[str, typer.Option(help="What the arms are selected by: views or loss.")] = "views",
    seeds: Annotated[int, typer.Option(min=1, help="Finetunings per arm.")] = 5,
    unpack: Annotated[
        bool, typer.Option("--unpack", help="Only unpack the model and the questions, into the folder's world/.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole story offline: score, select and validate on a bundled model and bundled facts.

    A small model was pretrained on statements about made-up people, some of them often, most of them seldom.
    The demo finetunes it on the best known half of the questions, the least known half, a random half and all of
    them, and shows which makes it answer more questions about other people. A few minutes on two cores.

    Example: curate demo -o demo
    """
    from curate.recipes.run import run_demo, unpack_world

    out = Output(json, quiet)
    if unpack:
        unpack_world(output / "world")
        out.result({"output": str(output / "world")}, str(output / "world"))
        return
    result = run_demo(output, by, seeds, show_command=lambda line: out.note(f"\n$ {line}"), progress=out.note)
    summary = result.validation.summary()
    agreement = result.agreement
    run = output / f"run-by-{by}"
    out.result(
        {"output": str(run), "by": by, "agreement": asdict(agreement), **summary},
        f"Arms selected by {by}. Loss against views: rank correlation {agreement.rank_correlation:.2f}, "
        f"{100 * agreement.top_overlap:.0f}% of FT-Top in common (50% by chance).",
        *summary_tables(summary),
        f"Report: {run / 'report.html'}",
    )
    for warning in result.validation.warnings():
        out.note(f"Warning: {warning}")
