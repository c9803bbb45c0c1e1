"""The experiments by name, each made when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from curate.errors import SettingError
from curate.simulation.experiment import Experiment

EXPERIMENTS = {
    "facts": "curate.simulation.synthetic:FACTS",
    "zipf": "curate.simulation.synthetic:ZIPF",
    "steps": "curate.simulation.synthetic:STEPS",
    "map": "curate.simulation.map:MAP",
    "one-layer": "curate.simulation.one_layer.experiment:ONE_LAYER",
}


def find_experiment(name: str) -> Experiment[Any]:
    """The experiment of that name; SettingError if there is none."""
    if name not in EXPERIMENTS:
        raise SettingError(
            f"There is no experiment {name!r}.",
            expected=", ".join(EXPERIMENTS),
            try_next="curate simulate facts -o facts/",
        )
    module, variable = EXPERIMENTS[name].split(":")
    found: Experiment[Any] = getattr(import_module(module), variable)
    return found
