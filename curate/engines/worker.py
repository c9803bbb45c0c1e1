"""What runs on a worker: one estimator with its model, which scores a chunk whenever it is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curate.estimators.registry import EstimatorOptions, build
from curate.isolating import scores_apart
from curate.records import Example, Score


@dataclass(frozen=True)
class Description:
    """What there is to know about an estimator without having it."""

    name: str
    columns: Sequence[str]
    evidence: Mapping[str, str]
    fingerprint: Mapping[str, Any]


class Worker:
    """An estimator in a process of its own."""

    def __init__(self, spec: str, options: EstimatorOptions, cpus: int) -> None:
        """Quick, so that whatever is wrong with the estimator is an error of `load`, which can be told."""
        self.spec = spec
        self.options = replace(options, processes=1)
        self.cpus = cpus

    def load(self) -> Description:
        """Build the estimator, and load its model."""
        import torch

        torch.set_num_threads(self.cpus)
        self.estimator = build(self.spec, self.options)
        e = self.estimator
        return Description(e.name, tuple(e.columns), dict(e.evidence), e.fingerprint())

    def score(self, examples: Sequence[Example], allowed: int) -> list[Score]:
        """One score an example; rows that fail even alone have the status `failed`, `allowed` of them at most."""
        return scores_apart(self._scores, examples, allowed)

    def _scores(self, examples: Sequence[Example]) -> Iterator[Score]:
        try:
            yield from self.estimator.score(examples)
        except RuntimeError as error:
            if "CUDA error" in str(error):
                os._exit(1)  # no kernel runs in this process any more; another one finds the rows at fault
            raise
