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
from curate.lm.loss import answer_losses
from curate.lm.model import LoadedModel, load_model
from curate.prompts import DEFAULT
from curate.summary import rank_correlation
from curate.validation.evaluate import evaluate


def measure(out: Path, world: World, views: np.ndarray) -> dict[str, Any]:
    """Memorisation overall and by popularity, accuracy before finetuning, and how far the loss follows the views."""
    loaded = load_model(out / "model", device="cpu")
    right = memorised(world, loaded)
    test = evaluate(loaded, read(out / "test.parquet").examples(), DEFAULT)
    return {
        "parameters": loaded.model.num_parameters(),
        "memorised": round(float(right.mean()), 4),
        "memorised_by_decile": by_decile(right, views),
        "zero_shot": round(float(np.mean([p.correct for p in test])), 4),
        "loss_against_views": round(loss_against_views(out / "train.parquet", loaded), 4),
    }


def memorised(world: World, loaded: LoadedModel) -> np.ndarray:
    """For every fact, (subjects, relations): does the model complete its first phrasing, where the subject opens?"""
    prompts, answers = [], []
    for i, subject in enumerate(world.subjects):
        for r, relation in enumerate(world.relations):
            answers.append(world.answer(i, r))
            prompts.append(statement(relation, 0, subject, "\n").partition(" \n")[0])
    return completes(loaded, prompts, answers).reshape(len(world.subjects), len(world.relations))


def loss_against_views(questions: Path, loaded: LoadedModel) -> float:
    """Rank correlation of the loss score (minus the loss per token of the answer) with the views."""
    examples = read(questions).examples()
    pairs = [(DEFAULT.render_prompt(e.question), DEFAULT.render_completion(e.answers[0])) for e in examples]
    scores = [-(loss.nats or 0.0) / loss.tokens for loss in answer_losses(loaded, pairs)]
    views = pq.read_table(questions)["views"].to_numpy()
    return rank_correlation(np.array(scores), views.astype(np.float64))
