"""`curate score`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import curate.cli.engines as engines
import curate.cli.pageviews as views
from curate.cli.console import EXIT_MISSING, DryRun, Json, Output, Preset, Quiet, Split, command, make_table

if TYPE_CHECKING:
    from curate.scoring import Scored


@command
def score(
    dataset: Annotated[str, typer.Argument(help="A file, folder, glob or Hub id; - reads JSONL from stdin.")],
    by: Annotated[
        list[str],
        typer.Option("--by", help="An estimator: column:NAME, loss or pageviews. May be given several times."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    model: Annotated[str | None, typer.Option(help="For loss: folder or Hub id of the pretrained base model.")] = None,
    reduction: Annotated[str, typer.Option(help="For loss: token-mean, sum or byte-mean.")] = "token-mean",
    answers: Annotated[
        str, typer.Option(help="For loss, of several accepted answers: first, best (lowest loss) or all-mean.")
    ] = "first",
    template: Annotated[
        str | None, typer.Option(help="For loss: qa, plain, mmlu, or a Jinja file. mmlu if there are choices, else qa.")
    ] = None,
    shots: Annotated[int, typer.Option(help="For loss: solved examples before each question.")] = 0,
    shots_from: Annotated[
        str | None, typer.Option(help="The dataset they come from; of the same relation (or MMLU subject) if it can.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickle weights, if you trust them.")
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="For loss: float32, bfloat16 or float16. Less than float32 moves the numbers.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="For loss: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    processes: Annotated[
        int | None, typer.Option(help="For loss: how many, each with the model on a device of its own. One a GPU.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="For loss: branch, tag or commit of a Hub model.")] = None,
    views_from: views.ViewsFrom = "api",
    window: views.Window = "12m",
    project: views.Project = None,
    access: views.Access = None,
    agent: views.Agent = None,
    contact: views.Contact = None,
    pageviews_url: views.PageviewsUrl = None,
    mediawiki_url: views.MediawikiUrl = None,
    title_column: views.TitleColumn = None,
    qid_column: views.QidColumn = None,
    subject_template: views.SubjectTemplate = None,
    rate: views.Rate = None,
    refresh: views.Refresh = False,
    offline: views.Offline = False,
    preset: Preset = None,
    split: Split = None,
    question_column: Annotated[
        str | None, typer.Option(help="The column that holds the question, or a dotted path into one.")
    ] = None,
    answer_column: Annotated[str | None, typer.Option(help="The column that holds the answer or answers.")] = None,
    subject_column: Annotated[str | None, typer.Option(help="The column that holds the subject.")] = None,
    relation_column: Annotated[str | None, typer.Option(help="The column that holds the relation.")] = None,
    choices_column: Annotated[str | None, typer.Option(help="The column that holds the list of choices.")] = None,
    id_column: Annotated[str | None, typer.Option(help="A complete and unique key of your own.")] = None,
    shard: engines.ShardOption = None,
    engine: engines.Engine = "local",
    ray_address: engines.RayAddress = None,
    workers: engines.Workers = None,
    cpus: engines.Cpus = 1,
    max_missing: Annotated[
        int | None, typer.Option(help="End with exit code 3 if more examples than this get no score.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score how well known each example is.

    Every input column is kept; added are curate_id, score_NAME (higher is better known, null if it could not be
    measured) and the evidence. A stopped run goes on where it was when the same command is typed again.

    Example: curate score popQA.tsv --by column:s_pop -o scored.parquet
    """
    asked = locals()
    from curate.cli.plan import score_plan
    from curate.scoring import find_shard, prepare, score_file

    out = Output(json, quiet)
    part = find_shard(shard)
    output = engines.shard_output(output, part)
    job = prepare(dataset, by, output, part, asked)
    if dry_run:
        plan, lines = score_plan(job, output)
        out.result(plan, *lines)
        return
    with job.estimators() as estimators:
        started = time.perf_counter()
        with out.progress() as progress:
            scored = score_file(job.rows, estimators, output, progress, max_missing is None, part)
    views.note_lookups(out, estimators)
    seconds = time.perf_counter() - started
    _report(out, scored, output, seconds)
    if max_missing is not None and scored.unmeasured > max_missing:
        out.note(f"{scored.unmeasured} examples have no score, more than --max-missing {max_missing}.")
        raise typer.Exit(EXIT_MISSING)


def _report(out: Output, scored: Scored, output: Path, seconds: float) -> None:
    from curate.cli.plan import roles_line
    from curate.show import read_scores, score_summaries

    rows = scored.rows
    summaries = score_summaries(read_scores(output))
    content = {
        "output": str(output),
        "rows": rows,
        "columns": scored.data.roles.as_dict(),
        "statuses": scored.statuses,
        "scores": summaries,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds, 1),
    }
    table = make_table(
        None,
        ["score", "measured", "coverage", "min", "median", "max", "not measured"],
        [_summary_row(name, s, scored.statuses.get(name, {})) for name, s in summaries.items()],
    )
    out.result(content, table, str(output))
    out.note(f"{rows} examples in {seconds:.1f} s ({rows / seconds:,.0f} rows/s); columns {roles_line(scored.data)}")
    if rows > 0 and scored.unmeasured:
        out.note(f"{scored.unmeasured} examples have no score; the {output.name} columns *_status say why.")


def _summary_row(name: str, summary: dict[str, Any], statuses: dict[str, int]) -> list[object]:
    from curate.wikipedia.views import MEASURED

    quantiles = summary["quantiles"]
    reasons = ", ".join(f"{status} {n}" for status, n in statuses.items() if status not in MEASURED and n)
    numbers = [f"{quantiles[q]:.4g}" if quantiles else "" for q in ("0", "0.5", "1")]
    return [name, summary["measured"], f"{100 * summary['coverage']:.1f}%", *numbers, reasons]
