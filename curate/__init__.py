"""curate: choose the QA examples worth finetuning on.

    scored = curate.score("popQA.tsv", by="column:s_pop", output="scored.parquet")
    splits = curate.select(scored, top=0.5, bottom=0.5, random=0.5, whole=True, output="splits/")
    result = curate.validate("splits/", eval="test.parquet", model="meta-llama/Llama-2-7b-hf", output="run/")

Importing this package loads nothing heavy; torch, transformers, datasets and pandas come in when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "CurateError": "errors",
    "Estimator": "estimators.base",
    "Example": "records",
    "FinetuneConfig": "settings",
    "QATable": "data.table",
    "RecipeRun": "recipes.run",
    "Score": "records",
    "SearchRun": "searching.search",
    "Selection": "selection.select",
    "Simulation": "simulation.simulate",
    "Validation": "validation.results",
    "merge": "shards",
    "read": "data.table",
    "run": "recipes.run",
    "score": "scoring",
    "search": "searching.search",
    "select": "selection.select",
    "simulate": "simulation.simulate",
    "validate": "validation.validate",
}
"""The module of each name; `__init__.pyi`, which docs/tables/stub.py writes, says to editors what the names are."""

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    return getattr(import_module(f"curate.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
