"""`curate select`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from curate.cli.console import DryRun, Json, Output, Quiet, command, make_table


@command
def select(
    scored: Annotated[str, typer.Argument(help="A file that curate score made.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .parquet file for one split, a folder for several.")
    ],
    top: Annotated[
        str | None,
        typer.Option(help="The best known: a share (0.3, 30%) of the scored rows, or a count (500)."),
    ] = None,
    bottom: Annotated[str | None, typer.Option(help="The least known, likewise.")] = None,
    random: Annotated[str | None, typer.Option(help="A seeded random draw, likewise.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="All rows that have a score.")] = False,
    by: Annotated[str | None, typer.Option(help="The score to rank by, when the file has several.")] = None,
    missing: Annotated[
        str, typer.Option(help="Rows without a score: exclude, lowest (rank them last) or error.")
    ] = "exclude",
    seed: Annotated[int, typer.Option(help="Decides the random draw, and the order among equal scores.")] = 0,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the top, bottom, random or whole split of a scored file.

    Sizes are exact: round-half-up(share x rows with a score), the same for top, bottom and random; equal scores
    are ordered by a seeded hash of their id. Rows keep their source order.

    Example: curate select scored.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole -o splits/
    """
    from curate.selecting import select as run

    out = Output(json, quiet)
    chosen = run(
        scored,
        top=top,
        bottom=bottom,
        random=random,
        whole=whole,
        by=by,
        missing=missing,  # type: ignore[arg-type]
        seed=seed,
        output=None if dry_run else output,
    )
    summary = chosen.summary()
    out.result({"dry_run": dry_run, "output": str(output), **summary}, _table(summary), str(output))
    left_out = summary["missing"]["rows"]
    action = {"exclude": "left out", "lowest": "ranked last", "error": ""}[missing]
    out.note(
        f"{summary['rows']} rows by {summary['by']}, {left_out} without a score{f' ({action})' if left_out else ''}"
        f"{'; nothing written' if dry_run else ''}"
    )


def _table(summary: dict[str, Any]) -> Any:
    rows = []
    for split in summary["splits"]:
        cut = split["cut"] or {"score": None, "ties": None, "ties_kept": None}
        score = None if cut["score"] is None else f"{cut['score']:.6g}"
        rows.append([split["split"], split["asked"], split["rows"], score, cut["ties"], cut["ties_kept"]])
    return make_table(None, ["split", "asked", "rows", "score at the cut", "rows with it", "of them kept"], rows)
