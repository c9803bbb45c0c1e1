"""The names of the package for editors, made by docs/tables/stub.py: change the functions, then run it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import curate.recipes.run
import curate.scoring
import curate.selection.select
import curate.simulation.simulate
import curate.validation.validate
from curate.data.table import QATable as QATable
from curate.errors import CurateError as CurateError
from curate.recipes.run import RecipeRun as RecipeRun
from curate.records import Example as Example
from curate.records import Score as Score
from curate.selection.select import Selection as Selection
from curate.settings import FinetuneConfig as FinetuneConfig
from curate.simulation.simulate import Simulation as Simulation
from curate.validation.results import Validation as Validation

__version__: str

def merge(
    shards: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    allow_unmeasured: bool = False,
) -> Path:
    """Put the shards of a scored dataset together; the Python twin of `curate merge`. Returns `output`."""

def read(
    data: Any,
    *,
    preset: str | None = None,
    split: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    subject_column: str | None = None,
    relation_column: str | None = None,
    choices_column: str | None = None,
    id_column: str | None = None,
) -> QATable:
    """Read a QA dataset: a path, a URL, a Hub id, a `datasets.Dataset`, a data frame, an Arrow table, a list of
    dicts."""

def run(
    recipe: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    model: str | Path | None = None,
    data: str | Path | None = None,
    by: str | None = None,
    limit: int | None = None,
    seeds: int | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    progress: curate.recipes.run.Say | None = None,
    meter: curate.recipes.run.Meter | None = None,
) -> RecipeRun:
    """Run a recipe; the Python twin of `curate run`."""

def score(
    data: Any,
    by: str | Sequence[str],
    *,
    model: Any = None,
    reduction: str = "token-mean",
    dtype: str = "float32",
    device: str = "auto",
    processes: int | None = None,
    revision: str | None = None,
    template: str | None = None,
    answers: str = "first",
    shots: int = 0,
    shots_from: Any = None,
    allow_pickle: bool = False,
    shard: str | tuple[int, int] | None = None,
    engine: str | None = None,
    ray_address: str | None = None,
    workers: str | int | None = None,
    cpus: int = 1,
    output: str | Path | None = None,
    progress: curate.scoring.Progress | None = None,
    **settings: Any,
) -> Any:
    """Give every example a score per estimator; the Python twin of `curate score`."""

def select(
    scored: Any,
    *,
    top: str | float | None = None,
    bottom: str | float | None = None,
    random: str | float | None = None,
    band: str | None = None,
    budget_tokens: int | None = None,
    tokenizer: Any = None,
    whole: bool = False,
    by: str | list[str] | None = None,
    missing: curate.selection.select.Missing = "exclude",
    where: str | list[str] | Mapping[str, Any] | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    stratify_by: str | None = None,
    controlled_by: str | None = None,
    holdout: str | float | None = None,
    holdout_by: str = "subject",
    order: curate.selection.select.Order = "source",
    seed: int = 0,
    output: str | Path | None = None,
    format: str = "original",
    to: str | None = None,
    progress: curate.selection.select.Progress | None = None,
) -> Selection:
    """Choose rows of a scored table by popularity; the Python twin of `curate select`."""

def simulate(
    experiment: str,
    output: str | Path,
    *,
    seeds: int | Sequence[int] = 5,
    full: bool = False,
    processes: int | None = None,
    progress: curate.simulation.simulate.Progress | None = None,
    **settings: Any,
) -> Simulation:
    """Run one of the paper's experiments; the Python twin of `curate simulate`."""

def validate(
    splits: Any,
    *,
    eval: Any,
    model: str | Path,
    output: str | Path,
    config: FinetuneConfig | None = None,
    progress: curate.validation.validate.Notify | None = None,
    seeds: int | Sequence[int] = 3,
    by: str | None = None,
    learning_rate: float = 0.0001,
    weight_decay: float = 0.0001,
    lora_rank: int = 16,
    lora_alpha: int = 32,
    epochs: float = 5,
    max_steps: int | None = None,
    batch_size: int = 16,
    held_out: float = 0.1,
    patience: int = 3,
    method: str = "lora",
    tune: str = "off",
    template: str | None = None,
    limit: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    base_shots: int = 0,
    lm_eval: tuple[str, ...] = (),
    along: int = 0,
    report_to: str = "none",
    engine: str | None = None,
    ray_address: str | None = None,
    workers: str | int | None = None,
    cpus: int = 1,
) -> Validation:
    """Measure on a model whether a split makes it more factual; the Python twin of `curate validate`."""
