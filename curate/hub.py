"""Whether the Hugging Face Hub can be reached: asked first, since its client gives up only after half a minute."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

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
