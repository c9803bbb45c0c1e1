"""The experiments of Section 3: `facts`, and its sweeps over the skew of popularity and over pretraining steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from curate.simulation.experiment import Shown, Tables
from curate.simulation.synthetic_settings import SyntheticSettings


@dataclass(frozen=True)
class Synthetic:
    """An experiment on synthetic facts; what its defaults hold more than one of is what it sweeps."""

    name: str
    title: str
    default: SyntheticSettings
    paper_sized: SyntheticSettings

    def settings(self, full: bool) -> SyntheticSettings:
        """The default settings; with `full` those of the paper-sized sweep."""
        return self.paper_sized if full else self.default

    def points(self, settings: SyntheticSettings) -> list[SyntheticSettings]:
        """One world and one pretraining for every alpha; the steps are checkpoints of the same pretraining."""
        return [replace(settings, alpha=(alpha,)) for alpha in settings.alpha]

    def run(self, point: SyntheticSettings, seed: int) -> Tables:
        """Pretrain, and at every checkpoint finetune and test all arms."""
        from curate.simulation.variants import Variant, run_variants

        return run_variants([Variant(point, {})], seed)

    def summarise(self, tables: Tables) -> dict[str, Any]:
        """Accuracy by arm, gaps with intervals over seeds, memorisation, and trends of the gap."""
        from curate.simulation.synthetic_summary import summarise

        return {"experiment": self.name, **summarise(tables)}

    def shown(self, summary: Mapping[str, Any]) -> list[Shown]:
        """The summary as tables for a person."""
        from curate.simulation.synthetic_summary import shown

        return shown(summary)

    def figures(self, tables: Tables) -> dict[str, bytes]:
        """Accuracy by popularity, and the gap against what was swept."""
        from curate.report.simulation_figures import synthetic_figures

        return synthetic_figures(tables)


_DEFAULT = SyntheticSettings()
_FULL = replace(
    _DEFAULT,
    subjects=1000,
    relations=40,
    answers=20,
    width=128,
    steps=(4000,),
    finetuning_subjects=500,
    validation_subjects=100,
    share=0.04,
)

FACTS = Synthetic("facts", "Does finetuning on popular facts make a model more factual?", _DEFAULT, _FULL)
ZIPF = Synthetic(
    "zipf",
    "Does the gap grow with the skew of popularity?",
    replace(_DEFAULT, alpha=(0.0, 0.5, 0.75, 1.0, 1.25)),
    replace(_FULL, alpha=(0.0, 0.25, 0.5, 0.75, 1.0, 1.25)),
)
STEPS = Synthetic(
    "steps",
    "Does more pretraining close the gap?",
    replace(_DEFAULT, steps=(400, 800, 1600)),
    replace(_FULL, steps=(2000, 4000, 8000, 16000)),
)
