"""The commands as they are typed: what they print, what they write, how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Curate = Callable[..., Any]


@pytest.fixture
def films_file(films: list[dict[str, Any]], tmp_path: Path) -> Path:
    path = tmp_path / "films.jsonl"
    path.write_text("\n".join(json.dumps({**row, "nothing": None}) for row in films))
    return path


@pytest.fixture
def scored(curate: Curate, films_file: Path, tmp_path: Path) -> Path:
    assert curate("score", films_file, "--by", "column:views", "-o", "scored.parquet", "--quiet").exit_code == 0
    return tmp_path / "scored.parquet"


def test_importing_curate_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "pandas", "ray", "duckdb", "matplotlib")
    code = f"import sys, curate, curate.cli.app; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.skipif(
    sys.platform != "linux" or "jemalloc" not in pa.supported_memory_backends(), reason="this pyarrow has no jemalloc"
)
@pytest.mark.parametrize(("asked", "taken"), [(None, "jemalloc"), ("system", "system")])
def test_the_command_takes_memory_from_jemalloc_unless_asked_otherwise(asked: str | None, taken: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    environment |= {"ARROW_DEFAULT_MEMORY_POOL": asked} if asked else {}
    code = "import curate.cli.app, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout == f"{taken}\n"


def test_help_names_every_command(curate: Curate) -> None:
    shown = curate("--help").stdout
    for name in ("demo", "score", "select", "validate", "show", "simulate"):
        assert name in shown
        help_page = curate(name, "--help")
        assert help_page.exit_code == 0
        assert f"curate {name}" in help_page.stdout, "every help page has an example"


def test_a_scored_file_keeps_every_column_and_adds_ours(scored: Path, films: list[dict[str, Any]]) -> None:
    table = pq.read_table(scored)
    assert table.column_names == [*films[0], "nothing", "curate_id", "score_views", "views_status"]
    assert table.select(list(films[0])).to_pylist() == films
    assert table["score_views"].to_pylist() == [900, 500, 120, 900, 40, None]
    assert table["views_status"].to_pylist() == ["ok"] * 5 + ["missing"]


def test_scoring_says_on_stdout_what_it_did_and_nothing_else(curate: Curate, films_file: Path) -> None:
    result = curate("score", films_file, "--by", "column:views", "-o", "s.parquet", "--json")
    content = json.loads(result.stdout)
    assert content["rows"] == 6
    assert content["statuses"] == {"views": {"ok": 5, "missing": 1}}
    assert content["scores"]["views"]["coverage"] == pytest.approx(5 / 6)


def test_too_many_unscored_examples_end_with_exit_code_3(curate: Curate, films_file: Path) -> None:
    arguments = ("score", films_file, "--by", "column:views", "-o", "s.parquet", "--max-missing")
    assert curate(*arguments, 0).exit_code == 3
    assert curate(*arguments, 1).exit_code == 0


def test_the_same_command_writes_the_same_bytes(curate: Curate, films_file: Path, tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        curate("score", films_file, "--by", "column:views", "-o", "s.parquet", "--force")
        curate("select", "s.parquet", "--top", "0.4", "--random", "0.4", "-o", "splits/", "--force")
        written.append([p.read_bytes() for p in [tmp_path / "s.parquet", *sorted((tmp_path / "splits").iterdir())]])
    assert written[0] == written[1]


def test_the_manifest_tells_how_a_file_was_made(curate: Curate, scored: Path) -> None:
    curate("select", scored, "--top", "2", "-o", "top.parquet")
    manifest = json.loads(scored.with_name("top.parquet.manifest.json").read_text())
    assert manifest["command"] == "select"
    assert manifest["selection"]["cut"] == {"score": 900.0, "ties": 2, "ties_kept": 2}
    assert manifest["scored"]["estimators"] == [{"name": "views", "estimator": "column", "column": "views"}]
    assert json.loads(pq.read_schema(scored.with_name("top.parquet")).metadata[b"curate"]) == manifest


def test_datasets_loads_a_folder_of_splits_by_name(curate: Curate, scored: Path, tmp_path: Path) -> None:
    import datasets

    curate("select", scored, "--top", "0.5", "--bottom", "0.5", "--random", "0.5", "--whole", "-o", "splits/")
    loaded = datasets.load_dataset(str(tmp_path / "splits"), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {"top": 3, "bottom": 3, "random": 3, "whole": 5}
    assert loaded["top"]["question"] == ["Who directed Alien?", "Who directed Heat?", "What genre is Alien?"]


def test_jsonl_on_standard_input_is_a_dataset(curate: Curate, films_file: Path) -> None:
    result = curate("score", "-", "--by", "column:views", "-o", "s.parquet", "--json", input=films_file.read_text())
    assert json.loads(result.stdout)["rows"] == 6


def test_a_dry_run_writes_nothing(curate: Curate, scored: Path, films_file: Path, tmp_path: Path) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    assert curate("score", films_file, "--by", "column:views", "-o", "x.parquet", "--dry-run").exit_code == 0
    assert curate("select", scored, "--top", "0.5", "-o", "y.parquet", "--dry-run").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_the_plan_of_a_shard_has_its_rows_and_reads_none_of_them_without_need(curate: Curate, tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    rows = [{"question": f"Who is {n}?", "answer": "She", "views": n} for n in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1024)
    start = pq.read_metadata(path).row_group(2).column(0).dictionary_page_offset
    with path.open("r+b") as damaged:
        damaged.seek(start)
        damaged.write(bytes(100))
    plan = ("score", "many.parquet", "--by", "column:views", "-o", "shards/", "--dry-run")
    assert json.loads(curate(*plan, "--shard", "1/3", "--json").stdout)["rows"] == 1024
    assert "shard 3/3: 952 of 3000 examples of many.parquet" in curate(*plan, "--shard", "3/3").stdout


def test_a_plan_that_cannot_be_carried_out_says_so(curate: Curate, films_file: Path) -> None:
    run = curate("score", films_file, "--by", "column:veiws", "-o", "x.parquet", "--dry-run")
    assert run.exit_code == 1
    assert "Try: the column views" in run.stderr


def test_an_unfinished_run_is_told_as_such(curate: Curate, tmp_path: Path) -> None:
    (tmp_path / "run" / ".parts").mkdir(parents=True)
    (tmp_path / "run" / ".parts" / "1.json").write_text("{}")
    shown = curate("show", "run")
    assert shown.exit_code == 1
    assert "What is made in the folder run is not finished." in shown.stderr


@pytest.mark.parametrize("what", ["films.jsonl", "scored.parquet", "splits"])
def test_show_tells_what_is_in_a_file(curate: Curate, scored: Path, what: str) -> None:
    curate("select", scored, "--top", "0.5", "--bottom", "0.5", "-o", "splits/")
    shown = curate("show", what)
    assert shown.exit_code == 0
    assert "Question: Who directed Alien?\nAnswer: Ridley Scott" in shown.stdout
    assert json.loads(curate("show", what, "--json").stdout)["kind"] in ("dataset", "scored file", "splits")


def test_scoring_a_scored_file_again_adds_to_it(
    curate: Curate, scored: Path, tiny_model: Callable[[str], Path]
) -> None:
    result = curate("score", scored, "--by", "loss", "--model", tiny_model("llama"), "-o", "both.parquet")
    assert result.exit_code == 0
    names = pq.read_schema(scored.with_name("both.parquet")).names
    assert [n for n in names if n.startswith(("score_", "loss_"))] == [
        "score_views",
        "score_loss",
        "loss_nats",
        "loss_tokens",
        "loss_bytes",
        "loss_truncated",
        "loss_status",
    ]
    unnamed = curate("select", "both.parquet", "--top", "0.5", "-o", "x.parquet")
    assert unnamed.exit_code == 1
    assert "views, loss" in unnamed.stderr
    assert curate("select", "both.parquet", "--by", "loss", "--top", "0.5", "-o", "x.parquet").exit_code == 0


WRONG = {
    "missing file": ("score nowhere.tsv --by column:x -o o.parquet", "no file, folder or dataset 'nowhere.tsv'"),
    "a misspelt column": ("score films.jsonl --by column:veiws -o o.parquet", "Try: the column views"),
    "a misspelt column of a role": (
        "score films.jsonl --by column:views --question-column qestion -o o.parquet",
        "Try: --question-column question",
    ),
    "no such column": ("score films.jsonl --by column:pop -o o.parquet", "no column 'pop'"),
    "a score column of text": ("score films.jsonl --by column:subject -o o.parquet", "'Alien'"),
    "nothing can be scored": ("score films.jsonl --by column:nothing -o o.parquet", "could be scored: missing 6"),
    "the output is the input": ("score scored.parquet --by column:views -o scored.parquet", "would replace the input"),
    "a split onto its source": ("select scored.parquet --top 0.5 -o scored.parquet", "would replace the input"),
    "splits onto their source": ("select scored.parquet --top 0.5 --whole -o .", "would replace the input"),
    "a device that is not there": (
        "score films.jsonl --by loss --model TINY --device nowhere -o o.parquet",
        "cannot be put on the device 'nowhere'",
    ),
    "popularity of text": (
        "validate scored.parquet --eval films.jsonl --by subject --model TINY -o run",
        "not numbers",
    ),
    "a learning rate below 0": (
        "validate scored.parquet --eval films.jsonl --model TINY --learning-rate -1 -o run",
        "--learning-rate -1.0 is out of range",
    ),
    "all of an arm held out": (
        "validate scored.parquet --eval films.jsonl --model TINY --held-out 1 -o run",
        "--held-out 1.0 is out of range.\nExpected: a share, such as 0.1",
    ),
    "a split named twice": (
        "validate scored.parquet ./scored.parquet --eval films.jsonl --model TINY -o run",
        "scored.parquet is named twice",
    ),
    "a run folder of somebody else": (
        "validate scored.parquet --eval films.jsonl --model TINY -o .",
        "did not make",
    ),
    "unknown estimator": ("score films.jsonl --by fame -o o.parquet", "no estimator 'fame'"),
    "loss without a model": ("score films.jsonl --by loss -o o.parquet", "needs a model"),
    "a model that is nowhere": ("score films.jsonl --by loss --model ./none -o o.parquet", "no such folder"),
    "an output that is no Parquet": ("score films.jsonl --by column:views -o o.csv", "does not end in .parquet"),
    "an output below a file": ("score films.jsonl --by column:views -o films.jsonl/o.parquet", "not a folder"),
    "top 0": ("select scored.parquet --top 0 -o o.parquet", "--top 0 is not a size"),
    "top 1.5": ("select scored.parquet --top 1.5 -o o.parquet", "--top 1.5 is not a size"),
    "top word": ("select scored.parquet --top half -o o.parquet", "--top half is not a size"),
    "more than there are": ("select scored.parquet --top 7 -o o.parquet", "only 5 can be ranked"),
    "nothing asked for": ("select scored.parquet -o o.parquet", "Nothing was asked for"),
    "two splits to one file": ("select scored.parquet --top .5 --bottom .5 -o o.parquet", "2 splits do not fit"),
    "no score": ("select films.jsonl --top 0.5 -o o.parquet", "has no score"),
    "unknown score": ("select scored.parquet --by loss --top 0.5 -o o.parquet", "no score named 'loss'"),
    "missing is an error": (
        "select scored.parquet --missing error --top 0.5 -o o.parquet",
        "1 of 6 rows have no score",
    ),
    "all scores null": ("select nulls.parquet --top 0.5 -o o.parquet", "All scores are null"),
    "text scores": ("select texts.parquet --top 0.5 -o o.parquet", "not numbers"),
    "no such split": ("validate none/ --eval films.jsonl --model ./none -o run", "no split 'none/'"),
    "no such run": ("show nowhere", "no file, folder or dataset"),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_wrong_input_gets_one_message_and_exit_1_and_nothing_is_written(
    curate: Curate,
    scored: Path,
    films: list[dict[str, Any]],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    what: str,
) -> None:
    import pyarrow as pa

    for name, value in (("nulls", None), ("texts", "high")):
        pq.write_table(pa.Table.from_pylist([{**row, "score_x": value} for row in films]), tmp_path / f"{name}.parquet")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    command, message = WRONG[what]
    result = curate(*(tiny_model("llama") if word == "TINY" else word for word in command.split()))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_usage_errors_end_with_exit_code_2(curate: Curate) -> None:
    assert curate("score").exit_code == 2
    assert curate("select", "a.parquet", "--tip", "0.3").exit_code == 2


def test_a_stopped_score_goes_on_where_it_was(
    films: list[dict[str, Any]], tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import curate
    from curate import scoring
    from curate.estimators.loss import LossEstimator

    monkeypatch.setattr(scoring, "CHUNK", 2)
    asked: list[int] = []
    honest = LossEstimator.score

    def stops_at_the_third_chunk(self: LossEstimator, examples: Any) -> Any:
        asked.append(len(examples))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return honest(self, examples)

    arguments: dict[str, Any] = {"by": "loss", "model": tiny_model("llama"), "device": "cpu"}
    whole = curate.score(films, **arguments, output=tmp_path / "whole.parquet")
    monkeypatch.setattr(LossEstimator, "score", stops_at_the_third_chunk)
    with pytest.raises(KeyboardInterrupt):
        curate.score(films, **arguments, output=tmp_path / "stopped.parquet")
    asked.clear()
    stopped = curate.score(films, **arguments, output=tmp_path / "stopped.parquet")
    assert asked == [2], "two of the three chunks were kept"
    assert pq.read_table(stopped).equals(pq.read_table(whole))
    assert not list(tmp_path.glob(".*.parts"))


def test_real_popqa_end_to_end(curate: Curate, popqa: Path, stories: Path, tmp_path: Path) -> None:
    def run(line: str) -> Any:
        result = curate(*line.format(popqa=popqa, stories=stories).split())
        assert result.exit_code == 0, result.stderr
        return result

    run("score {popqa} --by column:s_pop -o s.parquet")
    run("select s.parquet --top 0.3 -o top.parquet")
    assert pq.read_metadata(tmp_path / "top.parquet").num_rows == 894
    run("select s.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole -o splits/")
    run("validate splits/ --eval top.parquet --model {stories} --limit 8 --seeds 1 --max-steps 2 -o run/")
    assert json.loads(run("show run --json").stdout)["kind"] == "run"
