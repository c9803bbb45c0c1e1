"""curate: choose the QA examples worth finetuning on.

    scored = curate.score("popQA.tsv", by="column:s_pop", output="scored.parquet")
    splits = curate.select(scored, top=0.5, bottom=0.5, random=0.5, whole=True, output="splits/")
    result = curate.validate("splits/", eval="test.parquet", model="meta-llama/Llama-2-7b-hf", output="run/")

Importing this package loads nothing heavy; torch, transformers, datasets and pandas come in when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from curate.data.table import QATable, read
    from curate.errors import CurateError
    from curate.recipes.run import RecipeRun, run
    from curate.records import Example, Score
    from curate.scoring import score
    from curate.selection.select import Selection, select
    from curate.settings import FinetuneConfig
    from curate.shards import merge
    from curate.simulation.simulate import Simulation, simulate
    from curate.validation.results import Validation
    from curate.validation.validate import validate

_HOMES = {
    "CurateError": "curate.errors",
    "Example": "curate.records",
    "QATable": "curate.data.table",
    "RecipeRun": "curate.recipes.run",
    "Score": "curate.records",
    "Selection": "curate.selection.select",
    "Simulation": "curate.simulation.simulate",
    "FinetuneConfig": "curate.settings",
    "merge": "curate.shards",
    "Validation": "curate.validation.results",
    "read": "curate.data.table",
    "run": "curate.recipes.run",
    "score": "curate.scoring",
    "select": "curate.selection.select",
    "simulate": "curate.simulation.simulate",
    "validate": "curate.validation.validate",
}

__all__ = [
    "CurateError",
    "Example",
    "FinetuneConfig",
    "QATable",
    "RecipeRun",
    "Score",
    "Selection",
    "Simulation",
    "Validation",
    "__version__",
    "merge",
    "read",
    "run",
    "score",
    "select",
    "simulate",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
