"""The steps of a recipe in its folder: what each is made from, and what it does."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from curate import __version__
from curate.chunks import Progress
from curate.recipes.catalogue import local_path
from curate.recipes.commands import changed, command_line
from curate.recipes.preparing import prepare
from curate.recipes.recipe import Recipe
from curate.recipes.sources import Origin, origins
from curate.recipes.steps import Say, Step, content_of

SCORED_PER_ARM = 10
"""With a limit, so many times as many examples are scored, so that a small part of them can still be an arm."""

MAY_BE_FILES = ("model", "template", "shots_from", "views_from", "lm_eval")
"""Settings that may name a file or folder."""

Meter = Callable[[], AbstractContextManager[Progress | None]]
"""Opens a display of how far scoring is."""


def no_meter() -> AbstractContextManager[None]:
    """Shows nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Work:
    """A recipe in its folder."""

    recipe: Recipe
    folder: Path
    say: Say = lambda line: None
    meter: Meter = no_meter

    def steps(self) -> Iterator[Step]:
        """All steps, in order."""
        for part, origin in origins(self.recipe).items():
            yield self._preparing(part, origin)
        yield self._scoring("score", self.recipe.estimators.by, self.data("train"), self.scored)
        if self.test_estimator is not None:
            yield self._scoring("score test", (self.test_estimator,), self.data("test"), self.test_set)
        yield self._selecting()
        yield self._validating()

    @property
    def scored(self) -> Path:
        """The scored examples that splits are cut from."""
        return self.folder / "scored.parquet"

    @property
    def splits(self) -> Path:
        """The folder of splits."""
        return self.folder / "splits"

    @property
    def run(self) -> Path:
        """The folder of the validation."""
        return self.folder / "run"

    @property
    def test_set(self) -> Path:
        """What every arm is tested on."""
        if not self.recipe.has_test_set:
            return self.splits / f"{self.recipe.test_split}.parquet"
        return self.data("test") if self.test_estimator is None else self.folder / "test.parquet"

    @property
    def test_estimator(self) -> str | None:
        """The estimator that tells the popularity of a test set of its own; None if a column of it does."""
        by = self.recipe.validation.by
        return by if self.recipe.has_test_set and by in self.recipe.estimators.by else None

    def data(self, part: str) -> Path:
        """The prepared rows of `train`, `test` or `shots`."""
        return self.folder / "data" / f"{part}.parquet"

    def _preparing(self, part: str, origin: Origin) -> Step:
        dataset, limit = self.recipe.dataset, self.recipe.limit
        rows = {"train": limit and SCORED_PER_ARM * limit, "test": limit, "shots": None}[part]
        where = {} if part == "shots" else dataset.where
        return Step(
            name=f"data {part}",
            output=self.data(part),
            made_from=lambda: {
                "origin": origin.fingerprint(),
                "columns": dataset.columns(),
                "where": dict(where),
                "rows": rows,
            },
            work=lambda: self.say(f"{prepare(origin, dataset.columns(), where, rows, self.data(part))} examples"),
        )

    def _scoring(self, name: str, by: tuple[str, ...], data: Path, output: Path) -> Step:
        options = self._score_options(by)

        def work() -> None:
            from curate.lm.load import load_tokenizer
            from curate.scoring import score

            load_tokenizer(self.model, self.recipe.model.revision)  # a wrong name is told before hours of scoring
            with self.meter() as progress:
                score(data, by, output=output, progress=progress, **options)
            gc.collect()  # the model that scored makes room for the one that is finetuned

        return Step(
            name=name,
            output=output,
            made_from=lambda: {
                "data": content_of(data),
                "by": by,
                "options": _contents(options),
            },
            work=work,
            command=command_line("score", data, options={"by": by} | options | {"output": output}),
        )

    def _score_options(self, by: tuple[str, ...]) -> dict[str, Any]:
        """The arguments of `curate.score` that matter to these estimators and are not at their defaults."""
        estimators, model = self.recipe.estimators, self.recipe.model
        options: dict[str, Any] = {}
        if "loss" in by:
            options |= {"model": self.model} | changed(model, "name")
            options |= changed(estimators, "by", "pageviews", "shots_from", "shots_split")
            options |= {"template": self.recipe.dataset.template} if self.recipe.dataset.template else {}
            options |= {"shots_from": str(self.data("shots"))} if estimators.shots else {}
        if "pageviews" in by:
            options |= changed(estimators.pageviews)
        return options

    def _selecting(self) -> Step:
        options = self.recipe.selection.options()

        def work() -> None:
            from curate.selecting import select

            select(self.scored, output=self.splits, **options)

        return Step(
            name="select",
            output=self.splits,
            made_from=lambda: {"scored": content_of(self.scored), "options": options},
            work=work,
            command=command_line(
                "select", self.scored, options=changed(self.recipe.selection) | {"output": self.splits}
            ),
        )

    def _validating(self) -> Step:
        recipe = self.recipe
        options = asdict(recipe.validation) | {"template": recipe.dataset.template, "limit": recipe.limit}
        options |= {"device": recipe.model.device, "revision": recipe.model.revision}
        shown = changed(recipe.validation) | {"seeds": recipe.validation.seeds, "limit": recipe.limit}
        shown |= changed(recipe.model, "name") | {"template": recipe.dataset.template}
        shown |= changed(recipe.finetuning) | {"output": self.run}

        def work() -> None:
            from curate.validation.validate import validate

            validate(
                self.splits,
                eval=self.test_set,
                model=self.model,
                output=self.run,
                config=recipe.finetuning,
                progress=self.say,
                **options,
            )

        return Step(
            name="validate",
            output=self.run,
            made_from=lambda: {
                "splits": content_of(self.splits),
                "test": content_of(self.test_set),
                "model": self.model_content,
                "finetuning": asdict(recipe.finetuning),
                "options": _contents(options),
            },
            work=work,
            command=command_line("validate", self.splits, options={"eval": self.test_set, "model": self.model} | shown),
        )

    @property
    def model(self) -> str:
        """The model's folder or Hub id."""
        return local_path(self.recipe.model.name)

    @cached_property
    def model_content(self) -> str:
        """What changes whenever the model's folder does; a Hub model by its name."""
        return str(_content(self.model))

    def summary(self) -> dict[str, Any]:
        """The outcome in short, out of the finished run."""
        found = json.loads((self.run / "summary.json").read_text(encoding="utf-8"))
        return {
            "description": self.recipe.description,
            "verdict": found["verdict"],
            "arms": found["arms"],
            "differences": found["differences"],
            "lm_eval": found["lm_eval"],
            "warnings": found["warnings"],
            "model": found["config"]["model"],
            "curate": __version__,
            "files": {
                "recipe": "recipe.yaml",
                "scores": self.scored.name,
                "splits": f"{self.splits.name}/",
                "test": str(self.test_set.relative_to(self.folder)),
                "run": f"{self.run.name}/",
                "report": f"{self.run.name}/report.html",
            },
        }


def _contents(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they matter; a folder that happens to be called like the value of another one is none of them."""
    return {name: _content(value) if name in MAY_BE_FILES else value for name, value in options.items()}


def _content(value: Any) -> Any:
    """A setting as it matters: of a file or folder what it holds, not where it lies."""
    if isinstance(value, str) and value and Path(value).exists():
        return content_of(Path(value))
    return [_content(item) for item in value] if isinstance(value, (list, tuple)) else value
