"""From what the user types after `--by` to an estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from curate.errors import EstimatorError
from curate.estimators.base import Estimator
from curate.estimators.column import ColumnEstimator
from curate.estimators.loss import ANSWERS, REDUCTIONS, LossEstimator
from curate.prompts import DEFAULT, Shots, Template, find_template
from curate.wikipedia.options import PageviewSettings


@dataclass(frozen=True)
class EstimatorOptions:
    """What the user said about estimators; each takes what it needs."""

    model: Any = None
    reduction: str = "token-mean"
    dtype: str = "float32"
    device: str = "auto"
    processes: int | None = None
    revision: str | None = None
    token_budget: int | None = None
    template: str = DEFAULT.name
    answers: str = "first"
    shots: int = 0
    shots_from: Any = None
    allow_pickle: bool = False
    pageviews: PageviewSettings = field(default_factory=PageviewSettings)
    input_columns: tuple[str, ...] = ()


def build(spec: str, options: EstimatorOptions) -> Estimator:
    """The estimator a spec names: `pageviews`, `loss`, or `column:NAME`. EstimatorError for anything else."""
    kind, argument = check_spec(spec)
    return ESTIMATORS[kind](argument, options)


def check_spec(spec: str) -> tuple[str, str]:
    """The estimator and its argument in what was typed after `--by`; EstimatorError if there is none such."""
    kind, _, argument = spec.partition(":")
    if kind not in ESTIMATORS or (kind == "column") != bool(argument):
        raise EstimatorError(
            f"There is no estimator {spec!r}.",
            expected=f"--by with one of: {', '.join(USAGE.values())}",
            try_next="--by column:NAME takes a column of numbers; --by loss --model MODEL asks the model; "
            "--by pageviews --contact YOU asks Wikipedia",
        )
    return kind, argument


def _column(argument: str, options: EstimatorOptions) -> Estimator:
    return ColumnEstimator(argument)


def check_loss(options: EstimatorOptions) -> None:
    """EstimatorError unless the options say what `loss` needs; what it needs is not looked at yet."""
    if options.model is None:
        raise EstimatorError(
            "--by loss needs a model.",
            expected="--model with a local folder or a Hub id of a pretrained base model",
            try_next="--by loss --model meta-llama/Llama-2-7b-hf",
        )
    for name, value, known in (
        ("reduction", options.reduction, REDUCTIONS),
        ("way to take answers", options.answers, ANSWERS),
    ):
        if value not in known:
            raise EstimatorError(f"There is no {name} {value!r}.", expected=f"one of {', '.join(known)}")


def _loss(argument: str, options: EstimatorOptions) -> Estimator:
    check_loss(options)
    template = find_template(options.template)
    shots = read_shots(template, options)
    from curate.lm.model import load_model
    from curate.lm.processes import choose_devices, start_helpers

    own, *others = choose_devices(options.device, options.processes)
    weights = {
        "model": options.model,
        "dtype": options.dtype,
        "revision": options.revision,
        "allow_pickle": options.allow_pickle,
    }
    model = load_model(device=own, **weights)
    helpers = start_helpers(others, **weights)
    return LossEstimator(model, options.reduction, template, options.answers, shots, options.token_budget, helpers)


def read_shots(template: Template, options: EstimatorOptions) -> Shots:
    """The solved examples that `shots` and `shots_from` ask for."""
    if options.shots < 0 or (options.shots > 0) != (options.shots_from is not None):
        raise EstimatorError(
            f"--shots is {options.shots} and --shots-from is {options.shots_from or 'not given'}.",
            expected="both, or neither: how many solved examples, and the dataset to take them from",
            try_next="--shots 5 --shots-from dev.csv",
        )
    if options.shots == 0:
        return Shots(template)
    from curate.data.table import read

    return Shots(template, read(options.shots_from).examples(), options.shots)


def _pageviews(argument: str, options: EstimatorOptions) -> Estimator:
    from curate.estimators.pageviews import PageViewsEstimator, ViewsColumnEstimator
    from curate.wikipedia.views import make_finder, open_source

    kind, _, column = options.pageviews.views_from.partition(":")
    if kind == "column" and column:
        return ViewsColumnEstimator(column)
    finder = make_finder(options.pageviews, options.input_columns)
    return PageViewsEstimator(open_source(options.pageviews), finder)


ESTIMATORS: dict[str, Callable[[str, EstimatorOptions], Estimator]] = {
    "column": _column,
    "loss": _loss,
    "pageviews": _pageviews,
}
USAGE = {"column": "column:NAME", "loss": "loss", "pageviews": "pageviews"}
