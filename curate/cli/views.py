"""`curate views fetch` and `curate views build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.console import Json, Output, Quiet, command, make_table

app = typer.Typer(
    name="views",
    help="Build a table of page views from Wikimedia's dumps, to look subjects up without a network.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
@command
def fetch(
    month: Annotated[list[str], typer.Option(help="The month to load, such as 2021-10. May be given several times.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to load into.")],
    agent: Annotated[str, typer.Option(help="user, spider or automated; all-agents for the three of them.")] = "user",
    contact: Annotated[str | None, typer.Option(help="Your e-mail address or page, which Wikimedia asks for.")] = None,
    dumps_url: Annotated[str | None, typer.Option(help="Another server, laid out like Wikimedia's.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Load the monthly page-view dumps of all wikis (several GB a month). A stopped download goes on where it was.

    Example: curate views fetch --month 2021-10 -o dumps/ --contact you@example.org
    """
    from curate.wikipedia.dumps import dump_url, fetch
    from curate.wikipedia.views import open_download

    out = Output(json, quiet)
    base, http, agents = open_download(month, agent, contact, dumps_url)
    with http, out.progress("bytes") as progress:
        done = [fetch(http, dump_url(base, m, a), output, progress) for m in month for a in agents]
    files = [{"file": str(f.path), "bytes": f.size, "loaded": f.loaded, "checksum": f.checksum} for f in done]
    out.result({"files": files}, *(str(f.path) for f in done))
    for item in done:
        checked = f"{item.checksum} as published" if item.checksum else "no checksum to compare with"
        out.note(f"{item.path.name}: {item.size:,} bytes, {item.loaded:,} of them loaded now; {checked}")


@app.command()
@command
def build(
    dumps: Annotated[list[Path], typer.Argument(help="Dumps: monthly pageview_complete or hourly pageviews files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    project: Annotated[str, typer.Option(help="The wiki whose lines count.")] = "en.wikipedia",
    access: Annotated[str, typer.Option(help="all-access, desktop, mobile-web or mobile-app.")] = "all-access",
    titles: Annotated[
        Path | None, typer.Option(help="Keep these articles only: a file with a title a line, or Parquet with title.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Sum dumps into a table (title, views), sorted by title, for curate score --views-from.

    Example: curate views build dumps/*.bz2 -o views.parquet
    """
    from curate.data.files import check_writable
    from curate.wikipedia.dumps import Wanted, build_table, read_titles
    from curate.wikipedia.options import ACCESS, check_choice

    out = Output(json, quiet)
    check_writable(output, frozenset({".parquet"}))
    check_choice("access", access, ACCESS)
    subset = read_titles(titles) if titles else None
    with out.progress("bytes") as progress:
        made = build_table(dumps, output, Wanted(project.removesuffix(".org"), access, subset), progress)
    rows = [[dump["name"], f"{dump['lines']:,}", f"{dump['malformed']:,}"] for dump in made["dumps"]]
    out.result({"output": str(output), **made}, make_table(None, ["dump", "lines", "malformed"], rows), str(output))
    months = f", sums over {len(made['months'])} months" if len(made["months"]) > 1 else ""
    out.note(f"{made['rows']:,} titles of {made['project']}{months}")
