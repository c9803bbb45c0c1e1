"""A connection to a Ray cluster, or one that is started on this machine for as long as it is needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curate.errors import EngineError


@contextmanager
def ray_session(address: str | None) -> Iterator[Any]:
    """Gives the module `ray`, connected: to what is connected already, to `address`, to a cluster on this machine."""
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"No Ray cluster can be reached at {address or 'this machine'}: {str(error).splitlines()[0]}",
            expected="the address of the head node, such as 10.0.0.1:6379, the same versions of Ray and Python, "
            "and the cluster's token if it asks for one",
            try_next="ray status, on the head node",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """The module `ray`; EngineError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise EngineError("The engine ray is not installed.", try_next="pip install 'curate[ray]'") from error
    return ray
