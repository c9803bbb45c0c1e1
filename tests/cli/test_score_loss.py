"""`curate score --by loss` as it is typed: prompts, solved examples, several answers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Curate = Callable[..., Any]


@pytest.fixture
def score(
    curate: Curate, films: list[dict[str, Any]], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> Callable[..., Any]:
    """Scores the six films with a tiny model: `score("--shots", 1, …)` gives the rows; a failure gives its result."""
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    command = ("score", "films.jsonl", "--by", "loss", "--model", tiny_model("llama"), "--device", "cpu")

    def run(*arguments: object) -> Any:
        result = curate(*command, "-o", "scored.parquet", "--force", *arguments)
        return result if result.exit_code else pq.read_table(tmp_path / "scored.parquet").to_pylist()

    return run


def estimator_in(folder: Path) -> dict[str, Any]:
    (estimator,) = json.loads((folder / "scored.parquet.manifest.json").read_text())["estimators"]
    return dict(estimator)


def test_a_template_of_ones_own_is_used_stored_and_shown(
    score: Callable[..., Any], curate: Curate, tmp_path: Path
) -> None:
    (tmp_path / "own.j2").write_text("About {{ subject }}. {{ question }} {{ answer }}\n")
    assert [row["loss_status"] for row in score("--template", "own.j2")] == ["ok"] * 6
    assert estimator_in(tmp_path)["template"]["prompt"] == "About {{ subject }}. {{ question }}"
    assert "About Alien. Who directed Alien? Ridley Scott" in curate("show", "scored.parquet").stdout


def test_solved_examples_change_the_loss_and_are_in_the_manifest(score: Callable[..., Any], tmp_path: Path) -> None:
    alone = [row["score_loss"] for row in score()]
    solved = [row["score_loss"] for row in score("--shots", 2, "--shots-from", "films.jsonl")]
    assert all(a != b for a, b in zip(alone, solved, strict=True))
    assert estimator_in(tmp_path)["shots"]["count"] == 2


def test_the_best_of_several_answers_is_named(score: Callable[..., Any]) -> None:
    first, best = score(), score("--answers", "best")
    assert all(b["score_loss"] >= a["score_loss"] for a, b in zip(first, best, strict=True))
    assert all(row["loss_answer"] in row["answers"] for row in best)


def test_two_processes_give_the_scores_of_one(score: Callable[..., Any]) -> None:
    one, two = ([row["score_loss"] for row in score(*more)] for more in ((), ("--processes", 2)))
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--processes", 0), "--processes is 0"),
        (("--shots", 6), "There are 5 examples of different subjects"),
        (("--shots", 9, "--shots-from", "films.jsonl"), "are 6, and --shots asks for 9"),
        (("--template", "no-such"), "There is no template 'no-such'"),
        (("--answers", "worst"), "There is no --answers 'worst'"),
        (("--reduction", "mean"), "There is no --reduction 'mean'"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_model_is_loaded(
    score: Callable[..., Any], arguments: tuple[object, ...], message: str
) -> None:
    result = score(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_the_plan_counts_what_the_model_would_read(
    curate: Curate, films: list[dict[str, Any]], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))

    def plan(*arguments: object) -> dict[str, int]:
        command = ("score", "films.jsonl", "--by", "loss", "--model", tiny_model("llama"), "-o", "scored.parquet")
        counts: dict[str, int] = json.loads(curate(*command, "--dry-run", "--json", *arguments).stdout)["loss"]
        return counts

    assert (plan()["sequences"], plan("--answers", "best")["sequences"]) == (6, 7)
    alone = plan("--shots", 0)["tokens"]
    assert plan("--shots", 2, "--shots-from", "films.jsonl")["tokens"] > 2 * alone
    assert plan()["tokens"] > 4 * alone, "four solved examples stand before each question"
    assert not (tmp_path / "scored.parquet").exists()


def test_mmlu_in_the_hub_layout_is_scored_by_its_letters(
    curate: Curate, shared: Path, stories: Path, tmp_path: Path
) -> None:
    for part in ("dev", "test"):
        source = shared / "data" / "mmlu_hub_layout" / part / f"prehistory_{part}.csv"
        rows = [{**row, "subject": "prehistory"} for row in csv.DictReader(source.read_text().splitlines(True))][:8]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = ("--model", stories, "--device", "cpu")
    shots = ("--shots", 1, "--shots-from", "dev.jsonl")
    assert curate("score", "test.jsonl", "--by", "loss", *model, *shots, "-o", "scored.parquet").exit_code == 0
    scored = pq.read_table(tmp_path / "scored.parquet").to_pylist()
    assert {row["loss_status"] for row in scored} == {"ok"}
    assert {row["loss_choice"] for row in scored} <= set("ABCD")
    assert estimator_in(tmp_path)["template"]["name"] == "mmlu"
    assert "about prehistory.\n" in curate("show", "scored.parquet").stdout


def test_relations_with_too_few_rows_for_solved_examples_are_said(
    curate: Curate, films: list[dict[str, Any]], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    (tmp_path / "films.jsonl").write_text("\n".join(map(json.dumps, films)))
    score = ["score", "films.jsonl", "--by", "loss", "--model", tiny_model("llama")]
    told = " ".join(curate(*score, "--shots", 3, "-o", "three.parquet").stderr.split())
    assert "2 of 2 relations, such as 'director', have fewer than 4 answered questions about different subjects" in told
    assert "solved examples of other relations stand before theirs too" in told
    assert "other relations" not in curate(*score, "--shots", 2, "-o", "two.parquet").stderr


def test_question_patterns_stand_for_relations_and_a_note_says_so(
    curate: Curate, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    asked = [(f"Who wrote B{n}?", f"W{n}") for n in range(6)] + [(f"Where is P{n} located?", f"C{n}") for n in range(6)]
    rows = [{"question": question, "answer": answer} for question, answer in asked]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scored = curate("score", "facts.jsonl", "--by", "loss", "--model", tiny_model("llama"), "-o", "scored.parquet")
    assert "2 question patterns stand for relations, such as 'Where is … located'" in scored.stderr
    drawn = estimator_in(tmp_path)["shots"]["drawn"]
    assert {pattern: len(shots) for pattern, shots in drawn.items() if pattern} == {
        "Where is … located": 5,
        "Who wrote …": 5,
    }
