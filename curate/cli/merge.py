"""`curate merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.console import EXIT_MISSING, Json, Output, Quiet, command


@command
def merge(
    shards: Annotated[list[str], typer.Argument(help="The folder, glob or files of the shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    max_missing: Annotated[
        int | None, typer.Option(help="End with exit code 3 if more examples than this get no score.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the shards of `curate score --shard` together.

    Checks that every shard is there exactly once and that all were made of the same data in the same way. The file
    is the one that a run without shards would have written, byte for byte.

    Example: curate merge shards/ -o scored.parquet
    """
    from curate.shards import merge_files

    out = Output(json, quiet)
    merged = merge_files(shards, output, allow_unmeasured=max_missing is not None)
    content = {
        "output": str(output),
        "shards": merged.shards,
        "rows": merged.rows,
        "unmeasured": merged.unmeasured,
        "statuses": merged.manifest["statuses"],
    }
    out.result(content, f"{merged.rows} rows of {merged.shards} shards", str(output))
    if merged.unmeasured:
        out.note(f"{merged.unmeasured} examples have no score; the {output.name} columns *_status say why.")
    if max_missing is not None and merged.unmeasured > max_missing:
        out.note(f"{merged.unmeasured} examples have no score, more than --max-missing {max_missing}.")
        raise typer.Exit(EXIT_MISSING)
