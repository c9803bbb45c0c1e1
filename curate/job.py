"""What `score` is asked for, checked and opened before a model is loaded; the same for the command and in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from curate.datasets.ray_data import is_ray_dataset
from curate.datasets.read import COLUMN_ARGUMENTS
from curate.datasets.rows import ScoredRows, open_rows
from curate.datasets.write import check_not_input, check_writable
from curate.engines.on_ray import estimators_of
from curate.engines.settings import EngineOptions
from curate.estimators.base import Estimator
from curate.estimators.registry import EstimatorOptions, check_spec
from curate.prompts import default_template
from curate.sharding import Shard
from curate.wikipedia.options import PageviewOptions

READING = frozenset({"preset", "split", *COLUMN_ARGUMENTS.values()})
"""The settings that say how the data is read."""


@dataclass(frozen=True)
class ScoringJob:
    """A dataset that is open, the estimators that were named, and where they work."""

    rows: ScoredRows
    specs: Sequence[str]
    options: EstimatorOptions
    engine: EngineOptions
    shard: Shard | None

    def estimators(self) -> AbstractContextManager[list[Estimator]]:
        """The estimators, their models loaded; workers end with the `with`."""
        return estimators_of(self.specs, self.options, self.engine)


def prepare(
    data: Any, by: str | Sequence[str], output: Path | None, shard: Shard | None, settings: Mapping[str, Any]
) -> ScoringJob:
    """The job that the arguments of `curate.score` (or the options of `curate score`) ask for.

    Of `settings` those are taken that say how to read, estimate and run; None is the default. Raises what
    `curate.score` raises.
    """
    specs = [by] if isinstance(by, str) else list(by or ())
    for spec in specs:
        check_spec(spec)
    engine = _made_of(EngineOptions, settings, engine=settings.get("engine") or _engine_for(data))
    if output is not None:
        check_not_input(data, output)
        check_writable(output, frozenset({".parquet"}))
    rows = open_rows(data, **{name: settings[name] for name in READING & settings.keys()})
    options = _made_of(
        EstimatorOptions,
        settings,
        template=settings.get("template") or default_template(rows.roles),
        pageviews=_made_of(PageviewOptions, _hashable(settings)),
        input_columns=tuple(rows.schema.names),
    )
    return ScoringJob(rows, specs, options, engine, shard)


def _engine_for(data: Any) -> str:
    return "ray" if is_ray_dataset(data) else "local"


def _made_of(kind: type[Any], settings: Mapping[str, Any], **decided: Any) -> Any:
    """A dataclass of options whose fields are those settings that have its names."""
    given = {f.name: settings[f.name] for f in fields(kind) if settings.get(f.name) is not None}
    return kind(**{**given, **decided})


def _hashable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with lists as tuples; not for data, which may be a list of rows."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
