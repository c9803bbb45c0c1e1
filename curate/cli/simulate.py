"""`curate simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from curate.cli.console import DryRun, Json, Output, Quiet, command, make_table
from curate.errors import SettingError


@command
def simulate(
    experiment: Annotated[str, typer.Argument(help="facts, zipf, steps, map or one-layer.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of everything, with seeds 0, 1, 2, …")] = 5,
    full: Annotated[
        bool, typer.Option("--full", help="A larger world; for one-layer, more lengths of pretraining.")
    ] = False,
    subjects: Annotated[int | None, typer.Option(help="Subjects of the made-up world.")] = None,
    relations: Annotated[int | None, typer.Option(help="Relations every subject has.")] = None,
    answers: Annotated[int | None, typer.Option(help="Possible answers of every relation.")] = None,
    alpha: Annotated[
        str | None, typer.Option(help="Zipf exponent of subject popularity; several to sweep: 0.5,1,1.5.")
    ] = None,
    answer_alpha: Annotated[float | None, typer.Option(help="Zipf exponent of a relation's answers.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the transformer.")] = None,
    layers: Annotated[int | None, typer.Option(help="Blocks of the transformer.")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads of a block.")] = None,
    steps: Annotated[str | None, typer.Option(help="Pretraining steps; several to sweep: 500,1000,2000.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences of a pretraining step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate of pretraining.")] = None,
    finetuning_subjects: Annotated[int | None, typer.Option(help="Subjects to finetune on, before halving.")] = None,
    validation_subjects: Annotated[int | None, typer.Option(help="Subjects to choose the step by.")] = None,
    share: Annotated[float | None, typer.Option(help="Share of them in top, bottom and random.")] = None,
    finetuning_steps: Annotated[int | None, typer.Option(help="Finetuning steps, at most.")] = None,
    finetuning_batch_size: Annotated[int | None, typer.Option(help="Questions of a finetuning step.")] = None,
    finetuning_learning_rate: Annotated[float | None, typer.Option(help="Learning rate of finetuning.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Runs made at once, a core each; by default as many as there are cores.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
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

    out = Output(json, quiet)
    settings = {
        "subjects": subjects,
        "relations": relations,
        "answers": answers,
        "alpha": _numbers(alpha, float, "--alpha"),
        "answer_alpha": answer_alpha,
        "width": width,
        "layers": layers,
        "heads": heads,
        "steps": _numbers(steps, int, "--steps"),
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "finetuning_subjects": finetuning_subjects,
        "validation_subjects": validation_subjects,
        "share": share,
        "finetuning_steps": finetuning_steps,
        "finetuning_batch_size": finetuning_batch_size,
        "finetuning_learning_rate": finetuning_learning_rate,
    }
    if dry_run:
        content = plan(experiment, seeds, full, **settings)
        table = make_table(None, ["setting", "value"], [[k, _text(v)] for k, v in content["settings"].items()])
        out.result({"dry_run": True, **content}, table, f"{content['runs']} runs; would write {output}")
        return
    with out.progress("runs") as progress:
        result = run(experiment, output, seeds=seeds, full=full, processes=processes, progress=progress, **settings)
    tables = simulation_tables(result.summary)
    out.result({"output": str(output), **result.summary}, *tables, str(output / "report.html"))


def simulation_tables(summary: dict[str, Any]) -> list[Any]:
    """The tables of a simulation for a person, and its verdict."""
    from curate.simulation.simulate import find_experiment

    shown = find_experiment(summary["experiment"]).shown(summary)
    return [*(make_table(t.title, t.headers, t.rows) for t in shown), summary["verdict"]]


def _text(value: float | tuple[float, ...]) -> str:
    """A setting as it is typed: `0.5,1,1.5`."""
    return ",".join(f"{number:g}" for number in (value if isinstance(value, tuple) else (value,)))


def _numbers(text: str | None, kind: type[int] | type[float], option: str) -> tuple[float, ...] | None:
    """Numbers from `0.5,1,1.5`."""
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise SettingError(
            f"{option} {text} is not a number, nor numbers with commas between them.", try_next=f"{option} 1,2"
        ) from None
