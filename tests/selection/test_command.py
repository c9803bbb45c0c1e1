"""`curate select` and `curate show --compare` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Curate = Callable[..., Any]


@pytest.fixture
def scored(curate: Curate, films: list[dict[str, Any]], tmp_path: Path) -> Path:
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    assert curate("score", "films.jsonl", "--by", "column:views", "-o", "scored.parquet", "--quiet").exit_code == 0
    return tmp_path / "scored.parquet"


def test_the_outcome_is_one_json_object_with_its_explanation(curate: Curate, scored: Path) -> None:
    result = curate("select", scored, "--top", "0.5", "--bottom", "0.5", "-o", "splits/", "--json")
    content = json.loads(result.stdout)
    assert content["pool"] == 5
    assert [split["rows"] for split in content["splits"]] == [3, 3]
    assert content["explanation"]["overlap"] == [{"a": "top", "b": "bottom", "rows": 1}]
    assert content["explanation"]["relation"]["splits"]["top"]["shifts"][0]["value"] == "director"
    assert "6 rows by views, 1 without a score (left out)" in result.stderr


def test_a_person_reads_the_mix_and_the_rows_in_common(curate: Curate, scored: Path) -> None:
    shown = curate("select", scored, "--top", "0.5", "--bottom", "0.5", "-o", "splits/").stdout
    assert "Rows in common: top and bottom: 1" in shown
    assert "mix of relation" in shown
    assert "mix of answers" in shown


def test_a_cut_among_rows_without_a_score_says_so(curate: Curate, scored: Path) -> None:
    rows = json.loads(curate("show", scored, "--json").stdout)["rows"]
    shown = curate("select", scored, "--top", rows, "--missing", "lowest", "-o", "all.parquet").stdout
    assert "no score" in shown
    assert "nan" not in shown


def test_a_held_out_set_and_a_test_set_are_no_arms(
    curate: Curate, scored: Path, tmp_path: Path, films: list[dict[str, Any]]
) -> None:
    from curate.validation.arms import read_inputs

    result = curate("select", scored, "--holdout", "2", "--by", "subject", "--whole", "-o", "splits/", "--json")
    assert [split["use"] for split in json.loads(result.stdout)["splits"]] == ["training", "evaluation"]
    whole, held = (
        set(pq.read_table(tmp_path / "splits" / f"{n}.parquet")["subject"].to_pylist()) for n in ("whole", "holdout")
    )
    assert whole & held == set()
    assert [arm.name for arm in read_inputs(tmp_path / "splits", films).arms] == ["whole"]


def test_the_controlled_halves_of_a_raw_file_in_one_command(curate: Curate, popqa: Path, tmp_path: Path) -> None:
    command = "--by column:s_pop --where relation=country,sport,occupation --controlled-by relation -o c/ --json"
    content = json.loads(curate("select", popqa, *command.split()).stdout)
    sizes = {split["split"]: split["rows"] for split in content["splits"]}
    assert list(sizes) == ["top", "bottom", "test"]
    assert sizes["top"] == sizes["bottom"]
    for name in ("top", "bottom"):
        table = pq.read_table(tmp_path / "c" / f"{name}.parquet")
        firsts = {
            (r, json.loads(a)[0])
            for r, a in zip(table["prop"].to_pylist(), table["possible_answers"].to_pylist(), strict=True)
        }
        assert sorted(relation for relation, _ in firsts) == ["country", "occupation", "sport"]
    assert content["explanation"]["relation"]["splits"]["top"]["distinct"] == 3


def test_a_global_top_of_popqa_says_how_it_changes_the_mix(curate: Curate, popqa: Path) -> None:
    content = json.loads(
        curate("select", popqa, "--by", "column:s_pop", "--top", "30%", "-o", "t.parquet", "--json").stdout
    )
    relation = content["explanation"]["relation"]["splits"]["top"]
    assert relation["moved"] == pytest.approx(0.252, abs=0.001)
    assert relation["shifts"][0]["value"] == "country"


def test_a_budget_counts_with_a_real_tokenizer(curate: Curate, scored: Path, stories: Path) -> None:
    arguments = ("--budget-tokens", "60", "--tokenizer", stories, "-o", "b.parquet", "--json")
    content = json.loads(curate("select", scored, *arguments).stdout)
    assert content["splits"][0]["rows"] >= 1
    assert 0 < content["splits"][0]["tokens"] <= 60
    assert curate("select", scored, *arguments[:1], 1, *arguments[2:]).exit_code == 1


def test_compare_shows_files_side_by_side(curate: Curate, scored: Path) -> None:
    curate("select", scored, "--top", "0.5", "--bottom", "0.5", "-o", "splits/")
    arguments = ("show", "--compare", "splits/top.parquet", "splits/bottom.parquet")
    content = json.loads(curate(*arguments, "--json").stdout)
    assert [split["rows"] for split in content["splits"]] == [3, 3]
    assert content["overlap"] == [{"a": "top", "b": "bottom", "rows": 1, "subjects": 1}]
    assert content["scores"]["views"]["top"]["quantiles"]["0"] == 500
    assert content["relation"]["splits"]["bottom"]["distinct"] == 2
    assert content["answers"]["splits"]["bottom"]["moved"] == pytest.approx(2 / 3)
    assert "In common" in curate(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("select scored.parquet --band 70:30 -o o.parquet", "is not a band"),
        ("select scored.parquet --top .5 --order random -o o.parquet", "There is no --order 'random'"),
        ("select scored.parquet --top .5 --stratify-by town -o o.parquet", "no column 'town'"),
        ("select scored.parquet --top .5 --stratify-by answers -o o.parquet", "is no group"),
        ("select scored.parquet --controlled-by town -o o", "no column 'town'"),
        ("select scored.parquet --whole --where relation -o o.parquet", "is not a condition"),
        ("select scored.parquet --whole --where relation=town -o o.parquet", "No row has 'town'"),
        ("select scored.parquet --top .5 --min-score 1e9 -o o.parquet", "No score lies in the range"),
        ("select scored.parquet --top .5 --min-score 3 --max-score 2 -o o.parquet", "is above --max-score"),
        ("select scored.parquet --holdout 0.9 --whole -o o", "leaves no row"),
        ("select scored.parquet --holdout 0.2 --holdout-by town --whole -o o", "no column 'town'"),
        ("select scored.parquet --budget-tokens 10 -o o.parquet", "needs a tokenizer"),
        ("select scored.parquet --budget-tokens 9 --tokenizer x --stratify-by relation -o o", "shared out over groups"),
        ("select scored.parquet --budget-tokens 9 --tokenizer ./nowhere -o o.parquet", "there is no such folder"),
        ("select scored.parquet --budget-tokens 9 --tokenizer . -o o.parquet", "no config.json and no tokenizer.json"),
        ("select scored.parquet --top .5 --by column:fame -o o.parquet", "no column 'fame'"),
        ("select films.jsonl --top .5 --by column:fame -o o.parquet", "no column 'fame'"),
        ("select scored.parquet --top .5 --by views --by views -o o.parquet", "--by views is given twice"),
        ("select scored.parquet --top .5 --public -o o.parquet", "--public without --push-to-hub"),
        ("select scored.parquet --top .5 --by views --by fame -o o.parquet", "no score named 'fame'"),
        ("validate scored.parquet --eval films.jsonl --model m -o films.jsonl --dry-run", "films.jsonl is a file"),
        ("select scored.parquet --top 0.5 -o top.xlsx", "Try: -o top.parquet"),
        ("select scored.parquet --top 0.5 --whole -o top.parquet --dry-run", "2 splits do not fit the one file"),
        ("select scored.parquet --top 0.5 -o scored.parquet --dry-run", "would replace the input"),
        ("select scored.parquet --holdout 0.2 --holdout-by answers --whole -o o", "is no group"),
        ("select scored.parquet --top .5 --holdout-by relation -o o", "--holdout-by without --holdout"),
        ("select scored.parquet --top .5 --tokenizer x -o o", "--tokenizer without --budget-tokens"),
        ("select scored.parquet --controlled-by relation --stratify-by subject -o o", "inside its own groups"),
        ("select scored.parquet --top .5 --where relationn=director -o o", "Try: --where relation=VALUE"),
        ("select films.jsonl --top .5 --by views -o o", "Try: --by column:views"),
        ("select scored.parquet --top .5 -o top.csv.gz", "Try: -o top.parquet"),
        ("select scored.parquet --budget-tokens 0 --tokenizer x -o o", "buys nothing"),
        (f"select {'a' * 300} --top .5 -o o.parquet", "cannot be that of a file"),
        (f"show {'a' * 300}", "cannot be that of a file"),
        ("show scored.parquet films.jsonl", "2 files were named"),
        ("show --compare scored.parquet", "nothing to compare"),
    ],
)
def test_what_cannot_be_meant_is_said_and_nothing_is_written(
    curate: Curate, scored: Path, arguments: str, message: str, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    result = curate(*arguments.split())
    assert result.exit_code == 1, result.stdout
    assert message in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_of_splits_is_nothing_to_select_from(curate: Curate, scored: Path) -> None:
    curate("select", scored, "--top", 0.5, "--bottom", 0.5, "-o", "splits/")
    for command in (("select", "splits/", "--top", 0.5), ("score", "splits/", "--by", "column:views")):
        result = curate(*command, "-o", "again.parquet")
        assert result.exit_code == 1
        assert "is a folder of splits: bottom.parquet, top.parquet" in result.stderr
    curate("select", scored, "--top", 0.5, "-o", "one/")
    for name, content in (("a", b"[]"), ("b", b"\xff"), ("c", b"{}")):  # manifests of others
        (scored.parent / "one" / f"{name}.manifest.json").write_bytes(content)
    assert curate("select", "one/", "--top", 2, "-o", "again.parquet").exit_code == 0


def test_rows_that_a_format_has_no_place_for_are_told(curate: Curate, scored: Path, tmp_path: Path) -> None:
    rows = [{"question": q, "answers": a, "score_x": s} for q, a, s in [("a", ["x"], 1), ("b", [], 3), ("c", None, 2)]]
    (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = curate("select", "some.jsonl", "--whole", "--format", "alpaca", "-o", "out.jsonl", "--json")
    assert json.loads(result.stdout)["splits"][0]["without_answer"] == 2
    assert "2 of whole without a question or an answer not written" in result.stderr
    none = curate("select", "some.jsonl", "--top", 2, "--format", "alpaca", "-o", "none.jsonl")
    assert none.exit_code == 1
    assert "No row of top has both" in none.stderr
    assert not (tmp_path / "none.jsonl").exists()


def test_show_takes_rows_whose_ids_repeat_or_are_changed(curate: Curate, scored: Path, tmp_path: Path) -> None:
    table = pq.read_table(scored)
    pq.write_table(table.replace_schema_metadata(), tmp_path / "other.parquet")
    curate("select", scored, "--whole", "-o", "a/")
    curate("select", scored, "--top", 0.5, "-o", "a/b/")
    for name in ("other.parquet", "a/*/*.parquet", "a/*.parquet"):
        assert curate("show", name).exit_code == 0


def test_compare_counts_subjects_as_a_holdout_does(curate: Curate, tmp_path: Path) -> None:
    for name, subjects in (("one", ["Paris", "Rome", ""]), ("two", [" paris ", "ROME", ""])):
        rows = [{"question": s, "answer": "x", "subject": s, "score_n": n} for n, s in enumerate(subjects)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = json.loads(curate("show", "--compare", "one.jsonl", "two.jsonl", "one.jsonl", "--json").stdout)
    assert [split["distinct_subjects"] for split in found["splits"]] == [2, 2, 2]
    assert [pair["subjects"] for pair in found["overlap"]] == [2, 2, 2]
    assert [pair["rows"] for pair in found["overlap"]] == [1, 3, 1]
    assert [s["measured"] for s in found["scores"]["n"].values()] == [3, 3, 3]


def test_a_folder_may_have_a_dot_in_its_name(curate: Curate, scored: Path, tmp_path: Path) -> None:
    (tmp_path / "made.before").mkdir()
    for name in ("v1.2", "splits.v2", "made.before"):
        planned = curate("select", scored, "--top", 0.5, "-o", name, "--dry-run")
        assert f"would write {name}" in planned.stdout
        assert curate("select", scored, "--top", 0.5, "-o", name).stdout.splitlines()[-1] == name
        assert (tmp_path / name / "top.parquet").is_file()
