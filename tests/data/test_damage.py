"""Files that rot: whatever is flipped, cut off, lost or of another type, there are the right rows or one message."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.checkpoint import Checkpoint
from curate.cli.tables import shown_tables
from curate.data.files import manifest_path
from curate.data.stores import SEAL, check_seal, write_table
from curate.data.table import read
from curate.errors import CurateError, DataError
from curate.recipes.run import Ledger
from curate.selection.select import select
from curate.show import describe
from curate.validation.arms import read_splits

FULL = "CURATE_FULL_TESTS" in os.environ
MUTATIONS = 20_000 if FULL else 500
OTHERS: tuple[Any, ...] = (None, True, -1, 10**12, 1.5, "x", "", [], ["x"], {}, {"x": 1}, [[]])


@pytest.fixture(autouse=True)
def no_wait() -> Iterator[None]:
    signal.alarm(600)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored file, its splits and its shards."""
    folder = tmp_path_factory.mktemp("made")
    rows = [
        {"question": f"Who made film {n}?", "answers": [f"Ann {n}", "Ann"], "relation": "ab"[n % 2], "views": n * n}
        for n in range(60)
    ]
    curate.score(rows, by="column:views", output=folder / "scored.parquet")
    for number in (1, 2):
        curate.score(rows, by="column:views", shard=(number, 2), output=folder / f"shards/{number}.parquet")
    select(folder / "scored.parquet", top=0.5, random=0.5, holdout=6, holdout_by="question", output=folder / "splits")
    return folder


def right_or_told(work: Callable[[], Any], expected: Any) -> str:
    """Does the work: `right` if it gives what is expected, `told` if it ends in a message of ours."""
    try:
        found = work()
    except CurateError as error:
        assert error.found and "\n" not in error.found
        return "told"
    assert found == expected
    return "right"


def damaged(content: bytes, chance: random.Random) -> bytes:
    """With a few bits flipped, or cut off, or with some bytes in the middle lost or doubled."""
    kind = chance.choice(("flip", "flip", "flip", "flip", "cut", "lost", "zeros", "doubled"))
    start = chance.randrange(len(content))
    stop = min(len(content), start + chance.randrange(1, 200))
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(chance.choice((1, 1, 1, 3))):
            changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    middle = {"cut": b"", "lost": b"", "zeros": bytes(stop - start), "doubled": content[start:stop] * 2}[kind]
    return content[:start] + middle + (b"" if kind == "cut" else content[stop:])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(read(path).table.to_pylist())


@pytest.mark.parametrize("name", ["scored.parquet", "splits/top.parquet", "shards/2.parquet"])
def test_a_damaged_parquet_file_gives_the_right_rows_or_a_message(made: Path, tmp_path: Path, name: str) -> None:
    chance = random.Random(0)
    content, expected = (made / name).read_bytes(), rows_of(made / name)
    path, outcomes = tmp_path / "damaged.parquet", {"right": 0, "told": 0}
    for _ in range(MUTATIONS):
        changed = damaged(content, chance)
        path.write_bytes(changed)
        outcome = right_or_told(lambda: rows_of(path), expected)
        assert outcome == "told" or changed == content or SEAL in changed or len(changed) != len(content)
        outcomes[outcome] += 1
    assert outcomes["told"] > 0.95 * MUTATIONS


def test_every_bit_before_the_footer_counts(made: Path, tmp_path: Path) -> None:
    """Page headers have no checksum of their own, and one bit in them can change the values of a column."""
    content, path = (made / "scored.parquet").read_bytes(), tmp_path / "damaged.parquet"
    expected, mark = rows_of(made / "scored.parquet"), content.index(SEAL)
    for place in range(4, mark, 1 if FULL else 97):
        changed = bytearray(content)
        changed[place] ^= 2
        path.write_bytes(changed)
        assert right_or_told(lambda: rows_of(path), expected) == "told", place


def test_pages_of_files_too_large_for_one_checksum_have_their_own(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("curate.data.stores.SEALED_WHOLE", 0)
    table = pa.table({"question": [f"Who made film {n}?" for n in range(9000)], "answer": ["Ann"] * 9000})
    path = tmp_path / "large.parquet"
    write_table(table, path)
    content = path.read_bytes()
    for place in range(200, content.index(SEAL) - 200, 4999):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(DataError, match="cannot be read"):
            rows_of(path)
    for place in range(content.index(SEAL) + len(SEAL), len(content) - 8, 11):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(DataError):
            rows_of(path)


def test_other_readers_read_a_sealed_file(made: Path) -> None:
    import duckdb

    path, expected = made / "scored.parquet", rows_of(made / "scored.parquet")
    assert pq.read_table(path, page_checksum_verification=True).to_pylist() == expected
    assert duckdb.sql(f"SELECT count(*), sum(views) FROM '{path}'").fetchall() == [(60, sum(n * n for n in range(60)))]


def test_files_of_others_have_no_seal_and_are_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"question": ["Who?"], "answer": ["Ann"]}), path)
    assert SEAL not in path.read_bytes()
    with path.open("rb") as file:
        check_seal(file, "theirs")
    assert rows_of(path) == [{"question": "Who?", "answer": "Ann"}]


# manifests


