"""`curate validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import curate.cli.engines as engines
from curate.cli.console import DryRun, Json, Output, Preset, Quiet, Split, command, make_table


@command
def validate(
    splits: Annotated[list[str], typer.Argument(help="A folder of splits, or the files of the arms.")],
    eval: Annotated[str, typer.Option("--eval", help="The test set: any QA dataset, best with a score.")],
    model: Annotated[str, typer.Option(help="Folder or Hub id of the pretrained base model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write the run to.")],
    seeds: Annotated[int, typer.Option(min=1, help="Finetunings per arm, with seeds 0, 1, 2, …")] = 3,
    by: Annotated[
        str | None,
        typer.Option(help="Popularity of the test set: one of its scores, or any column of numbers."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 1e-4,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 1e-4,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank of the adapters, on all linear layers.")] = 16,
    lora_alpha: Annotated[int, typer.Option(min=1, help="Scale of the adapters.")] = 32,
    epochs: Annotated[float, typer.Option(help="Passes over an arm, at most.")] = 5,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of --epochs.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 16,
    held_out: Annotated[
        float, typer.Option(help="Share of an arm that does not train but decides when to stop; 0: train to the end.")
    ] = 0.1,
    patience: Annotated[int, typer.Option(min=1, help="Stop after this many epochs without a better one.")] = 3,
    method: Annotated[str, typer.Option(help="lora, full (all weights) or qlora (4-bit weights).")] = "lora",
    tune: Annotated[
        str, typer.Option(help="off, quick (3 learning rates) or paper (Table 4), per arm on its own held-out part.")
    ] = "off",
    template: Annotated[
        str | None, typer.Option(help="qa, plain, mmlu, or a Jinja file. mmlu if there are choices, else qa.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=2, help="Try out: a sample of so many examples of each arm and of the test set."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="auto (bfloat16 on a GPU, else float32), float32, bfloat16 or float16.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")] = None,
    base_shots: Annotated[
        int, typer.Option(min=0, help="Ask the untouched model also after so many solved training examples.")
    ] = 0,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option(help="A task of lm-evaluation-harness, or its YAML file, for every arm. Repeatable."),
    ] = None,
    along: Annotated[
        int, typer.Option(min=0, help="Ask so many test questions after every epoch too: accuracy along training.")
    ] = 0,
    report_to: Annotated[str, typer.Option(help="none, tensorboard, wandb or trackio.")] = "none",
    engine: engines.ValidateEngine = "local",
    ray_address: engines.RayAddress = None,
    workers: engines.Workers = None,
    cpus: engines.Cpus = 1,
    preset: Preset = None,
    split: Split = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Finetune the model on every split and measure which one makes it more factual.

    The untouched model comes first; then every arm is finetuned (LoRA) and asked every test question, once a seed.
    Leaves summary.json, predictions, curves, figures, adapters and report.html; a stopped run goes on by arm and seed.

    Example: curate validate splits/ --eval test.parquet --model meta-llama/Llama-2-7b-hf -o run/
    """
    from curate.data.table import read
    from curate.settings import FinetuneConfig
    from curate.validation.runner import check_run_folder
    from curate.validation.trainer import is_first, leave
    from curate.validation.validate import plan
    from curate.validation.validate import validate as run

    out = Output(json, quiet or not is_first())
    test_set = read(eval, preset=preset, split=split)
    config = FinetuneConfig(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        held_out=held_out,
        patience=patience,
        method=method,
    )
    if dry_run:
        if is_first():
            check_run_folder(output)
            _show(out, plan(splits, test_set, by, config, seeds, limit, tune, template, base_shots), output)
        return
    result = run(
        splits,
        eval=test_set,
        model=model,
        output=output,
        seeds=seeds,
        by=by,
        config=config,
        tune=tune,
        template=template,
        limit=limit,
        dtype=dtype,
        device=device,
        revision=revision,
        report_to=report_to,
        engine=engine,
        ray_address=ray_address,
        workers=workers,
        cpus=cpus,
        base_shots=base_shots,
        lm_eval=lm_eval or (),
        along=along,
        progress=out.note,
    )
    leave()
    if not is_first():
        return
    summary = result.summary()
    out.result({"output": str(output), **summary}, *summary_tables(summary), str(output / "report.html"))
    for warning in result.warnings():
        out.note(f"Warning: {warning}")


def _show(out: Output, plan: dict[str, Any], output: Path) -> None:
    rows = [[arm["arm"], arm["examples"], arm["steps"]] for arm in plan["arms"]]
    out.result(
        {"dry_run": True, **plan},
        make_table(None, ["arm", "examples", "steps at most"], rows),
        f"{plan['trials']} trials, {plan['finetunings']} finetunings, {plan['answers']} answers",
        f"would write {output}",
    )


def summary_tables(summary: dict[str, Any]) -> list[Any]:
    """The tables of a run for a person: accuracies, differences, other tasks, verdict."""
    from curate.report.page import task_table

    arms = [
        [
            a["arm"],
            a["n_train"],
            f"{100 * a['accuracy']:.1f}",
            _percent(a["stderr"]),
            _percent(a["exact_match"]),
            _percent(a["f1"]),
            a["seeds"],
        ]
        for a in summary["arms"]
    ]
    differences = [
        [
            f"{d['a']} − {d['b']}",
            f"{100 * d['difference']:+.1f}",
            f"{100 * d['low']:+.1f} to {100 * d['high']:+.1f}",
            f"{d['p']:.4f}",
        ]
        for d in summary["differences"]
    ]
    n_eval = summary["arms"][0]["n_eval"]
    names = [row["arm"] for row in summary["arms"]]
    tasks = [
        [row["task"], row["metric"], *("" if value is None else f"{value[0]:.4f}" for value in row["values"])]
        for row in task_table(summary["lm_eval"], names)
    ]
    headers = ["arm", "trained on", "accuracy %", "± s.e.", "exact match %", "F1 %", "seeds"]
    return [
        make_table(f"Accuracy on {n_eval} test questions", headers, arms),
        make_table("Differences, in points", ["arms", "difference", "95% interval", "p"], differences),
        *([make_table("Tasks of lm-eval", ["task", "metric", *names], tasks)] if tasks else []),
        summary["verdict"],
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"
