"""The experiment `one-layer`: the theorems of Section 4, and the dynamics of Appendix C.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from curate.simulation.experiment import Shown, Tables
from curate.simulation.one_layer.settings import OneLayerSettings

WORLDS = 20  # random worlds a seed for every theorem


@dataclass(frozen=True)
class OneLayerExperiment:
    """Follows the `Experiment` protocol."""

    name: str = "one-layer"
    title: str = "Why does finetuning on unpopular facts suppress facts that stay stored?"

    def settings(self, full: bool) -> OneLayerSettings:
        """The default settings; with `full` after pretraining of several lengths."""
        settings = OneLayerSettings()
        return replace(settings, steps=(250, 350, 500, 700, 1000, 2000)) if full else settings

    def points(self, settings: OneLayerSettings) -> list[OneLayerSettings]:
        """One world and one pretraining for every alpha; the steps are checkpoints of the same pretraining."""
        return [replace(settings, alpha=(alpha,)) for alpha in settings.alpha]

    def run(self, point: OneLayerSettings, seed: int) -> Tables:
        """Check the theorems; pretrain, and at every checkpoint finetune and watch all arms."""
        import numpy as np

        from curate.simulation.facts import make_arms, make_facts, partition
        from curate.simulation.one_layer.checks import THEOREMS
        from curate.simulation.one_layer.dynamics import (
            finetune,
            pretrain,
            salience_after_epoch,
            salience_by_count,
            stored,
        )
        from curate.simulation.variants import top_rows

        tables: Tables = {"results": [], "dynamics": [], "pretraining": [], "salience": [], "theorems": []}
        tables["theorems"] += [asdict(theorem.check(WORLDS, seed)) for theorem in THEOREMS]

        rng = np.random.default_rng(seed)
        (alpha,) = point.alpha
        facts = make_facts(point.subjects, point.relations, point.answers, alpha, point.answer_alpha, rng)
        parts = partition(point.subjects, point.finetuning_subjects, 0, rng)
        arms = make_arms(parts.finetuning, point.share, rng)
        tables["salience"] += [{"alpha": alpha, "steps": None, **row} for row in salience_after_epoch(facts, rng)]
        for steps, model, counts in pretrain(facts, point, rng):
            setting = {"alpha": alpha, "steps": steps}
            tables["pretraining"].append({**setting, **stored(model, facts, parts.evaluation)})
            tables["salience"] += [{**setting, **row} for row in salience_by_count(facts, model, counts)]
            watched, right = finetune(model, facts, arms, parts.evaluation, point)
            tables["dynamics"] += [{**setting, **row} for row in watched]
            for arm, answered in right.items():
                size = {"n_train": len(arms[arm]) * facts.relations}
                tables["results"] += [{"arm": arm, **setting, **size, **row} for row in top_rows(answered)]
        return tables

    def summarise(self, tables: Tables) -> dict[str, Any]:
        """Attention and accuracy of every arm before and after, what stayed stored, and the theorems."""
        from curate.simulation.one_layer.summary import summarise

        return {"experiment": self.name, **summarise(tables)}

    def shown(self, summary: Mapping[str, Any]) -> list[Shown]:
        """The theorems and the arms as tables for a person."""
        from curate.simulation.one_layer.summary import shown

        return shown(summary)

    def figures(self, tables: Tables) -> dict[str, bytes]:
        """Attention and accuracy over finetuning steps, salience against count."""
        from curate.report.one_layer_figures import one_layer_figures

        return one_layer_figures(tables)


ONE_LAYER = OneLayerExperiment()