def mutations(content: Any) -> Iterator[Any]:
    """The content with one value missing, or another in its place, however deep it lies."""
    if isinstance(content, (dict, list)):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            rest = dict(content) if isinstance(content, dict) else list(content)
            del rest[key]
            yield rest
            for other in (*OTHERS, *mutations(value)):
                changed = dict(content) if isinstance(content, dict) else list(content)
                changed[key] = other
                yield changed


def some(content: Any, most: int) -> list[Any]:
    found = list(mutations(content))
    most *= 20 if FULL else 1
    return found if len(found) <= most else random.Random(0).sample(found, most)


def with_manifest_text(source: Path, path: Path, text: str) -> None:
    """A file of the same rows and another manifest, as somebody might write it who has no seal."""
    table = pq.read_table(source)
    pq.write_table(table.replace_schema_metadata({b"curate": text.encode()}), path)
    manifest_path(path).write_text(text)


def test_a_manifest_with_fields_lost_or_of_another_type_is_read_or_one_message(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.parquet"
    for name in ("scored.parquet", "splits/top.parquet", "splits/holdout.parquet"):
        manifest = json.loads(manifest_path(made / name).read_text())
        expected = rows_of(made / name)
        kept = select(made / name, top=4).kept["question"].to_pylist()
        for changed in some(manifest, 60):
            with_manifest_text(made / name, path, json.dumps(changed))
            right_or_told(lambda: rows_of(path), expected)
            right_or_told(lambda: select(path, top=4).kept["question"].to_pylist(), kept)
            right_or_told(lambda: describe(str(path))["rows"], len(expected))
            right_or_told(lambda: shown_tables(describe(str(tmp_path))) and None, None)
            arms = [] if "holdout" in name else ["split"]
            right_or_told(lambda: list(read_splits(str(tmp_path))), arms)


def test_a_shard_whose_manifest_was_changed_is_none(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "2.parquet"
    manifest = json.loads(manifest_path(made / "shards/2.parquet").read_text())
    for changed in some(manifest, 80):
        with_manifest_text(made / "shards/2.parquet", path, json.dumps(changed))
        try:
            curate.merge([made / "shards/1.parquet", path], tmp_path / "merged.parquet")
        except CurateError as error:
            assert "\n" not in error.found
        else:
            assert rows_of(tmp_path / "merged.parquet") == rows_of(made / "scored.parquet")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"command": ' + "[" * 100_000, "\\", '{"a": 1' + "0" * 9000]
)
def test_a_manifest_that_is_no_object_is_one_message(made: Path, tmp_path: Path, text: str) -> None:
    with_manifest_text(made / "scored.parquet", tmp_path / "scored.parquet", text)
    with pytest.raises(DataError, match=r"The manifest in .* is not as curate wrote it"):
        read(tmp_path / "scored.parquet")


def test_a_folder_of_splits_of_which_one_has_a_damaged_manifest_is_not_read_as_one(made: Path, tmp_path: Path) -> None:
    for name in ("top", "random"):
        content = (made / f"splits/{name}.parquet").read_bytes()
        (tmp_path / f"{name}.parquet").write_bytes(content)
        text = manifest_path(made / f"splits/{name}.parquet").read_text()
        manifest_path(tmp_path / f"{name}.parquet").write_text(text)
    manifest = tmp_path / "top.parquet.manifest.json"
    for text in ("{}", "{", "", manifest.read_text().replace('"command"', '"commend"')):
        manifest.write_text(text)
        with pytest.raises(DataError, match="manifest"):
            read(tmp_path)


# what a run leaves

SUMMARY = {
    "verdict": "No difference.",
    "arms": [
        {
            "arm": "base",
            "n_train": 0,
            "n_eval": 6,
            "accuracy": 0.5,
            "stderr": None,
            "exact_match": 0.5,
            "f1": 0.5,
            "seeds": 1,
        }
    ],
    "differences": [{"a": "top", "b": "base", "difference": 0.1, "low": -0.1, "high": 0.3, "p": 0.2}],
    "lm_eval": [{"arm": "base", "seed": 0, "task": "t", "metric": "acc", "value": 0.5}],
}


def test_a_summary_of_a_run_that_was_changed_is_shown_or_one_message(tmp_path: Path) -> None:
    chance = random.Random(0)
    texts = [json.dumps(changed).encode() for changed in some(SUMMARY, 300)]
    texts += [damaged(json.dumps(SUMMARY).encode(), chance) for _ in range(100)]
    for text in texts:
        (tmp_path / "summary.json").write_bytes(text)
        right_or_told(lambda: shown_tables(describe(str(tmp_path))) and None, None)


def test_what_a_run_has_finished_is_whole_or_not_there(tmp_path: Path) -> None:
    kept, value, chance = Checkpoint(tmp_path), {"loss": [0.25, 1.5], "question": "Zoë?"}, random.Random(0)
    kept.put("part", value)
    content = kept.path("part").read_bytes()
    for _ in range(200):
        changed = damaged(content, chance)
        kept.path("part").write_bytes(changed)
        assert kept.get("part") in (None, value)
        assert ("part" in kept) == (kept.get("part") is not None)
        assert kept.make("part", lambda: value) == value


def test_steps_of_a_recipe_that_were_changed_are_done_again(tmp_path: Path) -> None:
    steps = {"score": {"made_from": "a", "output": "b"}}
    for changed in mutations(steps):
        (tmp_path / "steps.json").write_text(json.dumps(changed))
        assert isinstance(Ledger(tmp_path).done, dict)
