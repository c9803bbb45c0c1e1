"""Shards that are scored apart and put together are the file that one run writes, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.data.files import ParquetStream, write_json
from curate.errors import DataError, EstimatorError, SettingError
from curate.scoring import CHUNK
from curate.shards import Shard

Tiny = Callable[[str], Path]
ROWS = 3 * CHUNK + 40
SAME = {"question": "Who wrote Emma?", "answers": ["Jane Austen", "Austen"], "views": 7}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows of four chunks; one example is in each of them, and views are unknown in the last."""
    rows = [{"question": f"Who is {n}?", "answers": [f"no. {n % 9}"], "views": n} for n in range(ROWS)]
    rows[5::CHUNK] = [SAME] * 4
    rows[-1]["views"] = None
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def score_shards(data: Any, folder: Path, count: int, **settings: Any) -> Path:
    settings = {"by": "column:views"} | settings
    for number in range(1, count + 1):
        curate.score(data, shard=(number, count), output=folder / f"{number}.parquet", **settings)
    return folder


def both(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), path.with_name(f"{path.name}.manifest.json").read_bytes()


@pytest.mark.parametrize(("count", "kind"), [(1, "jsonl"), (3, "parquet"), (6, "jsonl")])
def test_the_merged_file_and_its_manifest_are_those_of_one_run(
    data: Path, tmp_path: Path, count: int, kind: str
) -> None:
    if kind == "parquet":  # in row groups that are no chunks
        pq.write_table(curate.read(data).table, tmp_path / "data.parquet", row_group_size=1000)
        data = tmp_path / "data.parquet"
    whole = curate.score(data, by="column:views", output=tmp_path / "whole.parquet")
    shards = score_shards(data, tmp_path / "shards", count)
    merged = curate.merge(shards, tmp_path / "shards" / "merged.parquet")
    assert both(merged) == both(whole)
    assert both(curate.merge(shards, merged)) == both(whole), "the merged file is no shard"
    ids = pq.read_table(merged)["curate_id"].to_pylist()
    assert [id_.partition("-")[2] for id_ in ids[5::CHUNK]] == ["", "2", "3", "4"]


def test_a_shard_has_the_rows_and_ids_it_has_in_the_whole(data: Path, tmp_path: Path) -> None:
    whole = curate.score(data, by="column:views")
    shards = [curate.score(data, by="column:views", shard=f"{n}/5") for n in range(1, 6)]
    assert [len(shard) for shard in shards] == [0, CHUNK, CHUNK, CHUNK, 40]
    assert pa.concat_tables(shards).replace_schema_metadata().equals(whole.replace_schema_metadata())


def test_losses_are_the_same_to_the_last_bit(tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.scoring.CHUNK", 4)
    rows = [{"question": f"Where is {'very ' * (n % 3)}{n}?", "answer": f"at {n}"} for n in range(18)]
    settings: dict[str, Any] = {"by": "loss", "model": tiny_model("llama"), "device": "cpu"}
    whole = curate.score(rows, output=tmp_path / "whole.parquet", **settings)
    merged = curate.merge(score_shards(rows, tmp_path / "shards", 2, **settings), tmp_path / "merged.parquet")
    assert both(merged) == both(whole)


@pytest.fixture
def shards(data: Path, tmp_path: Path) -> Path:
    return score_shards(data, tmp_path / "shards", 3)


def test_a_missing_shard_is_named_with_the_option_that_makes_it(shards: Path, tmp_path: Path) -> None:
    (shards / "2.parquet").unlink()
    with pytest.raises(DataError, match="1 of 3 shards are missing: 2/3") as error:
        curate.merge(shards, tmp_path / "merged.parquet")
    assert "--shard 2/3" in str(error.value)
    assert not (tmp_path / "merged.parquet").exists()


def test_a_shard_counts_once_however_it_is_named_but_a_copy_is_refused(shards: Path, tmp_path: Path) -> None:
    curate.merge([shards, shards / "1.parquet", f"{shards}/*.parquet"], tmp_path / "merged.parquet")
    (shards / "copy.parquet").write_bytes((shards / "1.parquet").read_bytes())
    with pytest.raises(DataError, match=r"more than once: 1\.parquet, copy\.parquet"):
        curate.merge(shards, tmp_path / "merged.parquet")


def test_shards_of_other_data_are_refused_by_what_differs(shards: Path, data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text().replace("Who is 9?", "Who was 9?"))
    curate.score(data, by="column:views", shard=(3, 3), output=shards / "3.parquet", force=True)
    with pytest.raises(DataError, match=r"1\.parquet and 3\.parquet were not made alike: input\.sha256 is"):
        curate.merge(shards, tmp_path / "merged.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(1), r"2\.parquet has \d+ rows and should have"),
        (lambda table: table.set_column(3, "curate_id", pa.array(["a"] * len(table))), "the id 'a'"),
    ],
)
def test_a_shard_with_other_rows_is_refused(shards: Path, tmp_path: Path, change: Any, message: str) -> None:
    table = pq.read_table(shards / "2.parquet")
    stream = ParquetStream(shards / "2.parquet", table.schema)
    stream.write(change(table))
    stream.close(json.loads((shards / "2.parquet.manifest.json").read_text()))
    with pytest.raises(DataError, match=message):
        curate.merge(shards, tmp_path / "merged.parquet")


