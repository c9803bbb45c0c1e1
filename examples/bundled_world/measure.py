"""What the pretrained model knows, measured on the files that were written, with curate's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bundled_world.people import World
from bundled_world.statements import statement
from worlds.memory import by_decile, completes

from curate.data.table import read
from curate.estimators.loss import SHOTS, LossEstimator, LossSettings
from curate.lm.model import LoadedModel, load_model
from curate.prompts import DEFAULT
from curate.summary import auc, rank_correlation
from curate.validation.evaluate import evaluate


def measure(out: Path, world: World, views: np.ndarray) -> dict[str, Any]:
    """Memorisation overall and by popularity, accuracy before finetuning, and what the loss tells.

    Of the loss score (minus the loss per token of the answer) without solved examples and after four: its rank
    correlation with the views, and how well it tells facts that are memorised from others (AUC inside relations).
    """
    loaded = load_model(out / "model", device="cpu")
    right = memorised(world, loaded)
    test = evaluate(loaded, read(out / "test.parquet").examples(), DEFAULT)
    questions = pq.read_table(out / "train.parquet")
    scores = {shots: loss_scores(out / "train.parquet", loaded, shots) for shots in (0, SHOTS)}
    names = [relation.name for relation in world.relations]
    people = [int(identity.partition("-")[0]) for identity in questions["id"].to_pylist()]
    relations = np.array([names.index(name) for name in questions["relation"].to_pylist()])
    return {
        "parameters": loaded.model.num_parameters(),
        "memorised": round(float(right.mean()), 4),
        "memorised_by_decile": by_decile(right, views),
        "zero_shot": round(float(np.mean([p.correct for p in test])), 4),
        "loss_against_views": {
            str(shots): round(rank_correlation(found, questions["views"].to_numpy().astype(np.float64)), 4)
            for shots, found in scores.items()
        },
        "loss_tells_memorised": {
            str(shots): round(auc(found, right[people, relations], relations), 4) for shots, found in scores.items()
        },
    }


def memorised(world: World, loaded: LoadedModel) -> np.ndarray:
    """For every fact, (subjects, relations): does the model complete its first phrasing, where the subject opens?"""
    prompts, answers = [], []
    for i, subject in enumerate(world.subjects):
        for r, relation in enumerate(world.relations):
            answers.append(world.answer(i, r))
            prompts.append(statement(relation, 0, subject, "\n").partition(" \n")[0])
    return completes(loaded, prompts, answers).reshape(len(world.subjects), len(world.relations))


def loss_scores(questions: Path, loaded: LoadedModel, shots: int) -> np.ndarray:
    """The loss score of every question, (N,), after so many solved examples of its relation."""
    examples = read(questions).examples()
    estimator = LossEstimator(LossSettings(shots=shots), loaded)
    estimator.draw(lambda: examples)
    return np.array([score.value for score in estimator.score(examples)], dtype=np.float64)
