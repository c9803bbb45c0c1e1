"""The `curate` command: every sub-command parses, calls the library, and prints, in the order a user meets them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from curate import __version__, scoring
from curate.cli.console import (
    PANEL,
    Commands,
    DryRun,
    Force,
    Open,
    Output,
    choices,
    command,
    make_table,
    own_settings,
    start,
    starting,
    unwrapped,
)
from curate.cli.tables import (
    ALREADY,
    as_typed,
    counted,
    note_clashes,
    note_missing,
    one_of,
    recipe_plan_lines,
    report_run,
    report_scored,
    runs_tables,
    search_plan_tables,
    search_tables,
    selection_remark,
    selection_tables,
    shown_tables,
    simulation_tables,
    validation_plan_tables,
)
from curate.data.export import check_push, push_folder
from curate.data.files import check_writable, write_text
from curate.display import clean
from curate.engines import is_first, leave
from curate.errors import DataError, OutputError, SettingError, as_option
from curate.estimators import ESTIMATORS
from curate.estimators.base import why_failed
from curate.recipes.recipe import RunSettings, descriptions, names, recipe_text
from curate.report.page import runs_page
from curate.searching.candidates import SearchSettings
from curate.selection import select as selecting
from curate.settings import (
    EngineSettings,
    ReadSettings,
    SelectSettings,
    ValidateEngineSettings,
    ValidateSettings,
    WriteSettings,
)
from curate.shards import Shard, merge_files
from curate.show import (
    compare_files,
    compare_runs,
    describe,
    describe_agreement,
    read_scores,
    score_summaries,
)
from curate.simulation.settings import ExperimentOptions
from curate.wikipedia.dumps import build_table, fetch_months, read_titles
from curate.wikipedia.options import BuildSettings, FetchSettings

app = typer.Typer(
    name="curate",
    cls=Commands,
    help=unwrapped("""Choose the QA examples worth finetuning on.

    A model finetuned on facts it barely knows gets worse at facts; finetuned on facts it knows well it gets better.
    Score how well known each example is, select a split, and measure on your model whether it helps:

    \b
    curate score popQA.tsv --by column:s_pop -o scored.parquet
    curate select scored.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole --holdout 0.2 -o splits/
    curate validate splits/ --model meta-llama/Llama-2-7b-hf -o run/
    """),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
views = typer.Typer(
    name="views",
    help="Build a table of page views from Wikimedia's dumps, to look subjects up without a network.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def _out(help: str) -> Any:
    return Option("--output", "-o", help=help, rich_help_panel=PANEL)


ParquetFile = Annotated[Path, _out("The Parquet file to write.")]
ESTIMATOR = one_of(estimator.usage for estimator in ESTIMATORS.values())
EXPERIMENTS = ("facts", "zipf", "steps", "map", "one-layer")
MaxMissing = Annotated[
    int | None,
    Option(help="End with exit code 3 if more examples than this get no score.", rich_help_panel=PANEL),
]


def main() -> None:
    """The entry point of the `curate` command."""
    start(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"curate {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@command(app)
def demo(
    out: Output,
    output: Annotated[Path, _out("The folder to work in.")] = Path("curate-demo"),
    by: Annotated[str, choices("views", "loss", help="What the arms are selected by.")] = "views",
    seeds: Annotated[int, Option(min=1, help="Finetunings per arm.")] = 5,
    unpack: Annotated[
        bool, Option("--unpack", help="Only unpack the model and the questions, into the folder's world/.")
    ] = False,
    open: Open = False,
) -> None:
    """The whole story offline: score, select and validate on a bundled model and bundled facts.

    A small model was pretrained on statements about made-up people, some of them often, most of them seldom.
    The demo finetunes it on the best known half of the questions, the least known half, a random half and all of
    them, and shows which makes it answer more questions about other people. A few minutes on two cores.

    Example: curate demo -o demo
    """
    from curate.recipes.run import run_demo, unpack_world

    if unpack:
        unpack_world(output / "world")
        out.result({"output": str(output / "world")}, str(output / "world"))
        return
    found, agreement = run_demo(output, by, seeds, show_command=lambda line: out.note(f"\n$ {line}"), progress=out.note)
    run = output / f"run-by-{by}"
    content = {"output": str(run), "by": by, "agreement": agreement, **found.summary()}
    about = (
        f"Arms selected by {by}. Loss against views: rank correlation {agreement['rank_correlation']:.2f}, "
        f"{100 * agreement['top_overlap']:.0f}% of FT-Top in common (50% by chance)."
    )
    report_run(out, content, f"Report: {run / 'report.html'}", first=[about])
    _open(run / "report.html", open)


def _open(page: Path, wanted: bool) -> None:
    if wanted:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


@command(app, estimators=[estimator.Settings for estimator in ESTIMATORS.values()])
def score(
    out: Output,
    dataset: Annotated[str, Argument(help="A file, folder, glob or Hub id; - reads JSONL from stdin.")],
    by: Annotated[
        list[str],
        Option(
            help=f"An estimator: {ESTIMATOR}, or your own as module:Name. Repeatable.",
            autocompletion=starting([found.usage for found in ESTIMATORS.values()]),
        ),
    ],
    output: Annotated[Path, _out("The Parquet file to write; - writes JSONL to standard output.")],
    estimators: Mapping[str, Any],
    reading: ReadSettings,
    *,
    own: Annotated[
        list[str] | None, Option("--set", help="NAME=VALUE, a setting of an estimator of your own. Repeatable.")
    ] = None,
    shard: Annotated[
        str | None, Option(help="Score part I of N only, 1/8 to 8/8; -o may be a folder. Then: curate merge.")
    ] = None,
    engine: EngineSettings,
    max_missing: MaxMissing = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Score how well known each example is.

    Every input column is kept; added are curate_id, score_NAME (higher is better known, null if it could not be
    measured) and the evidence. A stopped run goes on where it was when the same command is typed again.

    Example: curate score popQA.tsv --by column:s_pop -o scored.parquet
    """
    part = Shard.of(shard)
    if part is not None and str(output) != "-" and (output.suffix != ".parquet" or output.is_dir()):
        output /= part.file_name
    options = {**estimators, **own_settings(by, own or ()), **reading.as_dict(), **engine.as_dict()}
    with out.place(output, "parquet") as place:
        if dry_run:
            content, lines = scoring.plan(dataset, by, place, part, options, force)
            shown = [line.replace(str(place), str(output)) for line in lines]
            out.result({**content, "output": str(output)}, *shown)
            return
        with out.progress() as progress:
            scored = scoring.run(dataset, by, place, part, options, progress, max_missing is None, force)
        report_scored(out, scored, score_summaries(read_scores(place)), str(output))
    note_missing(out, scored.unmeasured, output, max_missing)


