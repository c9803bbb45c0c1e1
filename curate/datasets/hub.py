"""Datasets on the Hugging Face Hub: `owner/name`, `owner/name:config`, `owner/name@revision`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from curate.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_HUB_ID = re.compile(r"^(?P<path>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?$")


def is_hub_id(name: str) -> bool:
    """Whether a name has the shape of a Hub id and not that of a file."""
    return bool(_HUB_ID.match(name)) and not re.search(r"\.(parquet|csv|tsv|jsonl?|ndjson)(\.\w+)?$", name)


def read_hub(name: str) -> tuple[pa.Table, str]:
    """All splits of a Hub dataset as one table (with a `split` column if there are several), and its revision.

    Dataset code is never executed: `datasets` reads data files only.
    """
    import pyarrow as pa
    from huggingface_hub.utils import logging

    match = _HUB_ID.match(name)
    assert match is not None
    path, config, revision = match["path"], match["config"], match["revision"]
    logging.set_verbosity_error()  # what its retries have to say, our message says at the end
    try:
        from datasets import load_dataset

        loaded = load_dataset(path, config, revision=revision)
        resolved = _resolved_revision(path, revision)
    except Exception as error:  # the Hub client raises many kinds; each of them is something the user can fix
        raise DataError(
            f"There is no local file {name!r}, and the Hub dataset cannot be loaded: {str(error).splitlines()[0]}",
            expected="an existing path, or owner/name, owner/name:config, owner/name@revision",
            try_next="check the name; for a gated or private dataset, `hf auth login` first",
        ) from error
    tables = {split: dataset.with_format("arrow")[:] for split, dataset in loaded.items()}
    if len(tables) == 1:
        return next(iter(tables.values())), resolved
    labelled = [t.append_column("split", pa.array([s] * t.num_rows)) for s, t in tables.items()]
    return pa.concat_tables(labelled, promote_options="permissive"), resolved


def _resolved_revision(path: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(path, revision=revision).sha)
