"""Datasets on the Hugging Face Hub: `owner/name`, `owner/name:config`, `owner/name@revision`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curate.errors import DataError
from curate.hub import hub_problem

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import IterableDataset

_HUB_ID = re.compile(r"^(?P<path>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?$")

_CACHE_LOCK = threading.Lock()

_BEGINNING = re.compile(r"^([\w.-]+)\[:(\d+)\]$")

MESSAGE = 300
"""Characters of an error of the Hub's client that are shown."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the shape of a Hub id and not that of a file."""
    return bool(_HUB_ID.match(name)) and not re.search(r"\.(parquet|csv|tsv|jsonl?|ndjson)(\.\w+)?$", name)


def read_hub(name: str, split: str | None = None) -> tuple[pa.Table, str]:
    """A split of a Hub dataset, or all splits as one table (with a column `split` if there are several); its revision.

    `split` may be cut (`train[:1000]`): rows from the beginning are streamed, so that the rest is not downloaded.
    Dataset code is never executed: `datasets` reads data files only. Where the Hub cannot be asked, what was downloaded
    before is read.
    """
    from huggingface_hub.utils import logging

    match = _HUB_ID.match(name)
    assert match is not None
    problem = hub_problem()
    logging.set_verbosity_error()  # what its retries have to say, our message says at the end
    try:
        return (_downloaded if problem else _asked)(match["path"], match["config"], match["revision"], split)
    except Exception as error:  # the Hub client raises many kinds; each of them is something the user can fix
        raise _cannot_load(name, problem, error) from error


def _asked(path: str, config: str | None, revision: str | None, split: str | None) -> tuple[pa.Table, str]:
    from huggingface_hub import HfApi

    table = _load(path, config, revision, split)
    return table, str(HfApi().dataset_info(path, revision=revision).sha)


def _downloaded(path: str, config: str | None, revision: str | None, split: str | None) -> tuple[pa.Table, str]:
    """What was downloaded last; nobody here knows what a branch or tag stands for, so only its commit may be named."""
    from datasets import load_dataset_builder

    with _only_from_cache():
        commit = str(load_dataset_builder(path, config).hash)
        if revision not in (None, commit):
            raise LookupError(f"without the Hub only {path}@{commit} is known, which was downloaded last")
        return _load(path, config, None, split), commit


def _cannot_load(name: str, problem: str | None, error: Exception) -> DataError:
    if problem and isinstance(error, ConnectionError):
        return DataError(
            f"There is no local file {name!r}, no such dataset was downloaded before, and {problem.rstrip('.')}.",
            expected="a file or folder on this machine; with a network, a Hub id too",
            try_next="ls, to see what is in this folder",
        )
    return DataError(
        f"There is no local file {name!r}, and the Hub dataset cannot be loaded"
        + (f" from what was downloaded before ({problem})" if problem else "")
        + f": {' '.join(str(error).split())[:MESSAGE]}",
        expected="an existing path, or owner/name, owner/name:config, owner/name@revision, and a split it has",
        try_next="check the name" + ("" if problem else "; for a gated or private dataset, `hf auth login` first"),
    )


@contextmanager
def _only_from_cache() -> Iterator[None]:
    """Let `datasets` take what it downloaded before, at once: without a network it would try for half a minute."""
    from datasets import config

    with _CACHE_LOCK:
        before, config.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            config.HF_HUB_OFFLINE = before


def _load(path: str, config: str | None, revision: str | None, split: str | None) -> pa.Table:
    import pyarrow as pa
    from datasets import load_dataset

    if beginning := _BEGINNING.match(split or ""):
        rows = load_dataset(path, config, revision=revision, split=beginning[1], streaming=True)
        return stream_table(rows.take(int(beginning[2])))
    loaded = load_dataset(path, config, revision=revision, split=split)
    if split is not None:
        return loaded.with_format("arrow")[:]
    tables = {name: dataset.with_format("arrow")[:] for name, dataset in loaded.items()}
    if len(tables) == 1:
        return next(iter(tables.values()))
    labelled = [t.append_column("split", pa.array([s] * t.num_rows)) for s, t in tables.items()]
    return pa.concat_tables(labelled, promote_options="permissive")


def stream_table(rows: IterableDataset) -> pa.Table:
    """All rows of a stream as a table."""
    import pyarrow as pa

    return pa.concat_tables(rows.with_format("arrow").iter(batch_size=10_000), promote_options="permissive")