@command(app)
def merge(
    out: Output,
    shards: Annotated[list[str], Argument(help="The folder, glob or files of the shards.")],
    output: ParquetFile,
    max_missing: MaxMissing = None,
    force: Force = False,
) -> None:
    """Put the shards of `curate score --shard` together.

    Checks that every shard is there exactly once and that all were made of the same data in the same way. The file
    is the one that a run without shards would have written, byte for byte.

    Example: curate merge shards/ -o scored.parquet
    """
    merged = merge_files(shards, output, allow_unmeasured=max_missing is not None, force=force)
    content = {
        "output": str(output),
        "shards": merged.shards,
        "rows": merged.rows,
        "unmeasured": merged.unmeasured,
        **counted(merged.manifest),
    }
    out.result(content, f"{merged.rows} rows of {merged.shards} shards", *why_failed(merged.manifest), str(output))
    if merged.earlier:
        out.note(ALREADY)
    note_missing(out, merged.unmeasured, output, max_missing)


@command(app)
def select(
    out: Output,
    scored: Annotated[str, Argument(help="A file that curate score made, or a folder or glob of them.")],
    output: Annotated[
        Path, _out("A .parquet, .jsonl or .csv file for one split, a folder for several; - is standard output.")
    ],
    settings: SelectSettings,
    writing: WriteSettings,
    push_to_hub: Annotated[
        str | None,
        Option(
            help="Upload the folder as the dataset OWNER/NAME; a new one is private.",
            rich_help_panel=WriteSettings.panel,
        ),
    ] = None,
    public: Annotated[
        bool, Option("--public", help="Let a new dataset on the Hub be public.", rich_help_panel=WriteSettings.panel)
    ] = False,
    *,
    reading: ReadSettings,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Write the top, bottom, random or whole split of a scored file, or a part chosen by score, group or budget.

    Sizes are exact: round-half-up(share x rows with a score), the same for top, bottom and random; equal scores
    are ordered by a seeded hash of their id. Rows keep their source order unless --order says otherwise.

    Example: curate select scored.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole -o splits/

    Example: curate select popQA.tsv --by column:s_pop --where relation=country,sport,occupation
    --controlled-by relation -o popqa-controlled/
    """
    if public and push_to_hub is None:
        raise SettingError("--public without --push-to-hub does nothing.", try_next="--push-to-hub OWNER/NAME --public")
    if push_to_hub is not None:
        check_push(push_to_hub, output)
    if str(output) == "-" and writing.to == "parquet":
        raise SettingError("A Parquet file is no text.", expected="--to jsonl or csv, or a file to write to")
    places: dict[str, str] = {"output": str(output)}
    with out.place(output, writing.to or "jsonl") as place:
        if dry_run:
            selecting.check_output(scored, place, writing)
            chosen = selecting.select(scored, **settings.given(), **reading.given())
            chosen.writing = writing
            chosen.earlier = chosen.is_written(place, force)
        else:
            options = {**settings.given(), **writing.given(), **reading.given(), "output": place, "force": force}
            with out.progress() as progress:
                chosen = selecting.select(scored, **options, progress=progress)
            places |= {"hub": push_folder(output, push_to_hub, not public)} if push_to_hub else {}
    summary, explanation = chosen.summary(), chosen.explanation
    lines = [f"would write {place}" if dry_run else place for place in places.values()]
    content = {"dry_run": dry_run, **places, **summary, "notes": chosen.notes(as_option), "explanation": explanation}
    out.result(content, *selection_tables(chosen.told(as_option), summary, explanation), *lines)
    how = f"; {ALREADY}" if chosen.earlier else "; nothing written" if dry_run else ""
    out.note(selection_remark(summary) + how)
    note_clashes(out, summary)


@command(app)
def validate(
    out: Output,
    splits: Annotated[list[str], Argument(help="A folder of splits, or the files of the arms.")],
    model: Annotated[str, Option(help="Folder, .gguf file or Hub id of the pretrained base model.")],
    output: Annotated[Path, _out("The folder to write the run to.")],
    eval: Annotated[
        str | None,
        Option(help="The test set: any QA dataset, best with a score; else the split holdout, or test, of the folder."),
    ] = None,
    *,
    settings: ValidateSettings,
    engine: ValidateEngineSettings,
    reading: ReadSettings,
    force: Force = False,
    dry_run: DryRun = False,
    open: Open = False,
) -> None:
    """Finetune the model on every split and measure which one makes it more factual.

    First the untouched model answers every test question. Then it is finetuned (LoRA) on each split, once for every
    seed, and answers them again.
    Leaves summary.json, predictions, curves, figures, adapters and report.html; a stopped run goes on by arm and seed.

    Example: curate validate splits/ --model meta-llama/Llama-2-7b-hf -o run/

    Example: curate validate splits/ --eval test.parquet --model meta-llama/Llama-2-7b-hf -o run/
    """
    from curate.validation.runner import check_run_folder
    from curate.validation.validate import made_before, plan
    from curate.validation.validate import validate as run

    out.quiet |= not is_first()
    if dry_run:
        if not is_first():
            return
        check_run_folder(output)
        earlier = made_before(splits, eval, model, output, settings, reading, force)
        found = plan(splits, eval, settings, reading, model)
        last = f"{output} is {ALREADY}" if earlier else f"would write {output}"
        out.result({"dry_run": True, **found}, *validation_plan_tables(found), last)
        for warning in found["warnings"]:
            out.warn(warning)
        return
    if summary := made_before(splits, eval, model, output, settings, reading, force):
        if is_first():
            report_run(out, {"output": str(output), **summary}, str(output / "report.html"))
            out.note(ALREADY)
            _open(output / "report.html", open)
        return
    options = {**settings.given(), **engine.given(), **reading.given(), "force": force}
    result = run(splits, eval=eval, model=model, output=output, progress=out.note, **options)
    leave()
    if not is_first():
        return
    report_run(out, {"output": str(output), **result.summary()}, str(output / "report.html"))
    _open(output / "report.html", open)


@command(app)
def search(
    out: Output,
    data: Annotated[str, Argument(help="The examples to choose from: any QA dataset, scored or not.")],
    model: Annotated[str, Option(help="Folder, .gguf file or Hub id of the pretrained base model.")],
    output: Annotated[Path, _out("The folder to write the search to.")],
    eval: Annotated[str | None, Option(help="What is asked: any QA dataset; else --questions of the data.")] = None,
    *,
    settings: SearchSettings,
    engine: ValidateEngineSettings,
    reading: ReadSettings,
    force: Force = False,
    dry_run: DryRun = False,
    open: Open = False,
) -> None:
    """Find out which examples this model should be trained on: which subset, how large, and is it better than all.

    Subsets (rules x scores x sizes, or your own) are trained a little; those clearly behind the best are dropped, the
    others trained on. The best is then compared with a random part of its size and with all of the data, by other seeds
    and on other questions. Leaves recommended.parquet, recipe.yaml, report.html and one sentence; a stopped search goes
    on when the same command is typed again. --dry-run measures for a minute and says how long it would take.

    Example: curate search popQA.tsv --model meta-llama/Llama-2-7b-hf -o search/

    Example: curate search scored.parquet --model google/gemma-3-270m --budget 2h -o search/
    """
    from curate.searching.search import Search, last_standings

    options = {**settings.given(), **engine.given(), **reading.given()}
    asked = Search.of(data, eval, model, output, out.note, options)
    if dry_run:
        found = asked.described()
        out.result(
            {"dry_run": True, "output": str(output), **found}, *search_plan_tables(found), f"would write {output}"
        )
        return
    earlier = asked.earlier(force)
    summary = (earlier or asked.run()).summary
    content = {"output": str(output), **summary}
    out.result(content, *search_tables(summary, last_standings(summary)), str(output / "report.html"))
    if earlier:
        out.note(ALREADY)
    _open(output / "report.html", open)


@command(app)
def export_task(
    out: Output,
    run: Annotated[Path, Argument(help="The folder that curate validate wrote.")],
    output: Annotated[Path, _out("The folder to write the task to.")],
    name: Annotated[str | None, Option(help="What the task is called; else as the run's folder.")] = None,
    force: Force = False,
) -> None:
    """Write the test questions of a run as a task of lm-evaluation-harness, for other models.

    The same words, the same rules: NAME.yaml, its data and the functions that mark the answers.

    Example: curate export-task run/ -o task/
    """
    from curate.validation.evaluate import export_task as write

    found = write(run, output, name, force)
    out.result(found, f"{found['questions']} questions, the task {found['task']}", str(output))


@command(app)
def show(
    out: Output,
    files: Annotated[
        list[str], Argument(help="A scored file, a split, a folder of splits, a run, a simulation, or any QA dataset.")
    ],
    *,
    compare: Annotated[
        bool, Option("--compare", help="Two files or more, side by side: what they share, how they differ.")
    ] = False,
    html: Annotated[
        Path | None, Option("--html", help="Of several runs: a page with them side by side, to be written there.")
    ] = None,
    agreement: Annotated[
        bool,
        Option("--agreement", help="How the scores of a file agree, and which of them tells what the model knows."),
    ] = False,
    force: Force = False,
    reading: ReadSettings,
    open: Open = False,
) -> None:
    """Show what is in a file: counts, quantiles, a histogram, examples as the model sees them.

    Example: curate show scored.parquet

    Example: curate show --compare top.parquet bottom.parquet

    Example: curate show run-views/ run-loss/ --html runs.html

    Example: curate show --agreement scored.parquet
    """
    runs = compare_runs(files) if len(files) > 1 and not compare else None
    if html is not None and runs is None:
        raise DataError("--html is for several runs.", expected="the folders of two finished validations or more")
    if runs is not None:
        if html is not None:
            check_writable(html, frozenset({".html"}))
            if html.exists() and not force:
                raise OutputError(f"There is a file {html}.", expected="a new one", try_next="--force")
            write_text(runs_page(runs), html)
        out.result(runs, *runs_tables(runs), *([str(html)] if html else []))
        if html is not None:
            _open(html, open)
        return
    if len(files) > 1 and not compare:
        raise DataError(
            f"{len(files)} files were named.",
            expected="one file, or --compare",
            try_next=f"curate show --compare {' '.join(files)}",
        )
    if compare and agreement:
        raise DataError("--compare is about several files, --agreement about one.", expected="one of the two")
    if agreement:
        found = describe_agreement(files[0], **reading.given())
    else:
        found = compare_files(files, **reading.given()) if compare else describe(files[0], **reading.given())
    out.result(found, *shown_tables(found))
    for warning in found.get("warnings", ()) if agreement else ():
        out.warn(warning)
    _open(Path(files[0]) / "report.html", open and found["kind"] in ("run", "simulation"))


@command(app)
def run(
    out: Output,
    recipe: Annotated[
        str | None,
        Argument(
            help="A bundled recipe by name (see --list), or a YAML file of yours.", autocompletion=starting(names())
        ),
    ] = None,
    output: Annotated[Path | None, _out("The folder to work in.")] = None,
    *,
    given: RunSettings,
    set_: Annotated[
        list[str] | None, Option("--set", help="Any setting by its dotted name: selection.top=0.3.")
    ] = None,
    list_: Annotated[bool, Option("--list", help="Print the bundled recipes.")] = False,
    show: Annotated[bool, Option("--show", help="Print the recipe's YAML, to start one of your own from.")] = False,
    dry_run: DryRun = False,
    open: Open = False,
) -> None:
    """Score, select and validate from one YAML file; the paper's experiments come with curate.

    Leaves recipe.yaml (every setting as it was used), scored.parquet, splits/, run/ and summary.json. What is there
    already and made from the same is not made again, so a stopped command goes on when it is typed again.

    Example: curate run popqa --model meta-llama/Llama-2-7b-hf -o out/

    Example: curate run popqa-controlled --data popQA.tsv --limit 40 --seeds 1 --set validation.tune=off -o try/
    """
    options = {**given.given(), "settings": set_ or ()}
    if list_ or recipe is None:
        found = descriptions()
        table = make_table(None, ["recipe", "what it is"], [*found.items()])
        out.result({"recipes": found}, table, "curate run NAME -o out/")
    elif show:
        print(clean(recipe_text(recipe)[0]), end="")
    elif output is None:
        recipe_text(recipe)  # a name that is wrong is told before one that is missing
        raise SettingError(
            "There is no folder to work in.", expected="-o FOLDER", try_next=f"curate run {recipe} -o out/"
        )
    elif dry_run:
        from curate.recipes.run import plan

        steps = plan(recipe, output, **options)
        content = {"dry_run": True, "output": str(output), **steps}
        out.result(content, *recipe_plan_lines(steps), f"would write {output}")
    else:
        from curate.recipes.run import run as run_recipe

        summary = run_recipe(recipe, output, **options, progress=out.note, meter=out.progress).summary
        files = [[what, output / path] for what, path in summary["files"].items()]
        report_run(out, {"output": str(output), **summary}, make_table(None, ["what", "where"], files))
        _open(output / "run" / "report.html", open)


@command(app, settings=[ExperimentOptions])
def simulate(
    out: Output,
    experiment: Annotated[
        str, Argument(help="facts, zipf, steps, map or one-layer.", autocompletion=starting(EXPERIMENTS))
    ],
    output: Annotated[Path, _out("The folder to write to.")],
    *,
    seeds: Annotated[int, Option(min=1, help="Runs of everything, with seeds 0, 1, 2, …")] = 5,
    full: Annotated[bool, Option("--full", help="A larger world; for one-layer, more lengths of pretraining.")] = False,
    settings: Mapping[str, Any],
    processes: Annotated[
        int | None, Option(min=1, help="Runs made at once, a core each; by default as many as there are cores.")
    ] = None,
    force: Force = False,
    dry_run: DryRun = False,
    open: Open = False,
) -> None:
    """Rerun the paper's experiments on made-up facts, from nothing, in minutes.

    facts: a small transformer memorises facts about subjects of different popularity and is finetuned on questions
    about the popular ones, the unpopular ones, a random part, or all. zipf and steps ask how the difference moves
    with the skew of popularity and with pretraining; map asks what else it depends on. one-layer checks the paper's
    theorems on random worlds and watches the attention of its one-layer transformer. A stopped run goes on where it
    was.

    Example: curate simulate facts -o facts/
    """
    from curate.simulation.simulate import plan
    from curate.simulation.simulate import simulate as run

    if dry_run:
        content = plan(experiment, seeds, full, **settings)
        rows = [[name, as_typed(value)] for name, value in content["settings"].items()]
        table = make_table(None, ["setting", "value"], rows)
        out.result({"dry_run": True, **content}, table, f"{content['runs']} runs; would write {output}")
        return
    with out.progress("runs") as progress:
        how = {"seeds": seeds, "full": full, "processes": processes, "force": force, **settings}
        summary = run(experiment, output, **how, progress=progress).summary
    out.result({"output": str(output), **summary}, *simulation_tables(summary), str(output / "report.html"))
    _open(output / "report.html", open)


@command(views)
def fetch(
    out: Output,
    month: Annotated[list[str], Option(help="The month to load, such as 2021-10. May be given several times.")],
    output: Annotated[Path, _out("The folder to load into.")],
    settings: FetchSettings,
) -> None:
    """Load the monthly page-view dumps of all wikis (several GB a month). A stopped download goes on where it was.

    Example: curate views fetch --month 2021-10 -o dumps/ --contact you@example.org
    """
    with out.progress("bytes") as progress:
        done = fetch_months(month, output, settings, progress)
    files = [{"file": str(f.path), "bytes": f.size, "loaded": f.loaded, "checksum": f.checksum} for f in done]
    out.result({"files": files}, *(str(f.path) for f in done))
    for item in done:
        checked = f"{item.checksum} as published" if item.checksum else "no checksum to compare with"
        out.note(f"{item.path.name}: {item.size:,} bytes, {item.loaded:,} of them loaded now; {checked}")


@command(views)
def build(
    out: Output,
    dumps: Annotated[list[Path], Argument(help="Dumps: monthly pageview_complete or hourly pageviews files.")],
    output: ParquetFile,
    settings: BuildSettings,
    titles: Annotated[
        Path | None, Option(help="Keep these articles only: a file with a title a line, or Parquet with title.")
    ] = None,
) -> None:
    """Sum dumps into a table (title, views), sorted by title, for curate score --views-from.

    Example: curate views build dumps/*.bz2 -o views.parquet
    """
    check_writable(output, frozenset({".parquet"}))
    wanted = settings.changed(titles=read_titles(titles)) if titles else settings
    with out.progress("bytes") as progress:
        made = build_table(dumps, output, wanted, progress)
    rows = [[dump["name"], f"{dump['lines']:,}", f"{dump['malformed']:,}"] for dump in made["dumps"]]
    out.result({"output": str(output), **made}, make_table(None, ["dump", "lines", "malformed"], rows), str(output))
    months = f", sums over {len(made['months'])} months" if len(made["months"]) > 1 else ""
    out.note(f"{made['rows']:,} titles of {made['project']}{months}")


app.add_typer(views)
