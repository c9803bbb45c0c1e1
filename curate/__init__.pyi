"""The names of the package for editors, made by docs/tables/stub.py: change the functions, then run it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import curate.recipes.run
import curate.scoring
import curate.searching.search
import curate.selection.select
import curate.settings
import curate.simulation.simulate
import curate.validation.validate
from curate.data.table import QATable as QATable
from curate.errors import CurateError as CurateError
from curate.estimators.base import Estimator as Estimator
from curate.recipes.run import RecipeRun as RecipeRun
from curate.records import Example as Example
from curate.records import Score as Score
from curate.searching.search import SearchRun as SearchRun
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
    force: bool = False,
) -> Path:
    """Put the shards of a scored dataset together; the Python twin of `curate merge`. Returns `output`.

    `shards` is a folder, a glob, a file, or several of them. Unlike `curate.score` this always writes a file, a batch
    at a time: who needs shards may have more rows than go into memory. `curate.read` reads it. The file is the one
    that a run without shards would have written, byte for byte. Raises DataError unless every shard is there exactly
    once and all were made of the same data in the same way, EstimatorError when no row at all has a score, unless
    `allow_unmeasured`, and OutputError for an `output` that is there and is not what comes out, unless `force`.
    """

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
    """Read a QA dataset: a path, a URL, a Hub id, a `datasets.Dataset`, a data frame, an Arrow table, a list of dicts.

    Known layouts are recognised from columns and values; `preset` forces one and the column arguments override it:
    each is a column, or a dotted path into one (`answer.aliases`). `split` names a split of a Hub dataset. A file that
    curate wrote remembers its columns; what was read already is returned as it is. Parquet files, on this machine or in
    some storage, are left where they are until rows are asked for. Raises DataError when nothing can be read, when no
    row has an answer, and for a folder of several splits, and ColumnError when no question or answers column is found.

    Examples:
        >>> table = read([{"question": "Who wrote Emma?", "answer": "Jane Austen"}])
        >>> table.examples()[0].answers
        ('Jane Austen',)
    """

def run(
    recipe: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    progress: curate.recipes.run.Say | None = None,
    meter: curate.recipes.run.Meter | None = None,
    model: str | Path | None = None,
    data: str | Path | None = None,
    by: str | None = None,
    limit: int | None = None,
    seeds: int | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
) -> RecipeRun:
    """Run a recipe; the Python twin of `curate run`.

    `recipe` is a bundled one by name, a YAML file, or its content as a mapping. `model`, `data`, `by`, `limit` and
    `seeds` replace what it says; so does anything in `settings` (`{"selection.top": 0.3}`, or `["selection.top=0.3"]`).
    Writes `recipe.yaml` (every setting as it was used), the data, scores, splits, the run and `summary.json` to the
    folder `output`; what is there already and made from the same is kept.
    """

def score(
    data: Any,
    by: curate.scoring.By | Sequence[curate.scoring.By],
    *,
    output: str | Path | None = None,
    shard: str | tuple[int, int] | None = None,
    force: bool = False,
    progress: curate.scoring.Progress | None = None,
    preset: str | None = None,
    split: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    subject_column: str | None = None,
    relation_column: str | None = None,
    choices_column: str | None = None,
    id_column: str | None = None,
    engine: str | None = None,
    ray_address: str | None = None,
    workers: str | int | None = None,
    cpus: int = 1,
    model: Any = None,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    processes: int | None = None,
    token_budget: int | None = None,
    allow_pickle: bool = False,
    template: str | None = None,
    system: str | None = None,
    known_sets: int = 10,
    known_shots: int = 4,
    known_mode: str = "exact",
    known_samples: int = 16,
    answers_by: str = "transformers",
    reduction: str = "token-mean",
    answers: str = "first",
    shots: int | None = None,
    shots_from: Any = None,
    project: str | None = None,
    contact: str | None = None,
    mediawiki_url: str | None = None,
    wikidata_url: str | None = None,
    title_column: str | None = None,
    qid_column: str | None = None,
    subject_template: str | tuple[str, ...] = (),
    rate: float | None = None,
    refresh: bool = False,
    offline: bool = False,
    views_from: str = "api",
    window: str = "12m",
    access: str | None = None,
    agent: str | None = None,
    pageviews_url: str | None = None,
) -> Any:
    """Give every example a score per estimator; the Python twin of `curate score`.

    `data` is a path, a Hub id, a `datasets.Dataset`, a pandas or polars DataFrame, a pyarrow Table, a list of dicts
    or a `ray.data.Dataset`; `by` is one estimator or several: `"pageviews"`, `"loss"`, `"column:NAME"`, or your own, as
    an `Estimator`, a function of examples or `"module:Name"` (docs/own-estimator.md). Returns the same kind of thing
    with `curate_id`, `score_<name>` and evidence columns added (a path gives a pyarrow Table); with `output`, writes
    Parquet and a manifest there and returns its path; a file that the same call made stays as it is, any other is an
    OutputError unless `force`. `shard=(3, 8)` scores the third of eight parts; `curate.merge` puts the files of all of
    them together. `engine="ray"`, the default for a `ray.data.Dataset`, has the model on every worker of a cluster
    (docs/scaling.md). The other options are those of the command line by the same words (`model="gpt2"`,
    `views_from="api"`, `answer_column="a"`).
    `progress` is called with estimator, rows done and rows in all. `model` is a folder, a Hub id, or one in memory with
    its tokenizer: `(model, tokenizer)`, or a pipeline. Of a DatasetDict every split is scored by itself.

    Raises EstimatorError for an estimator that is unknown or lacks something (`loss` needs `model`), and DataError or
    ColumnError for data that cannot be read. A row that cannot be scored is no error: its score is null, its status
    says why.

    Examples:
        >>> rows = [{"question": "Who wrote Emma?", "answer": "Jane Austen", "views": 90}]
        >>> score(rows, by="column:views")[0]["score_views"]
        90.0
    """

def search(
    data: Any,
    *,
    eval: Any = None,
    model: str | Path,
    output: str | Path,
    force: bool = False,
    progress: curate.searching.search.Notify | None = None,
    by: str | list[str] | tuple[str, ...] | None = None,
    candidates: str | Path | None = None,
    sizes: tuple[float, ...] = (0.125, 0.25, 0.5),
    rungs: int = 3,
    seeds: int = 2,
    confirm_seeds: int = 3,
    questions: float = 0.3,
    budget: str | None = None,
    budget_tokens: int | None = None,
    shots: int | None = None,
    learning_rate: float = 0.0001,
    weight_decay: float = 0.0001,
    lora_rank: int = 16,
    lora_alpha: int = 32,
    epochs: float = 5,
    max_steps: int | None = None,
    batch_size: int = 16,
    held_out: float = 0.1,
    patience: int = 3,
    regularize: str = "none",
    distill_weight: float = 1.0,
    distill_temperature: float = 2.0,
    order: str = "shuffled",
    cuda_graphs: bool = False,
    method: str = "lora",
    template: str | None = None,
    system: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    metric: str = "contains",
    max_new_tokens: int | None = None,
    seed: int = 0,
    engine: str | None = None,
    ray_address: str | None = None,
    workers: str | int | None = None,
    cpus: int = 1,
    preset: str | None = None,
    split: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    subject_column: str | None = None,
    relation_column: str | None = None,
    choices_column: str | None = None,
    id_column: str | None = None,
) -> SearchRun:
    """Find out by measuring which examples this model should be trained on; the Python twin of `curate search`.

    Subsets of `data` (rules × scores × sizes, or those of the file `candidates`) are trained a little and asked a few
    questions; those whose paired interval against the best one lies below zero are dropped, the others trained on and
    asked more. The best one is then compared with a random part of its size and with all of the data by other seeds and
    on questions that were not asked before: the gain is the one found there. All candidates may see equally many
    examples: `max_steps`, else what five epochs of all of the data take. What is asked is taken out of `data` by whole
    subjects, or is `eval`; no subject and no answer is in both parts of it.
    Writes the folder `output`: `recommended.parquet`, `recipe.yaml` that makes and validates it again, `report.html`,
    `summary.json`; a stopped search goes on. `engine="ray"` trains on a cluster.
    Raises DataError for too little data, RecipeError for candidates that cannot be, SettingError for a budget that fits
    nothing, OutputError for a folder that holds something else, unless `force`.
    """

def select(
    scored: Any,
    *,
    output: str | Path | None = None,
    force: bool = False,
    progress: curate.selection.select.Progress | None = None,
    format: str = "original",
    to: str | None = None,
    template: str | None = None,
    system: str | None = None,
    keep_id: bool = False,
    trainer: str | None = None,
    top: str | float | None = None,
    bottom: str | float | None = None,
    random: str | float | None = None,
    whole: bool = False,
    band: str | list[str] | tuple[str, ...] | None = None,
    known: str | list[str] | tuple[str, ...] | None = None,
    mix: str | list[str] | tuple[str, ...] | Mapping[str, float] | None = None,
    size: int | None = None,
    sizes: tuple[int, ...] | None = None,
    budget_tokens: int | None = None,
    tokenizer: Any = None,
    by: str | list[str] | tuple[str, ...] | None = None,
    where: str | list[str] | tuple[str, ...] | Mapping[str, Any] | None = None,
    dedup: curate.settings.Dedup | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    stratify_by: str | list[str] | tuple[str, ...] | None = None,
    controlled_by: str | None = None,
    min_known: str | None = None,
    holdout: str | float | None = None,
    holdout_by: str = "subject",
    order: curate.settings.Order = "source",
    missing: curate.settings.Missing = "exclude",
    seed: int = 0,
    preset: str | None = None,
    split: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    subject_column: str | None = None,
    relation_column: str | None = None,
    choices_column: str | None = None,
    id_column: str | None = None,
) -> Selection:
    """Choose rows of a scored table by popularity; the Python twin of `curate select`.

    `top`, `bottom` and `random` take a share of the pool (0.3 or "30%") or a count (500), `band` a stretch of the
    order ("30:70"), `known` the rows of some classes ("highly,maybe"), `mix` a draw of so many of each, `budget_tokens`
    the best known examples that fit; they can be asked for together, and `sizes` adds smaller ones within each. The
    pool is the rows that have a score and meet `where`, `min_score` and `max_score`. `by` names the score, or several
    to rank by the mean of their percentile ranks. The exact rules are in docs/selecting.md; the columns of a file that
    does not remember them are named as for `read`. With `output`, writes one
    file (one split), or a folder of them that `datasets.load_dataset` reads: Parquet, or as `to` or the ending says
    (`parquet`, `jsonl`, `csv`), the rows as they are or in the shape of a trainer (`format`: `prompt-completion`,
    `messages`, `sharegpt`, `alpaca`), asked with `template` if it is given: `chat` makes `prompt-completion` a chat,
    and `system` is what its system says. `keep_id` keeps the ids beside them, and `trainer` (`llama-factory`,
    `axolotl`) adds to a folder what that trainer wants to know. These splits stay as they are if they are there
    already; others there are an OutputError unless `force`.

    Raises SelectionError for what cannot be selected from this pool: no score or several without `by`, a share that is
    no row, a count above the pool.

    Examples:
        >>> rows = [{"question": q, "answer": "x", "score_views": v} for q, v in [("a", 1.0), ("b", 3.0)]]
        >>> [row["question"] for row in select(rows, top=0.5).kept]
        ['b']
    """

def simulate(
    experiment: str,
    output: str | Path,
    *,
    seeds: int | Sequence[int] = 5,
    full: bool = False,
    processes: int | None = None,
    force: bool = False,
    progress: curate.simulation.simulate.Progress | None = None,
    **settings: Any,
) -> Simulation:
    """Run one of the paper's experiments; the Python twin of `curate simulate`.

    `experiment` is `facts`, `zipf`, `steps`, `map` or `one-layer`; `settings` replace its defaults (`relations=20`),
    with `full` those of a larger world. Runs are made by as many `processes` as there are cores, unless told
    otherwise. Writes the folder `output`; the same call resumes a stopped one. Raises SettingError for an experiment
    or setting there is none of, OutputError for a folder that is somebody else's, or, unless `force`, holds another
    simulation; seeds may be added to one.
    """

def validate(
    splits: Any,
    *,
    eval: Any = None,
    model: Any,
    output: str | Path,
    config: FinetuneConfig | None = None,
    force: bool = False,
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
    regularize: str = "none",
    distill_weight: float = 1.0,
    distill_temperature: float = 2.0,
    order: str = "shuffled",
    cuda_graphs: bool = False,
    method: str = "lora",
    arm: tuple[str, ...] = (),
    tune: str = "off",
    template: str | None = None,
    system: str | None = None,
    limit: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    token_budget: int | None = None,
    revision: str | None = None,
    metric: str = "contains",
    max_new_tokens: int | None = None,
    answers_by: str = "transformers",
    base_shots: int = 0,
    knowledge: bool | None = None,
    arm_shots: int = 0,
    lm_eval: tuple[str, ...] = (),
    along: int = 0,
    report_to: str = "none",
    engine: str | None = None,
    ray_address: str | None = None,
    workers: str | int | None = None,
    cpus: int = 1,
    preset: str | None = None,
    split: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    subject_column: str | None = None,
    relation_column: str | None = None,
    choices_column: str | None = None,
    id_column: str | None = None,
) -> Validation:
    """Measure on a model whether a split makes it more factual; the Python twin of `curate validate`.

    `splits` is a folder of splits, files, a mapping of name to data (a DatasetDict), or a Selection; `eval` is any QA
    dataset, by default the `holdout` (or `test`) among them; `model` a folder, a Hub id, or one in memory with its
    tokenizer: `(model, tokenizer)`, or a pipeline;
    popularity for the curves is its score `by` (needed only when there are several). Each arm is finetuned and
    tested once a seed, with the settings of `config`, any of which may be given by itself (`learning_rate=1e-3`).
    `limit` takes a seeded sample of that many examples of each arm and of the test set. With `tune` (`quick`, `paper`)
    each arm gets the setting that does best on its own held-out part. A test set with choices is asked by letter
    (template `mmlu`).
    An answer is right by `metric`: `contains` (an accepted answer, as whole words), `exact`, `f1`, `paper` (contained,
    also inside a word) or `"module:function"`, which gives a number from 0 to 1.
    `knowledge` measures what became of the facts that the untouched model has after solved examples (by default where
    that adds less than a fifth to the work); with `arm_shots` the finetuned models are asked after so many of them too.
    `report_to` is a logger that Trainer knows. With `base_shots` the untouched model is also asked after so many solved
    examples from the training sets; `lm_eval` names tasks of lm-evaluation-harness, or their YAML files, that it and
    every arm are asked besides. `along` test questions are asked after every epoch of a training too.
    `engine="ray"` makes every arm and seed a task of a Ray cluster (docs/scaling.md). Writes the run folder `output`;
    the same call resumes a stopped one, and one with more arms, seeds or tasks adds them; a finished run of anything
    else there is an OutputError unless `force`.
    Raises DataError for splits or a test set that cannot be read, ModelError for a model that cannot be loaded,
    SettingError for a setting out of range, OutputError for a folder that is somebody else's.
    """
