"""`curate show`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from curate.cli.console import Json, Output, Preset, Quiet, Split, command, make_table
from curate.cli.pageviews import report_tables
from curate.cli.select import mix_table
from curate.cli.simulate import simulation_tables
from curate.cli.validate import summary_tables
from curate.errors import DataError


@command
def show(
    files: Annotated[
        list[str],
        typer.Argument(help="A scored file, a split, a folder of splits, a run, a simulation, or any QA dataset."),
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Two files or more, side by side: what they share, how they differ.")
    ] = False,
    preset: Preset = None,
    split: Split = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is in a file: counts, quantiles, a histogram, examples as the model sees them.

    Example: curate show scored.parquet

    Example: curate show --compare top.parquet bottom.parquet
    """
    from curate.show import compare_files, describe

    found = compare_files(files) if compare else describe(_only(files), preset, split)
    Output(json, quiet).result(found, *_tables(found))


def _only(files: list[str]) -> str:
    if len(files) > 1:
        raise DataError(
            f"{len(files)} files were named.",
            expected="one file, or --compare",
            try_next=f"curate show --compare {' '.join(files)}",
        )
    return files[0]


def _tables(found: dict[str, Any]) -> list[Any]:
    if found["kind"] == "comparison":
        return _comparison_tables(found)
    if found["kind"] == "run":
        return summary_tables(found)
    if found["kind"] == "simulation":
        return simulation_tables(found)
    if found["kind"] == "splits":
        return [item for split in found["splits"] for item in [f"── {split['split']}", *_one_table(split)]]
    return [f"{found['file']} ({found['kind']})", *_one_table(found)]


def _one_table(found: dict[str, Any]) -> list[Any]:
    roles = dict(found["columns"])
    layout = roles.pop("preset") or "no known layout, columns by their names"
    columns = ", ".join(f"{role}={name}" for role, name in roles.items() if name)
    lines: list[Any] = [
        f"{found['rows']} examples, {found['subjects']} subjects, {found['relations']} relations, "
        f"{found['without_answer']} without an answer, {found['blank_answers']} blank answers dropped",
        f"read as {layout}: {columns}",
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


def _comparison_tables(found: dict[str, Any]) -> list[Any]:
    sizes = [[s["split"], s["rows"], s["distinct_subjects"]] for s in found["splits"]]
    shared = [[p["a"], p["b"], p["rows"], p["subjects"]] for p in found["overlap"]]
    tables = [
        make_table(None, ["split", "rows", "subjects"], sizes),
        make_table("In common", ["split", "and", "rows", "subjects"], shared),
    ]
    for name, splits in found["scores"].items():
        at = max((s["quantiles"] for s in splits.values()), key=len)
        rows = [
            [split, s["measured"], *(f"{s['quantiles'][q]:.4g}" if s["quantiles"] else "" for q in at)]
            for split, s in splits.items()
        ]
        tables.append(make_table(None, [name, "measured", *(f"{100 * float(q):g}%" for q in at)], rows))
    return tables + [mix_table(r, found[r]["splits"], "all rows") for r in ("relation", "answers") if r in found]


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
