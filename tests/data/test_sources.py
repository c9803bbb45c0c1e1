"""Where datasets come from: URLs, streams, the real files beside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import curate
from curate.errors import DataError

ROWS = [{"question": "Who wrote Emma?", "answer": "Jane Austen"}, {"question": "Where?", "answer": "Steventon"}]
EXPECTED = [(row["question"], (row["answer"],)) for row in ROWS]


def _pairs(data: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.question, e.answers) for e in curate.read(data).examples()]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server for the files in `tmp_path`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_on_the_web_is_read_like_one_on_the_disk(tmp_path: Path, web: str) -> None:
    import gzip

    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    assert _pairs(f"{web}/a.jsonl.gz?download=1") == EXPECTED
    with pytest.raises(DataError, match="cannot be read"):
        curate.read(f"{web}/none.jsonl")


HUB_READS = """
import json, sys
import curate
found = []
for name, split in json.loads(sys.argv[1]):
    try:
        data = curate.read(name, split=split)
        found.append([data.fingerprint, [e.question for e in data.examples()]])
    except curate.CurateError as error:
        found.append([type(error).__name__, error.found])
print(json.dumps(found))
"""


def test_config_split_and_revision_of_a_hub_dataset(tmp_path: Path) -> None:
    from tests.hub_server import REVISION, HubHandler

    asked = [("me/facts:easy", "test"), ("me/facts:hard@main", None), ("me/facts:easy", "train[:2]")]
    wrong = [("me/facts", None), ("me/facts:easy", "nope"), ("me/nothing", None)]
    with ThreadingHTTPServer(("127.0.0.1", 0), HubHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_XET": "1",
        }
        found = _hub_reads(asked + wrong, environment)
        server.shutdown()
    expected = [
        [f"me/facts:easy@{REVISION}", ["d"]],
        [f"me/facts:hard@main@{REVISION}", ["h"]],
        [f"me/facts:easy@{REVISION}", ["a", "b"]],
    ]
    assert found[:3] == expected
    for (kind, message), named in zip(found[3:], ["'easy', 'hard'", "'train', 'test'", "'me/nothing'"], strict=True):
        assert kind == "DataError"
        assert named in message
    asked[1] = (f"me/facts:hard@{REVISION}", None)
    expected[1] = [f"me/facts:hard@{REVISION}@{REVISION}", ["h"]]
    others = [(f"me/facts:easy@{name}", None) for name in ("2" * 40, "v1.0", REVISION[:7])]
    for offline in ("0", "1"):  # the server is gone, or is not to be asked
        found = _hub_reads([*asked, *others, ("me/nothing", None)], {**environment, "HF_HUB_OFFLINE": offline})
        assert found[:3] == expected
        assert all(f"only me/facts@{REVISION} is known" in message for _, message in found[3:6])
        assert "no such dataset was downloaded before" in found[6][1]


def _hub_reads(asked: list[tuple[str, str | None]], environment: dict[str, str]) -> list[Any]:
    command = [sys.executable, "-c", HUB_READS, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return list(json.loads(done.stdout))


def test_a_glob_in_any_storage_that_fsspec_knows_is_one_table() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for number, row in enumerate(ROWS):
        store.pipe(f"/facts/{number}.jsonl", json.dumps(row).encode())
    assert _pairs("memory://facts/*.jsonl") == EXPECTED
    with pytest.raises(DataError, match="No file matches"):
        curate.read("memory://facts/*.csv")


def test_a_stream_comes_back_as_a_stream() -> None:
    from datasets import Dataset, IterableDataset

    stream = Dataset.from_list([{**row, "views": n} for n, row in enumerate(ROWS)]).to_iterable_dataset()
    assert _pairs(stream) == EXPECTED
    scored = curate.score(stream, by="column:views")
    assert isinstance(scored, IterableDataset)
    assert [row["score_views"] for row in scored] == [0.0, 1.0]


def test_a_dataset_of_several_splits_asks_for_one() -> None:
    from datasets import Dataset, DatasetDict

    with pytest.raises(DataError, match=r"data\['train'\]"):
        curate.read(DatasetDict(train=Dataset.from_list(ROWS)))


@pytest.mark.parametrize(
    ("name", "rows", "preset", "first"),
    [
        ("popqa/popQA.tsv", 2_981, "popqa", ("George Rankin", "occupation")),
        ("popqa/popqa_questions_14267.json", 14_267, "popqa", ("George Rankin", "occupation")),
        ("entityquestions/test", 22_075, "entityquestions", ("Joe Bianchi", "P106")),
        ("mmlu/dev", 20, "mmlu", (None, "high_school_european_history")),
        ("mmlu/val", 101, "mmlu", (None, "high_school_european_history")),
        ("mmlu/test", 930, "mmlu", (None, "high_school_european_history")),
        ("mmlu_hub_layout/dev", 20, "mmlu", (None, "high_school_european_history")),
        ("mmlu_hub_layout/test", 930, "mmlu", (None, "high_school_european_history")),
    ],
)
def test_real_files_are_recognised_with_no_option(
    shared: Path, name: str, rows: int, preset: str, first: tuple[str | None, str]
) -> None:
    data = curate.read(shared / "data" / name)
    examples = data.examples()
    assert (len(data), data.roles.preset) == (rows, preset)
    assert (examples[0].subject, examples[0].relation) == first
    assert all(example.answers for example in examples)
    named = [example for example in examples if example.relation and (preset == "mmlu" or example.subject)]
    assert len(named) >= rows - 3  # three of the questions of PopQA name nobody
    assert f"| `{name}` | {rows:,} | {preset} |" in (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()


def test_of_several_files_some_may_have_no_rows(tmp_path: Path) -> None:
    table = pa.table({"question": ["Who?"], "answer": ["Ann"]})
    for kind in ("parquet", "csv"):
        (tmp_path / kind).mkdir()
    for name, part in (("a", table[:0]), ("b", table), ("c", table[:0])):
        pq.write_table(part, tmp_path / "parquet" / f"{name}.parquet")
        csv.write_csv(part, tmp_path / "csv" / f"{name}.csv")
    for kind in ("parquet", "csv"):
        assert _pairs(tmp_path / kind) == [("Who?", ("Ann",))]
        assert len(curate.read(tmp_path / kind)) == 1
        with pytest.raises(DataError, match="holds no examples"):
            curate.read(tmp_path / kind / f"a.{kind}")
