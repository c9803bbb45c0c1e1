"""The same command again leaves what it made as it is; another one does not replace it without being told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate as library
from curate.errors import OutputError

Curate = Callable[..., Any]
FACTS = "".join(
    json.dumps({"question": f"Who wrote {n}?", "answers": [f"writer {n}"], "views": n, "likes": -n}) + "\n"
    for n in range(12)
)

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(autouse=True)
def facts(tmp_path: Path) -> Path:
    path = tmp_path / "facts.jsonl"
    path.write_text(FACTS)
    return path


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What every file holds, and when it was written."""
    found = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in found if path.is_file()}


def again(curate: Curate, output: Path, *command: object) -> Any:
    """The outcome of a command that is typed a second time, which writes nothing."""
    first = curate(*command)
    assert first.exit_code == 0, first.stderr
    before = files(output)
    second = curate(*command)
    assert second.exit_code == 0, second.stderr
    assert files(output) == before
    assert "already made" in second.stderr
    shapes = [sorted(json.loads(curate(*command, "--json").stdout)) for _ in range(2)]
    assert shapes[0] == shapes[1]
    return second


SCORE = ("score", "facts.jsonl", "--by", "column:views", "-o", "scored.parquet")
SPLITS = ("select", "scored.parquet", "--top", "0.5", "--bottom", "0.5", "-o", "splits/")


def test_scores_are_made_once(curate: Curate, tmp_path: Path) -> None:
    first = json.loads(curate(*SCORE, "--json").stdout)
    once_more = json.loads(curate(*SCORE, "--json").stdout)
    clock = {"seconds", "rows_per_second"}
    assert {k: v for k, v in once_more.items() if k not in clock} == {k: v for k, v in first.items() if k not in clock}
    again(curate, tmp_path / "scored.parquet", *SCORE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("--by", "column:likes"), "with other scores: views for 12 rows of facts.jsonl"),
        (("--by", "column:views", "--id-column", "views"), "with other scores: views"),
        (("--by", "column:views", "--shard", "1/2"), "with other scores: views"),
    ],
)
def test_other_scores_do_not_replace_a_file(
    curate: Curate, tmp_path: Path, change: tuple[str, ...], named: str
) -> None:
    curate(*SCORE)
    before = files(tmp_path / "scored.parquet")
    command = ("score", "facts.jsonl", *change, "-o", "scored.parquet")
    for more in ((), ("--dry-run",)):
        refused = curate(*command, *more)
        assert refused.exit_code == 1
        assert named in refused.stderr and "--force" in refused.stderr
    assert files(tmp_path / "scored.parquet") == before
    assert curate(*command, "--force").exit_code == 0
    assert files(tmp_path / "scored.parquet") != before


def test_scores_of_data_that_changed_do_not_replace_those_of_before(curate: Curate, facts: Path) -> None:
    curate(*SCORE)
    facts.write_text(FACTS.replace("writer 3", "author 3"))
    assert curate(*SCORE).exit_code == 1
    assert curate(*SCORE, "--force").exit_code == 0


def test_a_file_of_somebody_else_is_left_alone(curate: Curate, tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"mine": [1]}), tmp_path / "scored.parquet")
    (tmp_path / "top.jsonl").write_text("mine\n")
    for command in (SCORE, ("select", "facts.jsonl", "--by", "column:views", "--top", "0.5", "-o", "top.jsonl")):
        refused = curate(*command)
        assert refused.exit_code == 1
        assert "curate did not write it" in refused.stderr


def test_the_manifest_that_a_killed_run_could_not_write_is_written_by_the_next(curate: Curate, tmp_path: Path) -> None:
    curate(*SCORE)
    manifest = tmp_path / "scored.parquet.manifest.json"
    told = manifest.read_bytes()
    manifest.unlink()
    assert curate(*SCORE).exit_code == 0
    assert manifest.read_bytes() == told


@pytest.mark.parametrize(
    "more", [(), ("--to", "jsonl"), ("--format", "prompt-completion"), ("--format", "messages", "--to", "jsonl")]
)
def test_splits_are_made_once(curate: Curate, tmp_path: Path, more: tuple[str, ...]) -> None:
    curate(*SCORE)
    again(curate, tmp_path / "splits", *SPLITS, *more)


@pytest.mark.parametrize("name", ["top.parquet", "top.jsonl", "top.csv"])
def test_a_single_split_is_made_once_and_not_replaced(curate: Curate, tmp_path: Path, name: str) -> None:
    curate(*SCORE)
    again(curate, tmp_path / name, "select", "scored.parquet", "--top", "0.5", "-o", name)
    before = files(tmp_path / name)
    for change in (("--top", "0.25"), ("--top", "0.5", "--format", "alpaca"), ("--bottom", "0.5")):
        refused = curate("select", "scored.parquet", *change, "-o", name)
        assert refused.exit_code == 1
        assert "another split: top (0.5 by views), 6 of 12 rows of scored.parquet" in refused.stderr
    assert files(tmp_path / name) == before
    assert curate("select", "scored.parquet", "--top", "0.25", "-o", name, "--force").exit_code == 0


