"""The whole search with a tiny model: what it leaves, that it goes on, what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate as package
from curate.data.repeats import folded
from curate.data.table import read
from curate.errors import CurateError, DataError, OutputError, SettingError
from curate.searching import halving
from curate.searching.candidates import SearchSettings, make
from curate.searching.halving import Plan, Rung, Work, parse_budget
from curate.searching.search import Search, divide

pytestmark = pytest.mark.usefixtures("blank_figures")

COLOURS = ("red", "blue", "green", "black")
ROWS: list[dict[str, Any]] = [
    {"question": f"What is the colour of N{n}?", "answer": COLOURS[n % 4], "subject": f"N{n}", "views": n * 37 % 160}
    for n in range(160)
]
OPTIONS = "--by column:views --questions 0.5 --sizes 0.3 --rungs 2 --max-steps 24 --batch-size 4 --patience 1"
OPTIONS += " --learning-rate 1e-2 --confirm-seeds 2 --device cpu"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def command(data: Path, model: Path, output: Path) -> list[str]:
    words = [str(data), "--model", str(model), "-o", str(output), "--quiet", *OPTIONS.split()]
    return [sys.executable, "-m", "curate", "search", *words]


@pytest.fixture(scope="module")
def whole(data: Path, tiny_model: Callable[[str], Path]) -> Path:
    """A search that nothing stopped."""
    output = data.parent / "whole"
    subprocess.run(command(data, tiny_model("llama"), output), check=True, capture_output=True)
    return output


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_a_search_leaves_the_split_its_recipe_a_page_and_one_sentence(whole: Path, data: Path) -> None:
    found = summary(whole)
    assert found["sentence"].startswith(("Train on ", "No difference: "))
    chosen = next(row for row in found["candidates"] if row["candidate"] == found["train_on"])
    recommended = pq.read_table(whole / "recommended.parquet")
    assert recommended.num_rows == chosen["rows"]
    assert found["sentence"] in (whole / "report.html").read_text()
    names = {row["candidate"] for row in found["candidates"]}
    assert names == {"top-views-30", "middle-views-30", "most-views", "random-30", "whole"}
    stayed = {row["candidate"] for row in found["standings"] if row["rung"] == 2}
    assert stayed >= {"random-30", "whole"}
    assert found["cost"]["share"] > 0
    assert not list((whole / "rungs" / ".parts").glob("*/checkpoint-*")), "nobody goes on with them"


def test_the_recipe_makes_the_recommended_split_again(whole: Path, tmp_path: Path) -> None:
    recipe = whole / "recipe.yaml"
    assert package.run(
        recipe, tmp_path / "again", settings={"finetuning.max_steps": 2, "validation.seeds": 1}, limit=None
    )
    again = [path for path in (tmp_path / "again" / "splits").glob("*.parquet") if path.stem != "random"]
    ids = [pq.read_table(path)["question"].to_pylist() for path in again]
    assert pq.read_table(whole / "recommended.parquet")["question"].to_pylist() in ids


@pytest.mark.parametrize(
    "moment", ["rungs/.parts/*/checkpoint-*/trainer_state.json", "rungs/.parts/*.json", "confirm/.parts/*.json"]
)
def test_a_search_killed_at_some_moment_ends_with_the_same(
    moment: str, whole: Path, data: Path, tiny_model: Callable[[str], Path]
) -> None:
    output = data.parent / f"killed-{moment.count('*')}-{moment[:4]}"
    first = subprocess.Popen(command(data, tiny_model("llama"), output), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while first.poll() is None and len(list(output.glob(moment))) < 2:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert first.returncode == -signal.SIGKILL, "the search was over before it could be killed"
    subprocess.run(command(data, tiny_model("llama"), output), check=True, capture_output=True)
    assert summary(output) == summary(whole)
    for name in ("recommended.parquet", "report.html"):
        assert (output / name).read_bytes() == (whole / name).read_bytes()


def test_the_same_command_again_does_nothing_and_another_one_is_refused(
    whole: Path, data: Path, tiny_model: Callable[[str], Path], curate: Callable[..., Any]
) -> None:
    before = (whole / "summary.json").stat().st_mtime_ns
    words = ["search", data, "--model", tiny_model("llama"), "-o", whole, *OPTIONS.split()]
    again = curate(*words)
    assert again.exit_code == 0 and "already made" in again.stderr
    assert (whole / "summary.json").stat().st_mtime_ns == before
    other = curate(*words, "--seed", 1)
    assert other.exit_code == 1 and "--force" in other.stderr


def test_what_is_asked_in_the_two_parts_shares_no_subject_and_no_answer_and_none_is_trained_on() -> None:
    rows = [
        {"question": f"{r} of {s}?", "answer": f"{r}{(s * 7 + k) % 9}", "subject": f"S{s}", "relation": r}
        for s in range(150)
        for k, r in enumerate(("sport", "city"))
    ]
    parts = divide(read(rows), None, 0.5, seed=0)
    pool, search, confirm = (part.examples() for part in (parts.pool, parts.search, parts.confirm))
    assert len(pool) + len(search) + len(confirm) + parts.left_out == 300
    for name in ("subject", "answers"):
        assert not {getattr(e, name) for e in search} & {getattr(e, name) for e in confirm}
    assert not {e.subject for e in pool} & {e.subject for e in (*search, *confirm)}
    assert 0.4 < len(search) / (len(search) + len(confirm)) < 0.6
    shares = [sum(e.relation == "city" for e in part) / len(part) for part in (search, confirm)]
    assert abs(shares[0] - shares[1]) < 0.2


def test_a_test_set_of_its_own_is_what_is_asked_and_its_subjects_are_not_trained_on() -> None:
    parts = divide(read(ROWS), read(ROWS[:80]), 0.3, seed=0)
    assert len(parts.pool) == 80 and len(parts.search) + len(parts.confirm) == 80
    assert not {folded(e.question) for e in parts.pool.examples()} & {folded(r["question"]) for r in ROWS[:80]}


def test_candidates_are_rules_at_sizes_and_of_one_size_all_have_as_many_rows() -> None:
    scored = package.score(ROWS, "column:views")
    data = read([{**row, "known_class": ("MaybeKnown", "HighlyKnown")[n % 2]} for n, row in enumerate(scored)])
    made = make(data, ["views"], SearchSettings(sizes=(0.25, 0.6)))
    sizes = {name: table.num_rows for name, table in made.tables.items()}
    assert {sizes[name] for name in sizes if name.endswith("-25")} == {40}
    assert sizes["whole"] == 160 and sizes["most-views"] == 144
    assert [*made.left_out] == ["maybe-60"] and "mix needs 96 rows" in made.left_out["maybe-60"]
    middle = sorted(row["views"] for row in made.tables["middle-views-25"].to_pylist())
    assert middle == list(range(60, 100))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: {by: views, tpo: 0.3}", "a line 1: selection.tpo is not a setting"),
        ("a: {by: views, top: 0}", "a: top=0 is not a size"),
        ("a: {by: lsos, top: 0.3}", "a is by 'lsos'"),
        ("a: {by: views, top: 0.3, bottom: 0.3}", "a asks for 2 splits: top, bottom"),
        ("a: {by: views, top: 0.3, holdout: 0.2}", "a asks for holdout"),
        ("a/b: {by: views, top: 0.3}", "cannot be called so"),
        ("- top", "names no candidate"),
        ("a: {by: views, top: 5000}", "a: 5000 rows were asked for"),
    ],
)
def test_a_candidate_that_cannot_be_is_one_message(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    data = read(package.score(ROWS, "column:views"))
    with pytest.raises(CurateError) as error:
        make(data, ["views"], SearchSettings(candidates=tmp_path / "own.yaml"))
    assert says in error.value.found


def test_candidates_of_ones_own_stand_beside_random_parts_and_all_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text('best: {top: 30}\nmiddle: {by: views, band: "20:50"}\n')
    made = make(read(package.score(ROWS, "column:views")), ["views"], SearchSettings(candidates=tmp_path / "own.yaml"))
    assert [*made.tables] == ["best", "middle", "random-12.5", "random-25", "random-50", "whole"]
    assert [made.tables[name].num_rows for name in ("best", "middle")] == [30, 48]


def asked(output: Path, **options: Any) -> Search:
    given = {"by": "column:views", "questions": 0.5, "max_steps": 24, "batch_size": 4, **options}
    return Search.of(ROWS, None, "model", output, lambda line: None, given)


def test_too_little_data_for_two_parts_says_what_there_is_and_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too little data for two parts: 4 questions to search on, 4 to confirm on"):
        asked(tmp_path / "new", questions=0.05)


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="curate search did not make"):
        asked(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("0.5h", 1800)]
)
def test_a_budget_is_said_in_hours_and_minutes(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "two hours", "0m"])
def test_a_budget_that_is_no_time_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(SettingError, match="is no time"):
        parse_budget(text)


def test_a_dry_run_tells_trainings_tokens_and_time_and_a_budget_makes_the_plan_fit(
    data: Path,
    tiny_model: Callable[[str], Path],
    curate: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(halving, "MEASURED", 1.0)
    words = [
        "search",
        data,
        "--model",
        tiny_model("llama"),
        "-o",
        "new",
        *OPTIONS.split(),
        "--max-steps",
        240,
        "--dry-run",
        "--json",
    ]
    plan = json.loads(curate(*words).stdout)
    assert not (tmp_path / "new").exists()
    assert plan["candidates"] == 5 and plan["steps"] == 240 and plan["examples_seen"] == 960
    assert plan["trainings"] == 5 * 2 * 2 + 3 * 2
    assert plan["tokens"] > 0 and plan["seconds"] > 0
    fitted = json.loads(curate(*words, "--budget-tokens", round(0.7 * plan["tokens"])).stdout)
    assert fitted["steps"] < 240 and fitted["tokens"] <= 0.7 * plan["tokens"]
    nothing = curate(*words, "--budget-tokens", 100)
    assert nothing.exit_code == 1 and "fits nothing: the smallest plan takes" in nothing.stderr
    hurried = curate(*words, "--budget", "1s")
    assert hurried.exit_code == 1 and "fits nothing" in hurried.stderr


def test_the_work_of_a_plan_counts_trainings_that_go_on_once() -> None:
    plan = Plan(10, steps=80, batch_size=4, questions=100, confirm_questions=50, rungs=3, seeds=2, confirm_seeds=3)
    rungs = [Rung(10, 50), Rung(20, 71), Rung(40, 100)]
    took = plan.searching(rungs, [10, 5, 4])
    assert took == Work(38, 2 * 4 * (10 * 10 + 5 * 10 + 4 * 20), 2 * (10 * 50 + 5 * 71 + 4 * 100))
    assert plan.in_full == Work(30, 30 * 80 * 4, 30 * 150)
