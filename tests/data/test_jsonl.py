"""Lines of JSON that Arrow reads give the table that Python makes of them; others are left to Python."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.data.json_rows import lines_by_arrow, table_from_rows

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4) | st.just("2020-01-01")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    max_leaves=4,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "A"]), VALUES, max_size=3), min_size=2, max_size=5)


def read_both(content: bytes, path: Path) -> tuple[pa.Table | None, pa.Table]:
    """What Arrow reads of a file, and what Python makes of its lines."""
    path.write_bytes(content)
    rows = [json.loads(line) for line in content.decode().split("\n") if line.strip()]
    return lines_by_arrow(path), table_from_rows(rows, path)


@given(ROWS)
def test_what_arrow_reads_is_what_python_reads(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    content = "\n".join(map(json.dumps, rows)).encode()
    for beginning in (40, 1 << 20):  # the types of the first lines, or of all, are what is tried first
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("curate.data.json_rows.BEGINNING", beginning)
            fast, careful = read_both(content, tmp_path_factory.getbasetemp() / "rows.jsonl")
        if fast is not None:
            assert repr(fast.to_pylist()) == repr(careful.to_pylist())


def test_plain_rows_are_read_fast_and_texts_stay_texts(tmp_path: Path) -> None:
    content = '{"q": "2020-01-01", "n": 1, "l": ["12:00"]}\n\n{"q": "é\\n", "n": null, "l": []}\n'.encode()
    fast, careful = read_both(content, tmp_path / "rows.jsonl")
    assert fast == careful


@pytest.mark.parametrize("late", ['{"a": 0.5}', '{"a": 2, "b": "2020-01-01"}', '{"b": {"x": [1]}, "a": null}'])
def test_lines_unlike_the_first_ones_are_read_fast_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    monkeypatch.setattr("curate.data.json_rows.BEGINNING", 20)
    fast, careful = read_both(('{"a": 1}\n' * 9 + late + "\n").encode(), tmp_path / "rows.jsonl")
    assert fast is not None
    assert fast.schema == careful.schema
    assert repr(fast.to_pylist()) == repr(careful.to_pylist())


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1}\n{"a": "1"}\n',
        b'{"a": 9007199254740993}\n{"a": 0.5}\n',
        b'{"a": [9007199254740993, 0.5]}\n{"a": [1]}\n',
        b'{"a": ["x", null]}\n{"a": ["y"]}\n',
        b'{"a": [\n null]}\n{"a": ["y"]}\n',
        b'{"a": "\xff"}\n{"a": "x"}\n',
        b'{"data": [{"a": 1}, {"a": 2}]}\n',
        b'[{"a": 1}, {"a": 2}]\n',
        b'{"a": 1}\n{"a": \n',
        b'{"a": 1, "a": 2}\n{"a": 1}\n',
        b"{}\n{}\n",
        b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n',
    ],
)
def test_the_rest_is_left_to_python(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert lines_by_arrow(path) is None
    assert lines_by_arrow(content) is None


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_same_lines_are_the_same_table_from_a_file_from_bytes_and_compressed(tmp_path: Path, mark: bytes) -> None:
    content = mark + b'{"question": "Who?", "answer": ["Ann"]}\n{"question": "Where?", "answer": ["here", null]}\n'
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content))
    plain, packed = (curate.read(tmp_path / name) for name in ("a.jsonl", "b.jsonl.gz"))
    assert plain.table == packed.table
    assert plain.fingerprint == packed.fingerprint == hashlib.sha256(content).hexdigest()
    assert plain.table["answer"].to_pylist() == [["Ann"], ["here", None]]
