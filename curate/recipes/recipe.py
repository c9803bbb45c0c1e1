"""What a recipe says: a section for each step, whose keys are the options of that step's command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, replace
from typing import Any

from curate.errors import RecipeError, SelectionError, SettingError
from curate.estimators.reductions import ANSWERS, REDUCTIONS
from curate.estimators.registry import check_spec
from curate.rules.request import parse_request
from curate.selection import parse_band, parse_size
from curate.validation.config import FinetuneConfig
from curate.validation.tune import TUNINGS
from curate.wikipedia.options import PageviewOptions


def _key(about: str, default: Any = MISSING, flag: str | None = None) -> Any:
    """A key that is no option of a command, and what it means; one without a default has to be given (or `flag`)."""
    return field(default=default, metadata={"about": about, "flag": flag})


@dataclass(frozen=True)
class ModelSettings:
    """The pretrained model that is finetuned, and that scores by loss."""

    name: str = _key("Folder or Hub id of the pretrained base model.", flag="--model MODEL")
    revision: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class DatasetSettings:
    """What is scored and selected from, and what every arm is tested on."""

    train: str = _key("What is scored and selected from: anything that curate score reads.", flag="--data DATASET")
    train_split: str | None = _key("Which part of it: a split on the Hub, or files or a folder of that name.", None)
    test: str | None = _key("The test set; without it one is taken from the selection, or a split of train.", None)
    test_split: str | None = _key("Which part of test, or of train if there is no test.", None)
    where: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata={"about": "Only rows with these values, of a column or a role: {relation: [country, sport]}."},
    )
    preset: str | None = None
    question_column: str | None = None
    answer_column: str | None = None
    subject_column: str | None = None
    relation_column: str | None = None
    choices_column: str | None = None
    id_column: str | None = None
    template: str | None = _key("The prompt of loss, finetuning and test. mmlu if there are choices, else qa.", None)

    def columns(self) -> dict[str, Any]:
        """The arguments of `curate.read` that say what the columns are."""
        return {name: value for name, value in vars(self).items() if name == "preset" or name.endswith("_column")}


@dataclass(frozen=True)
class EstimatorSettings:
    """What makes the scores."""

    by: tuple[str, ...] = _key("The estimators: column:NAME, loss, pageviews.", flag="--by column:NAME")
    reduction: str = "token-mean"
    answers: str = "first"
    shots: int = 0
    shots_from: str | None = None
    shots_split: str | None = _key("Which part of shots_from, or of train without it, the solved examples are.", None)
    dtype: str = "float32"
    processes: int | None = None
    pageviews: PageviewOptions = field(default_factory=PageviewOptions)

    def __post_init__(self) -> None:
        for spec in self.by:
            check_spec(spec)
        _one_of("reduction", self.reduction, REDUCTIONS)
        _one_of("answers", self.answers, tuple(ANSWERS))


@dataclass(frozen=True)
class SelectionSettings:
    """Which splits are cut; each but the evaluation sets is an arm."""

    by: tuple[str, ...] = ()
    top: str | float | None = None
    bottom: str | float | None = None
    random: str | float | None = None
    whole: bool = False
    band: str | None = None
    stratify_by: str | None = None
    controlled_by: str | None = None
    holdout: str | float | None = None
    holdout_by: str = "subject"
    min_score: float | None = None
    max_score: float | None = None
    missing: str = "exclude"
    order: str = "source"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "bottom", "random", "holdout"):
            if getattr(self, name) is not None:
                parse_size(getattr(self, name), name)
        if self.band is not None:
            parse_band(self.band)

    def options(self) -> dict[str, Any]:
        """The arguments of `curate.select`."""
        return vars(self) | {"by": list(self.by) or None}


@dataclass(frozen=True)
class ValidationSettings:
    """How the arms are tuned, tested and compared."""

    seeds: int = 3
    tune: str = "off"
    by: str | None = None
    dtype: str = "auto"
    base_shots: int = 0
    lm_eval: tuple[str, ...] = ()
    along: int = 0
    report_to: str = "none"

    def __post_init__(self) -> None:
        _one_of("tune", self.tune, TUNINGS)
        if self.seeds < 1:
            raise SettingError(f"seeds is {self.seeds}.", expected="at least 1")


@dataclass(frozen=True)
class Recipe:
    """One experiment: from a dataset to a verdict."""

    dataset: DatasetSettings
    estimators: EstimatorSettings
    model: ModelSettings
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    finetuning: FinetuneConfig = field(default_factory=FinetuneConfig)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    description: str | None = _key("What the experiment is, in one line.", None)
    limit: int | None = _key(
        "Try out: a sample of so many examples of each arm and of the test set; ten times as many are scored.", None
    )
    curate: str | None = _key("The version that filled in the defaults; curate run writes it.", None)

    def as_dict(self) -> dict[str, Any]:
        """All settings, in the order in which a reader meets them."""
        content = asdict(self)
        first = ("description", "curate", "model", "limit", "dataset")
        return {name: content[name] for name in (*first, *(k for k in content if k not in first))}

    @property
    def has_test_set(self) -> bool:
        """Whether the test set is data of its own and no part of the selection."""
        return self.dataset.test is not None or self.dataset.test_split is not None

    @property
    def test_split(self) -> str:
        """The split of the selection that is the test set."""
        return "holdout" if self.selection.holdout is not None else "test"


def check(recipe: Recipe, said: Callable[[str], str]) -> None:
    """RecipeError for what cannot be meant although each of its keys could; `said` tells where a section stands."""
    estimators, selection = recipe.estimators, recipe.selection
    names = score_names(recipe)
    if not names:
        raise RecipeError(f"{said('estimators.by')}: estimators.by names no estimator.", "column:NAME, loss, pageviews")
    for name in selection.by:
        if name not in names:
            raise RecipeError(f"{said('selection.by')}: there will be no score {name!r}.", ", ".join(names))
    if len(names) > 1 and not selection.by:
        raise RecipeError(
            f"{said('selection')}: selection.by is missing, and there are several scores.",
            expected=f"one of {', '.join(names)}",
        )
    if recipe.limit is not None and recipe.limit < 2:
        raise RecipeError(f"{said('limit')}: limit is {recipe.limit}.", "at least 2: a part of every arm is held out")
    solved = estimators.shots_from or estimators.shots_split
    if (estimators.shots > 0) != bool(solved):
        raise RecipeError(
            f"{said('estimators')}: estimators.shots is {estimators.shots}, and they come from {solved or 'nowhere'}.",
            expected="shots with shots_split (a part of the dataset) or shots_from (another one), or none of them",
        )
    _check_test_set(recipe, said)
    try:
        parse_request(**selection.options())
    except SelectionError as error:
        raise RecipeError(f"{said('selection')}: {error.found}", error.expected, error.try_next) from error


def _check_test_set(recipe: Recipe, said: Callable[[str], str]) -> None:
    made = [name for name in ("holdout", "controlled_by") if getattr(recipe.selection, name) is not None]
    if not made and not recipe.has_test_set:
        raise RecipeError(
            f"{said('dataset')}: there is nothing to test on.",
            expected="dataset.test or dataset.test_split, or selection.holdout, or selection.controlled_by",
        )
    if len(made) == 2 and not recipe.has_test_set:
        raise RecipeError(
            f"{said('selection')}: selection makes two test sets.", expected="holdout or controlled_by, not both"
        )


def score_names(recipe: Recipe) -> list[str]:
    """What the scores will be called: `s_pop` for `column:s_pop`."""
    return [spec.partition(":")[2] or spec for spec in recipe.estimators.by]


def with_names(recipe: Recipe) -> Recipe:
    """The recipe with what it ranks by and tests by said in full, where it was left to be the only score."""
    by = recipe.selection.by or tuple(score_names(recipe))
    return replace(
        recipe,
        selection=replace(recipe.selection, by=by),
        validation=replace(recipe.validation, by=recipe.validation.by or by[0]),
    )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingError(f"{name} is {value!r}.", expected=f"one of {', '.join(known)}")
