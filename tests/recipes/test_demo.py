"""The bundled world shows the effect, and the demo's steps are ordinary commands."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
from curate.recipes.run import resolve, run_demo
from curate.settings import FinetuneConfig


def test_the_world_is_what_its_card_says(world: Path) -> None:
    train, test = (curate.read(world / f"{name}.parquet").examples(["views"]) for name in ("train", "test"))
    assert {e.subject for e in train}.isdisjoint({e.subject for e in test})
    assert len({e.relation for e in train}) >= 4
    assert all(e.question and e.answers and e.extra["views"] >= 0 for e in [*train, *test])
    for relation in {e.relation for e in test}:
        answers = {e.answers[0].lower() for e in [*train, *test] if e.relation == relation}
        contained = [(a, b) for a in answers for b in answers if a != b and a in b]
        assert contained == [], "an answer inside another would count as right"


def test_its_script_makes_pages_of_solved_questions_where_they_are_asked_for(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    from bundled_world.make import Settings, make
    from bundled_world.people import make_world
    from bundled_world.statements import draw_pages

    people = make_world(0, 40, 10, 1.0, 1.0)
    pages, asked = draw_pages(people, 20, 5, 0)
    for page, subjects in zip(pages, asked, strict=True):
        (relation,) = [r for r in people.relations if r.question.format(s=people.subjects[subjects[0]]) in page]
        solved = [(people.subjects[s], people.answer(s, people.relations.index(relation))) for s in subjects]
        asking = [line.partition(": ")[2] for line in page.splitlines() if line]
        assert asking == [text for s, a in solved for text in (relation.question.format(s=s), a)]
        assert len(set(subjects.tolist())) == 5

    tiny = {
        "subjects": 40,
        "first_names": 10,
        "vocabulary": 300,
        "width": 16,
        "depth": 1,
        "feedforward": 16,
        "steps": 2,
    }
    threads = torch.get_num_threads()
    try:
        make(tmp_path, 0, Settings(**tiny, pages=32, unanswered=64, train_questions=60, test_questions=20))
    finally:
        torch.set_num_threads(threads)
    assert "It also read 32 pages of 5 solved questions." in (tmp_path / "README.md").read_text()
    assert json.loads((world / "world.json").read_text())["settings"] == asdict(Settings())


def test_finetuning_on_well_known_facts_beats_finetuning_on_obscure_ones(world: Path, tmp_path: Path) -> None:
    scored = curate.score(world / "train.parquet", "column:views")
    result = curate.validate(
        curate.select(scored, top=0.5, bottom=0.5),
        eval=pq.read_table(world / "test.parquet").slice(0, 500),
        by="views",
        model=world / "model",
        output=tmp_path / "run",
        seeds=1,
        knowledge=False,
        config=resolve("world").finetuning,
    )
    accuracy = {row["arm"]: row["accuracy"] for row in result.arm_rows()}
    assert accuracy["base"] < accuracy["bottom"] < accuracy["top"]
    (difference,) = [d for d in result.differences if (d.a, d.b) == ("top", "bottom")]
    assert difference.low > 0


@pytest.fixture
def few_questions(world: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled world has its model and 300 questions of each kind."""
    small = tmp_path_factory.mktemp("world")
    shutil.copytree(world, small, dirs_exist_ok=True)
    for name in ("train.parquet", "test.parquet"):
        pq.write_table(pq.read_table(world / name).slice(0, 300), small / name)
    monkeypatch.setattr("curate.recipes.run.local_path", lambda name: str(small))


def test_every_step_of_the_demo_is_a_command_that_can_be_typed(curate: Callable[..., Any], few_questions: None) -> None:
    commands: list[str] = []
    few_steps = FinetuneConfig(learning_rate=1e-3, batch_size=32, max_steps=2)
    _, agreement = run_demo(Path("demo"), seeds=1, config=few_steps, show_command=commands.append)
    assert [command.split()[1] for command in commands] == ["score", "select", "validate"]
    made = pq.read_table("demo/scored.parquet")
    for command in commands:
        again = curate(*shlex.split(command)[1:])
        assert again.exit_code == 0, again.stderr
    assert pq.read_table("demo/scored.parquet").equals(made)
    assert curate("show", "demo/run-by-views").exit_code == 0
    assert -1 <= agreement["rank_correlation"] <= 1


def test_the_demo_refuses_a_folder_of_somebody_else(curate: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "thesis.tex").write_text("years of work")
    result = curate("demo", "-o", tmp_path)
    assert result.exit_code == 1
    assert "not the bundled world" in result.stderr
    assert (tmp_path / "world" / "thesis.tex").exists()
