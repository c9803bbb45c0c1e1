"""What the pretrained model knows, measured on the files that were written, with curate's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from people import World
from statements import statement

from curate.agreement import rank_correlation
from curate.datasets.read import read
from curate.lm.answer_loss import answer_losses
from curate.lm.greedy import greedy_answers
from curate.lm.load import LoadedModel, load_model
from curate.prompts import DEFAULT
from curate.validation.evaluate import evaluate
from curate.validation.metrics import contains_answer


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
    said = greedy_answers(loaded, prompts)
    right = [contains_answer(text, [answer]) for text, answer in zip(said, answers, strict=True)]
    return np.array(right).reshape(len(world.subjects), len(world.relations))


def by_decile(right: np.ndarray, views: np.ndarray) -> list[float]:
    """Share of facts memorised in each tenth of the people, most viewed first."""
    order = np.argsort(-views, kind="stable")
    return [round(float(part.mean()), 4) for part in np.array_split(right[order], 10)]


def loss_against_views(questions: Path, loaded: LoadedModel) -> float:
    """Rank correlation of the loss score (minus the loss per token of the answer) with the views."""
    examples = read(questions).examples()
    pairs = [(DEFAULT.render_prompt(e.question), DEFAULT.render_completion(e.answers[0])) for e in examples]
    scores = [-(loss.nats or 0.0) / loss.tokens for loss in answer_losses(loaded, pairs)]
    views = pq.read_table(questions)["views"].to_numpy()
    return rank_correlation(np.array(scores), views.astype(np.float64))