@pytest.mark.parametrize(
    "change",
    [("--top", "0.25", "--bottom", "0.5"), ("--top", "0.5"), ("--top", "0.5", "--bottom", "0.5", "--whole")],
)
def test_other_splits_do_not_replace_a_folder(curate: Curate, tmp_path: Path, change: tuple[str, ...]) -> None:
    curate(*SCORE)
    curate(*SPLITS)
    before = files(tmp_path / "splits")
    for more in ((), ("--dry-run",)):
        refused = curate("select", "scored.parquet", *change, "-o", "splits/", *more)
        assert refused.exit_code == 1
        assert "with the splits bottom.parquet, top.parquet" in refused.stderr
    assert files(tmp_path / "splits") == before
    assert curate("select", "scored.parquet", *change, "-o", "splits/", "--force").exit_code == 0


def test_a_folder_that_lacks_a_split_is_not_taken_for_whole(curate: Curate, tmp_path: Path) -> None:
    curate(*SCORE)
    curate(*SPLITS)
    (tmp_path / "splits" / "README.md").unlink()
    assert curate(*SPLITS).exit_code == 0
    assert (tmp_path / "splits" / "README.md").exists()
    (tmp_path / "splits" / "top.parquet").unlink()
    (tmp_path / "splits" / "top.parquet.manifest.json").unlink()
    assert curate(*SPLITS).exit_code == 1
    assert curate(*SPLITS, "--force").exit_code == 0


def test_shards_and_what_they_are_put_together_to_are_made_once(curate: Curate, tmp_path: Path) -> None:
    for number in (1, 2):
        shard = ("score", "facts.jsonl", "--by", "column:views", "--shard", f"{number}/2", "-o", "shards/")
        again(curate, tmp_path / "shards" / f"shard-{number}-of-2.parquet", *shard)
    again(curate, tmp_path / "merged.parquet", "merge", "shards/", "-o", "merged.parquet")
    curate("score", "facts.jsonl", "--by", "column:likes", "-o", "other.parquet")
    refused = curate("merge", "shards/", "-o", "other.parquet")
    assert refused.exit_code == 1 and "with other scores: likes" in refused.stderr
    assert curate("merge", "shards/", "-o", "other.parquet", "--force").exit_code == 0
    assert (tmp_path / "other.parquet").read_bytes() == (tmp_path / "merged.parquet").read_bytes()


def test_in_python_what_is_there_is_told_from_what_would_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scored = library.score("facts.jsonl", "column:views", output=tmp_path / "s.parquet")
    before = files(tmp_path / "s.parquet")
    library.score("facts.jsonl", "column:views", output=tmp_path / "s.parquet")
    assert files(tmp_path / "s.parquet") == before
    with pytest.raises(OutputError, match="with other scores: views"):
        library.score("facts.jsonl", "column:likes", output=scored)
    library.score("facts.jsonl", "column:likes", output=scored, force=True)
    chosen = library.select(scored, top=0.5, output=tmp_path / "top.parquet")
    assert library.select(scored, top=0.5, output=tmp_path / "top.parquet").earlier
    with pytest.raises(OutputError, match="another split"):
        chosen.reselect(top=0.25).write(tmp_path / "top.parquet")
    chosen.reselect(top=0.25).write(tmp_path / "top.parquet", force=True)


def test_a_loss_is_asked_for_once_and_its_model_not_loaded_again(
    curate: Curate, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("score", "facts.jsonl", "--by", "loss", "--model", stories, "--shots", 2, "-o", "loss.parquet")
    assert curate(*command).exit_code == 0
    before = files(tmp_path / "loss.parquet")
    monkeypatch.setattr("curate.lm.model.load_model", None)
    assert curate(*command).exit_code == 0
    assert files(tmp_path / "loss.parquet") == before
    for change in (("--reduction", "sum"), ("--template", "plain"), ("--shots-from", "facts.jsonl")):
        assert curate(*command, *change).exit_code == 1


def test_a_run_is_made_once_grows_and_is_not_replaced(
    curate: Curate, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curate(*SCORE)
    curate(*SPLITS)
    model = tiny_model("llama")
    run = (
        "validate",
        "splits/",
        "--eval",
        "scored.parquet",
        "--model",
        model,
        "--max-steps",
        2,
        "-o",
        "run/",
        "--seeds",
    )
    first = json.loads(curate(*run, 1, "--json").stdout)
    before = files(tmp_path / "run")
    monkeypatch.setattr("curate.validation.runner.load_model", None)
    second = curate(*run, 1, "--json")
    assert (second.exit_code, json.loads(second.stdout)) == (0, first)
    assert "already made" in second.stderr
    refused = curate(*run, 1, "--learning-rate", "0.01")
    assert refused.exit_code == 1
    assert "learning_rate 0.0001, not 0.01" in refused.stderr and "--force" in refused.stderr
    curate("select", "scored.parquet", "--top", "0.25", "-o", "splits/top.parquet", "--force")
    refused = curate(*run, 1)
    assert refused.exit_code == 1 and "other arms" in refused.stderr
    assert files(tmp_path / "run") == before
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    curate("select", "scored.parquet", "--top", "0.5", "--bottom", "0.5", "-o", "splits/", "--force")
    assert curate(*run, 2).exit_code == 0, "a seed more is no other run"
    refused = curate(*run, 1)
    assert refused.exit_code == 1 and "seeds 0, 1" in refused.stderr
    assert curate(*run, 1, "--learning-rate", "0.01", "--force").exit_code == 0
