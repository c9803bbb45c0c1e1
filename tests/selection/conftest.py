"""Twelve scored examples that these tests choose from."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.selection.rows import Rows


@pytest.fixture
def scored() -> Rows:
    """Twelve examples of three relations and seven subjects; views tie at 5, one is missing."""
    views = [9.0, 5.0, 5.0, 5.0, 1.0, None, 8.0, 7.0, 5.0, 2.0, 3.0, 4.0]
    relations = ["job", "job", "job", "job", "job", "job", "city", "city", "city", "city", "sport", "sport"]
    answers = ["poet", "poet", "actor", "poet", "poet", "actor", "Rome", "Rome", "Oslo", "Rome", "golf", "chess"]
    return [
        {
            "question": f"Q{i}?",
            "answers": [answer, answer.upper()],
            "subject": f"S{i % 7}",
            "relation": relation,
            "curate_id": f"id-{i}",
            "score_views": value,
        }
        for i, (value, relation, answer) in enumerate(zip(views, relations, answers, strict=True))
    ]


@pytest.fixture
def file(scored: Rows, tmp_path: Path) -> Path:
    path = tmp_path / "scored.parquet"
    pq.write_table(pa.Table.from_pylist(scored), path)
    return path
