"""Where on a cluster something that needs a model runs, and what it must be told differently there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.errors import SettingError


def resources_of(device: str, cpus: int, there: Mapping[str, float]) -> tuple[str, dict[str, float]]:
    """The device of a worker, and what of a node it takes, given the resources of the cluster."""
    if device not in ("auto", "cpu", "cuda"):
        raise SettingError(
            f"With --engine ray a worker has one device, and --device is {device}.",
            expected="--device auto, cuda or cpu",
            try_next="--workers, for how many",
        )
    on_gpus = device == "cuda" or (device == "auto" and there.get("GPU", 0) > 0)
    return ("cuda" if on_gpus else "cpu"), {"num_cpus": float(cpus)} | ({"num_gpus": 1.0} if on_gpus else {})


def room_for(resources: Mapping[str, float], there: Mapping[str, float]) -> int:
    """How many such workers the cluster has room for; at least one, which may have to wait for a node."""
    unit = "GPU" if "num_gpus" in resources else "CPU"
    return max(1, int(there.get(unit, 0) // resources[f"num_{unit.lower()}s"]))


def absolute(data: Any) -> Any:
    """A path that means the same in any folder, which a worker may run in; anything else as it is."""
    return str(Path(data).resolve()) if isinstance(data, (str, Path)) and Path(data).exists() else data
