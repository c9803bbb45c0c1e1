"""The QA dataset: questions about the same people, with how often each was seen in pretraining."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bundled_world.people import World


def split_subjects(world: World, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Halve the people at random: nobody is asked about in both finetuning and testing."""
    shuffled = np.random.default_rng([seed, 3]).permutation(len(world.subjects))
    half = len(shuffled) // 2
    return shuffled[:half], shuffled[half:]


def draw_facts(subjects: np.ndarray, relations: int, count: int, seed: int) -> np.ndarray:
    """`count` distinct (subject, relation) pairs, each fact equally likely whatever its popularity."""
    facts = np.stack(np.meshgrid(np.sort(subjects), np.arange(relations), indexing="ij"), axis=-1).reshape(-1, 2)
    return facts[np.random.default_rng([seed, 4]).permutation(len(facts))[:count]]


def question_table(world: World, facts: np.ndarray, views: np.ndarray) -> pa.Table:
    """One row per fact: id, question, answers, subject, relation, views."""
    relations = [world.relations[r] for _, r in facts]
    subjects = [world.subjects[s] for s, _ in facts]
    answers = [[world.answer(s, r)] for s, r in facts]
    return pa.table(
        {
            "id": [f"{s}-{relation.name}" for (s, _), relation in zip(facts, relations, strict=True)],
            "question": [r.question.format(s=s) for r, s in zip(relations, subjects, strict=True)],
            "answers": pa.array(answers, pa.list_(pa.string())),
            "subject": subjects,
            "relation": [relation.name for relation in relations],
            "views": pa.array(views[facts[:, 0]], pa.int64()),
        }
    )


def write_questions(table: pa.Table, path: Path) -> None:
    """Parquet with zstd: small, and the same bytes every time."""
    pq.write_table(table, path, compression="zstd")
