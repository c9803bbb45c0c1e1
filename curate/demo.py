"""The whole story on the bundled world: score, select, validate, each step as the ordinary command does it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from curate.agreement import overlap, rank_correlation
from curate.datasets.ids import ID_COLUMN
from curate.datasets.write import check_writable, whole_folder
from curate.errors import EstimatorError, OutputError
from curate.scoring import score
from curate.selecting import Selection, score_values, select
from curate.validation.config import FinetuneConfig
from curate.validation.outcome import Validation
from curate.validation.running import Progress
from curate.validation.validate import validate

ESTIMATORS = ("views", "loss")
"""What the arms can be selected by: subject frequency in pretraining, or the pretrained model's loss."""

CONFIG = FinetuneConfig(learning_rate=1e-3, batch_size=32, max_steps=260)
ALONG = 300
"""Test questions asked after every epoch."""


@dataclass(frozen=True)
class Agreement:
    """How far the loss agrees with the views: rank correlation, and the share of FT-Top they have in common."""

    rank_correlation: float
    top_overlap: float


@dataclass(frozen=True)
class Demo:
    """What the demo found."""

    agreement: Agreement
    selection: Selection
    validation: Validation


def run_demo(
    folder: Path,
    by: str = "views",
    seeds: int = 5,
    config: FinetuneConfig = CONFIG,
    show_command: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda line: None,
) -> Demo:
    """Score, select and validate the bundled world in `folder`; `show_command` gets the command of each step."""
    if by not in ESTIMATORS:
        raise EstimatorError(f"The demo cannot select by {by!r}.", expected=f"one of {', '.join(ESTIMATORS)}")
    check_writable(folder / "world")
    unpack_world(folder / "world")
    scored, splits, run = folder / "scored.parquet", folder / f"splits-by-{by}", folder / f"run-by-{by}"
    model = folder / "world" / "model"

    show_command(f"curate score {folder}/world/train.parquet --by column:views --by loss --model {model} -o {scored}")
    score(folder / "world" / "train.parquet", ["column:views", "loss"], model=model, output=scored)

    show_command(f"curate select {scored} --by {by} --top 0.5 --bottom 0.5 --random 0.5 --whole -o {splits}")
    chosen = select(scored, by=by, top=0.5, bottom=0.5, random=0.5, whole=True, output=splits)

    show_command(
        f"curate validate {splits} --eval {folder}/world/test.parquet --by views --model {model} --seeds {seeds} "
        f"--learning-rate {config.learning_rate} --max-steps {config.max_steps} "
        f"--batch-size {config.batch_size} --along {ALONG} -o {run}"
    )
    result = validate(
        splits,
        eval=folder / "world" / "test.parquet",
        by="views",
        model=model,
        output=run,
        seeds=seeds,
        config=config,
        along=ALONG,
        progress=progress,
    )
    return Demo(agreement_of(scored), chosen, result)


def unpack_world(folder: Path) -> None:
    """Copy the bundled model, questions and README to a folder, where ordinary commands can use them."""
    with (
        as_file(files("curate") / "world") as bundled,
        whole_folder(folder, replace=_is_world(folder)) as target,
    ):
        shutil.copytree(bundled, target, dirs_exist_ok=True)


def _is_world(folder: Path) -> bool:
    if folder.exists() and not (folder / "world.json").is_file():
        raise OutputError(
            f"{folder} exists and is not the bundled world.",
            expected="a new folder",
            try_next="another name for -o",
        )
    return True


def agreement_of(scored: Any) -> Agreement:
    """Views against loss on a file that has both scores."""
    tops = [select(scored, by=by, top=0.5)["top"][ID_COLUMN].to_pylist() for by in ESTIMATORS]
    table = select(scored, by="views", whole=True)["whole"]
    views, loss = (score_values(table, f"score_{by}") for by in ESTIMATORS)
    return Agreement(rank_correlation(views, loss), overlap(*tops))
