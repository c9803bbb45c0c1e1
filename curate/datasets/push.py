"""A folder of splits on the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from curate.datasets.sources import SUFFIXES, data_suffix
from curate.errors import OutputError, SettingError


def check_push(name: str, output: Path) -> None:
    """SettingError, before any work is done, unless a folder is written and `name` is that of a dataset on the Hub."""
    if data_suffix(output) in SUFFIXES:
        raise SettingError(
            f"--push-to-hub uploads a folder, and {output} is a file.",
            expected="a folder of splits",
            try_next=f"-o {output.with_suffix('')}/",
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise SettingError(
            f"--push-to-hub {name} names no dataset on the Hub.",
            expected="owner/name",
            try_next="--push-to-hub me/splits",
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
