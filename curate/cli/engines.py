"""What `curate score` takes for runs beyond one process: shards and engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from curate.scoring import Shard

ShardOption = Annotated[
    str | None,
    typer.Option("--shard", help="Score part I of N only, 1/8 to 8/8; -o may be a folder. Then: curate merge."),
]

Engine = Annotated[
    str, typer.Option("--engine", help="local, or ray: for loss, the model on every worker of a Ray cluster.")
]
ValidateEngine = Annotated[
    str, typer.Option("--engine", help="local, or ray: every trial, arm and seed as a task of a Ray cluster.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="For ray: the head node, as 10.0.0.1:6379, or local. Else the cluster this machine is in, if any."
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(help="For ray: how many, or the fewest and the most, 2:64.  [default: one a GPU, or CPU]"),
]
Cpus = Annotated[int, typer.Option(help="For ray: the processors, and threads, of a worker.")]


def shard_output(output: Path, shard: Shard | None) -> Path:
    """The file of a shard: the given one, or one of its own name in the given folder."""
    if shard is None or (output.suffix == ".parquet" and not output.is_dir()):
        return output
    return output / shard.file_name
