from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
from curate.errors import SettingError
from curate.settings import FinetuneConfig


def test_arms_may_be_held_in_memory(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    result = curate.validate(
        {"films": films},
        eval=films,
        model=tiny_model("gpt2"),
        output=tmp_path / "run",
        seeds=1,
        config=FinetuneConfig(learning_rate=1e-2, max_steps=2, batch_size=4),
    )
    assert result.names == ["base", "films"]
    assert (
        not (tmp_path / "run" / "curves.parquet").exists()
        or pq.read_table(tmp_path / "run" / "curves.parquet").num_rows == 0
    )


def test_a_logger_that_is_not_here_is_told_before_anything_is_trained(
    films: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="no logger 'tensorbored' here"):
        curate.validate({"a": films}, eval=films, model="none", output=tmp_path / "run", report_to="tensorbored")


def test_mmlu_history_from_scores_to_the_report(curate: Callable[..., Any], shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    train = shared / "data" / "mmlu" / "val"
    model = shared / "models" / "stories260K"
    for name, files in {"train": train, "test": train.parent / "dev"}.items():
        result = curate("score", f"{files}/prehistory_*.csv", "--by", "loss", "--model", model, "-o", f"{name}.parquet")
        assert result.exit_code == 0, result.stderr
    result = curate("select", "train.parquet", "--top", "0.5", "--bottom", "0.5", "-o", "splits/")
    assert result.exit_code == 0, result.stderr
    options = "--eval test.parquet -o run --seeds 1 --max-steps 2 --batch-size 4 --limit 8 --json"
    result = curate("validate", "splits/", "--model", model, *options.split())
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["config"]["template"]["name"] == "mmlu"
    assert [arm["arm"] for arm in summary["arms"]] == ["base", "top", "bottom"]
    rows = pq.read_table("run/predictions.parquet").to_pylist()
    assert {row["prediction"] for row in rows} <= set("ABCD")
    assert all(row["correct"] == (row["answers"][0] == _choice(row)) for row in rows)
    assert Path("run/report.html").is_file()


def _choice(row: dict[str, Any]) -> str:
    """The text of the letter that was chosen, looked up in the scored test file."""
    scored = {r["curate_id"]: r for r in pq.read_table("test.parquet").to_pylist()}
    return str(_choices(scored[row["id"]])["ABCD".index(row["prediction"])])


def _choices(row: dict[str, Any]) -> list[Any]:
    return row["choices"] if "choices" in row else [row[letter] for letter in "ABCD"]
