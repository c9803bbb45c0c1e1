"""`curate show`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from curate.cli.console import Json, Output, Quiet, command, make_table
from curate.cli.pageviews import report_tables
from curate.cli.validate import summary_tables


@command
def show(
    file: Annotated[str, typer.Argument(help="A scored file, a split, a folder of splits, a run, or any QA dataset.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is in a file: counts, quantiles, a histogram, examples as the model sees them.

    Example: curate show scored.parquet
    """
    from curate.show import describe

    found = describe(file)
    Output(json, quiet).result(found, *_tables(found))


def _tables(found: dict[str, Any]) -> list[Any]:
    if found["kind"] == "run":
        return summary_tables(found)
    if found["kind"] == "splits":
        return [item for split in found["splits"] for item in [f"── {split['split']}", *_one_table(split)]]
    return [f"{found['file']} ({found['kind']})", *_one_table(found)]


def _one_table(found: dict[str, Any]) -> list[Any]:
    columns = ", ".join(f"{role}={name}" for role, name in found["columns"].items() if name)
    lines: list[Any] = [
        f"{found['rows']} examples, {found['subjects']} subjects, {found['relations']} relations, "
        f"{found['without_answer']} without an answer; columns {columns}"
    ]
    if found["selection"]:
        selection = found["selection"]
        lines.append(
            f"split {selection['split']} ({selection['asked']}) by {selection['by']}, seed {selection['seed']}"
        )
    for name, summary in found["scores"].items():
        lines += _score_tables(name, summary)
    lines += report_tables(found["pageviews"])
    for example in found["examples"]:
        lines.append(f"{example['prompt']}{example['completion'] or ''}")
    return lines


def _score_tables(name: str, summary: dict[str, Any]) -> list[Any]:
    quantiles = summary["quantiles"]
    headers = ["score", "measured", *(f"{100 * float(q):g}%" for q in quantiles)]
    row = [name, summary["measured"], *(f"{v:.4g}" for v in quantiles.values())]
    counts, edges = summary["histogram"]["counts"], summary["histogram"]["edges"]
    most = max(counts, default=0)
    bars = [
        [f"{low:.4g} to {high:.4g}", n, "█" * round(30 * n / most)]
        for n, low, high in zip(counts, edges, edges[1:], strict=False)
    ]
    tables = [make_table(None, headers, [row])]
    return tables + ([make_table(None, [name, "rows", ""], bars)] if bars else [])
