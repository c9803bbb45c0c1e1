"""The Hugging Face Hub: is it there, which commit, what was downloaded; pushing a folder of splits."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.data.formats import SUFFIXES, data_suffix
from curate.errors import DataError, OutputError, SettingError, setting

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset

PATIENCE = 5.0
"""Seconds to wait for a connection, twice; a Hub that answers is then given all the retries of its client."""


def hub_problem() -> str | None:
    """Why the Hub cannot be asked; None if it answers, whatever it says. Never asks where HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants
    from huggingface_hub.utils import http_backoff, logging

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what a retry has to say, our message says at the end
    try:
        http_backoff(
            "HEAD",
            constants.ENDPOINT,
            max_retries=1,
            base_wait_time=0.5,
            retry_on_status_codes=(),
            timeout=PATIENCE,
        )
    except Exception as error:  # of the client's HTTP library, which is not the same in all versions
        return f"{constants.ENDPOINT} cannot be reached: {' '.join(str(error).split()) or type(error).__name__}"
    finally:
        logging.set_verbosity(verbosity)
    return None


def downloaded(name: str, kind: str = "model", revision: str | None = None) -> Path | None:
    """The folder of what was downloaded from a repository before, named as its commit; None where there is none."""
    from huggingface_hub import snapshot_download

    with suppress(Exception):  # the client raises many kinds
        return Path(snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True))
    return None


def commit_of(name: str, kind: str = "model", asked: str | None = None) -> str | None:
    """The commit that a branch (or `asked`) of a repository on the Hub stands for, by asking it, else by the copy here.

    None where neither knows: offline, or for a name that is none. Whoever loads it says so better.
    """
    from huggingface_hub import HfApi

    if hub_problem() is None:
        with suppress(Exception):  # the Hub's client raises many kinds
            return str(HfApi().repo_info(name, repo_type=kind, revision=asked).sha)
    copy = downloaded(name, kind, asked)
    return copy.name if copy else None


_HUB_ID = re.compile(r"^(?P<path>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?$")
_FILE = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})(\.\w+)?$")
_BEGINNING = re.compile(r"^([\w.-]+)\[:(\d+)\]$")

MESSAGE = 300
"""Characters of an error of the Hub's client that are shown."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the shape of a Hub id and not that of a file."""
    return bool(_HUB_ID.match(name)) and not _FILE.search(name)


def read_hub(name: str, split: str | None = None) -> tuple[pa.Table, str]:
    """A split of a Hub dataset, or all splits as one table (with a column `split` if there are several); its revision.

    `split` may be cut (`train[:1000]`): rows from the beginning are streamed, so that the rest is not downloaded.
    Dataset code is never executed: `datasets` reads data files only. Where the Hub cannot be asked, what was downloaded
    before is read.
    """
    from huggingface_hub.utils import logging

    match = _HUB_ID.match(name)
    assert match is not None
    path, config, revision = match["path"], match["config"], match["revision"]
    problem = hub_problem()
    logging.set_verbosity_error()  # what its retries have to say, our message says at the end
    try:
        return (_downloaded if problem else _asked)(path, config, revision, split)
    except Exception as error:  # the Hub client raises many kinds; each of them is something the user can fix
        if problem and downloaded(path, "dataset") is None:
            raise DataError(
                f"There is no local file {name!r}, no such dataset was downloaded before, and {problem.rstrip('.')}.",
                expected="a file or folder on this machine; with a network, a Hub id too",
                try_next="ls, to see what is in this folder",
            ) from error
        raise DataError(
            f"There is no local file {name!r}, and the Hub dataset cannot be loaded"
            + (f" from what was downloaded before ({problem})" if problem else "")
            + f": {' '.join(str(error).split())[:MESSAGE]}",
            expected="an existing path, or owner/name, owner/name:config, owner/name@revision, and a split it has",
            try_next="check the name" + ("" if problem else "; for a gated or private dataset, `hf auth login` first"),
        ) from error


def _asked(path: str, config: str | None, revision: str | None, split: str | None) -> tuple[pa.Table, str]:
    from datasets import load_dataset
    from huggingface_hub import HfApi

    if beginning := _BEGINNING.match(split or ""):
        rows = load_dataset(path, config, revision=revision, split=beginning[1], streaming=True)
        table = stream_table(rows.take(int(beginning[2])))
    else:
        table = _as_table(load_dataset(path, config, revision=revision, split=split))
    return table, str(HfApi().dataset_info(path, revision=revision).sha)


def _downloaded(path: str, config: str | None, revision: str | None, split: str | None) -> tuple[pa.Table, str]:
    """What was downloaded last; nobody here knows what a branch or tag stands for, so only its commit may be named."""
    # `load_dataset` would come to this too, after half a minute of trying without a network.
    from datasets.packaged_modules.cache.cache import Cache

    name = path.rpartition("/")[2]
    found = Cache(repo_id=path, dataset_name=name, config_name=config, version="auto", hash="auto")
    if revision not in (None, found.hash):
        raise LookupError(f"without the Hub only {path}@{found.hash} is known, which was downloaded last")
    return _as_table(found.as_dataset(split)), str(found.hash)


def _as_table(loaded: Dataset | DatasetDict) -> pa.Table:
    """One split; of several all rows, and a column `split`."""
    if not isinstance(loaded, dict):
        return loaded.with_format("arrow")[:]
    tables = {name: dataset.with_format("arrow")[:] for name, dataset in loaded.items()}
    if len(tables) == 1:
        return next(iter(tables.values()))
    labelled = [t.append_column("split", pa.array([s] * t.num_rows)) for s, t in tables.items()]
    return pa.concat_tables(labelled, promote_options="permissive")


def stream_table(rows: IterableDataset) -> pa.Table:
    """All rows of a stream as a table."""
    return pa.concat_tables(rows.with_format("arrow").iter(batch_size=10_000), promote_options="permissive")


def check_push(name: str, output: Path) -> None:
    """SettingError, before any work is done, unless a folder is written and `name` is that of a dataset on the Hub."""
    if data_suffix(output) in SUFFIXES:
        raise SettingError(
            f"{setting('push_to_hub')} uploads a folder, and {output} is a file.",
            expected="a folder of splits",
            try_next=setting("output", f"{output.with_suffix('')}/"),
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise SettingError(
            f"{setting('push_to_hub', name)} names no dataset on the Hub.",
            expected="owner/name",
            try_next=setting("push_to_hub", "me/splits"),
        )


def push_folder(folder: Path, name: str, private: bool = True, api: Any = None) -> str:
    """Upload a folder as the dataset `name` (owner/name), made if it is not there; gives its address.

    `api` is a `huggingface_hub.HfApi`, by default one with the token of `hf auth login`. What is private stays
    private: `private` counts for a new dataset only. Raises OutputError for whatever the Hub refuses.
    """
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    try:
        made = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=str(folder), commit_message="curate select")
    except Exception as error:  # the client raises many kinds; each of them is something the user can fix
        raise OutputError(
            f"The splits are in {folder}, and could not be uploaded to {name}: {str(error).strip().splitlines()[0]}",
            expected="a token that may write there, and a network",
            try_next=f"hf auth login, then hf upload {name} {folder} --repo-type dataset",
        ) from error
    return str(made)
