"""The `curate` command: its sub-commands in the order a user meets them."""

from __future__ import annotations

from typing import Annotated

import typer

from curate import __version__
from curate.cli.demo import demo
from curate.cli.merge import merge
from curate.cli.run import run
from curate.cli.score import score
from curate.cli.select import select
from curate.cli.show import show
from curate.cli.simulate import simulate
from curate.cli.validate import validate
from curate.cli.views import app as views

app = typer.Typer(
    name="curate",
    help="""Choose the QA examples worth finetuning on.

    A model finetuned on facts it barely knows gets worse at facts; finetuned on facts it knows well it gets better.
    Score how well known each example is, select a split, and measure on your model whether it helps:

    \b
    curate score popQA.tsv --by column:s_pop -o scored.parquet
    curate select scored.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole -o splits/
    curate validate splits/ --eval test.parquet --model meta-llama/Llama-2-7b-hf -o run/
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"curate {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


for function in (demo, score, merge, select, validate, show, run, simulate):
    app.command()(function)
app.add_typer(views)


def main() -> None:
    """The entry point of the `curate` command."""
    app()