def test_what_is_no_shard_is_refused(shards: Path, data: Path, tmp_path: Path) -> None:
    curate.score(data, by="column:views", output=shards / "whole.parquet")
    with pytest.raises(DataError, match=r"whole\.parquet is not a shard"):
        curate.merge(shards, tmp_path / "merged.parquet")
    (shards / "whole.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"whole\.parquet cannot be read"):
        curate.merge(shards, tmp_path / "merged.parquet")
    with pytest.raises(DataError, match="There is no shard 'nowhere/'"):
        curate.merge("nowhere/", tmp_path / "merged.parquet")


def test_nothing_scored_at_all_is_told_when_the_shards_are_merged(tmp_path: Path) -> None:
    rows = [{"question": "Who?", "answer": "She", "views": None}]
    shards = score_shards(rows, tmp_path / "shards", 2)
    with pytest.raises(EstimatorError, match=r"missing 1 \(views\)"):
        curate.merge(shards, tmp_path / "merged.parquet")
    curate.merge(shards, tmp_path / "merged.parquet", allow_unmeasured=True)


def test_the_command_names_the_shards_in_a_folder(curate: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        result = curate("score", data, "--by", "column:views", "--shard", f"{number}/2", "-o", "shards/", "--json")
        assert result.exit_code == 0
    assert json.loads(result.stdout)["rows"] == ROWS - 2 * CHUNK
    assert sorted(path.name for path in Path("shards").glob("*.parquet")) == [
        "shard-1-of-2.parquet",
        "shard-2-of-2.parquet",
    ]
    result = curate("merge", "shards/", "-o", "scored.parquet", "--max-missing", "0", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["unmeasured"] == 1
    write_json({}, tmp_path / "shards" / "notes.json")  # other files in the folder do not matter
    assert curate("merge", "shards/", "-o", "scored.parquet").exit_code == 0


def test_shards_are_whole_chunks_in_order_and_none_is_much_larger() -> None:
    for rows in (0, 1, CHUNK, 10 * CHUNK + 1, 97 * CHUNK):
        stretches = [Shard(n, 8).stretch(rows, CHUNK) for n in range(1, 9)]
        assert [row for stretch in stretches for row in stretch] == list(range(rows))
        assert all(stretch.start % CHUNK == 0 or not stretch for stretch in stretches)
        sizes = [len(stretch) for stretch in stretches]
        assert max(sizes) - min(sizes) <= 2 * CHUNK


@pytest.mark.parametrize("wrong", ["0/8", "9/8", "1/0", "3", "a/b", (0, 1)])
def test_a_shard_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(SettingError, match="shard"):
        Shard.of(wrong)
