"""`curate select`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.console import DryRun, Json, Output, Quiet, command, make_table
from curate.data.export import score_text
from curate.errors import SettingError

if TYPE_CHECKING:
    from curate.selection.select import Selection


@command
def select(
    scored: Annotated[str, typer.Argument(help="A file that curate score made, or a folder or glob of them.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A .parquet, .jsonl or .csv file for one split, a folder for several."),
    ],
    top: Annotated[
        str | None,
        typer.Option(help="The best known: a share (0.3, 30%) of the scored rows, or a count (500)."),
    ] = None,
    bottom: Annotated[str | None, typer.Option(help="The least known, likewise.")] = None,
    random: Annotated[str | None, typer.Option(help="A seeded random draw, likewise.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="All rows that have a score.")] = False,
    band: Annotated[
        str | None, typer.Option(help="A stretch of the order, in percent from the best known: 30:70.")
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(help="The best known that fit so many tokens of prompt and completion.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="For --budget-tokens: folder or Hub id of the model to be finetuned.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            help="The score to rank by, when the file has several, or column:NAME. Given several times: by the mean "
            "of their percentile ranks.",
        ),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="Only rows with COLUMN=VALUE,VALUE,…, in all conditions given.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Only rows with at least this score.")] = None,
    max_score: Annotated[float | None, typer.Option(help="Only rows with at most this score.")] = None,
    stratify_by: Annotated[
        str | None, typer.Option(help="Take the share inside each group: relation, or any column.")
    ] = None,
    controlled_by: Annotated[
        str | None,
        typer.Option(
            help="PopQA-Controlled: inside each group (relation) only its most frequent answer, top and bottom halves, "
            "and a test set of other answers."
        ),
    ] = None,
    holdout: Annotated[
        str | None, typer.Option(help="Hold out an evaluation set of this size that shares no subject with a split.")
    ] = None,
    holdout_by: Annotated[str, typer.Option(help="What the held-out set must not share.")] = "subject",
    order: Annotated[
        str, typer.Option(help="Order of the rows: source, popular-first, obscure-first or shuffled.")
    ] = "source",
    missing: Annotated[
        str, typer.Option(help="Rows without a score: exclude, lowest (rank them last) or error.")
    ] = "exclude",
    seed: Annotated[int, typer.Option(help="Decides the random draws, and the order among equal scores.")] = 0,
    format: Annotated[
        str,
        typer.Option(help="The shape of the rows: original, or for trainers prompt-completion, messages or alpaca."),
    ] = "original",
    to: Annotated[
        str | None, typer.Option(help="The kind of file: parquet, jsonl or csv; else as the output is called.")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Upload the folder as the dataset OWNER/NAME; a new one is private.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let a new dataset on the Hub be public.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the top, bottom, random or whole split of a scored file, or a part chosen by score, group or budget.

    Sizes are exact: round-half-up(share x rows with a score), the same for top, bottom and random; equal scores
    are ordered by a seeded hash of their id. Rows keep their source order unless --order says otherwise.

    Example: curate select scored.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole -o splits/

    Example: curate select popQA.tsv --by column:s_pop --where relation=country,sport,occupation
    --controlled-by relation -o popqa-controlled/
    """
    from curate.data.hub import check_push, push_folder
    from curate.selection.select import OPTIONS, check_fits, check_output
    from curate.selection.select import select as run

    given = {name: value for name, value in locals().items() if name in OPTIONS}
    if public and push_to_hub is None:
        raise SettingError("--public without --push-to-hub does nothing.", try_next="--push-to-hub OWNER/NAME --public")
    out = Output(json, quiet)
    if push_to_hub is not None:
        check_push(push_to_hub, output)
    if dry_run:
        check_output(scored, output, format, to)
        chosen = run(scored, **given)
        check_fits(chosen, output)
        _report(out, chosen, True, output=output)
        return
    with out.progress() as progress:
        chosen = run(scored, **given, output=output, format=format, to=to, progress=progress)
    address = {"hub": push_folder(output, push_to_hub, not public)} if push_to_hub else {}
    _report(out, chosen, False, output=output, **address)


def _report(out: Output, chosen: Selection, dry_run: bool, **places: object) -> None:
    """Tables of what was selected, and the `places` where it is, or would be."""
    summary, explanation = chosen.summary(), chosen.explanation
    where = {name: str(place) for name, place in places.items()}
    content = {"dry_run": dry_run, **where, **summary, "explanation": explanation}
    lines = [f"would write {place}" if dry_run else place for place in where.values()]
    out.result(content, *_tables(summary, explanation), *lines)
    out.note(_remark(summary) + ("; nothing written" if dry_run else ""))


def _remark(summary: dict[str, Any]) -> str:
    without, policy = summary["missing"]["rows"], summary["missing"]["policy"]
    action = {"exclude": " (left out)", "lowest": " (ranked last)", "error": ""}[policy] if without else ""
    others = [f"{n} {why}" for why, n in summary["left_out"].items() if why != "no score"]
    others += [
        f"{split['without_answer']} of {split['split']} without a question or an answer not written"
        for split in summary["splits"]
        if "without_answer" in split
    ]
    return "; ".join([f"{summary['rows']} rows by {summary['by']}, {without} without a score{action}", *others])


def _tables(summary: dict[str, Any], explanation: dict[str, Any]) -> list[Any]:
    tables = [_split_table(summary), _quantile_table(explanation["quantiles"])]
    shared = [f"{p['a']} and {p['b']}: {p['rows']}" for p in explanation["overlap"] if p["rows"]]
    if shared:
        tables.append(f"Rows in common: {'; '.join(shared)}")
    for role in ("relation", "answers"):
        if role in explanation:
            tables.append(mix_table(role, explanation[role]["splits"], explanation["counted"]))
    return tables


def _split_table(summary: dict[str, Any]) -> Any:
    rows = []
    for split in summary["splits"]:
        cut = split["cut"]
        edge = ["", None, None] if cut is None else [score_text(cut["score"]), cut["ties"], cut["ties_kept"]]
        rows.append([split["split"], split["asked"], split["rows"], *edge])
    return make_table(None, ["split", "asked", "rows", "score at the cut", "rows with it", "of them kept"], rows)


def _quantile_table(quantiles: dict[str, dict[str, float]]) -> Any:
    at = max(quantiles.values(), key=len)
    rows = [[name, *(f"{values[q]:.4g}" if values else "" for q in at)] for name, values in quantiles.items()]
    return make_table(None, ["score", *(f"{100 * float(q):g}%" for q in at)], rows)


def mix_table(role: str, splits: dict[str, Any], counted: str) -> Any:
    """What moved most in the mix of relations or answers, a row a split."""
    rows = []
    for name, split in splits.items():
        shifts = [f"{s['value']} {100 * s['before']:.1f}% → {100 * s['after']:.1f}%" for s in split["shifts"][:3]]
        rows.append([name, f"{100 * split['moved']:.1f}%", split["distinct"], ", ".join(shifts)])
    note = "" if counted == "all rows" else f" ({counted})"
    return make_table(None, [f"mix of {role}{note}", "moved", "distinct", "largest shifts"], rows)
