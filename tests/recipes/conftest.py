"""What the tests of recipes share: a model with room for five solved examples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import blank


@pytest.fixture(scope="package", autouse=True)
def _blank_figures() -> Iterator[None]:
    with blank.figures():
        yield


@pytest.fixture(scope="session")
def roomy_model(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with a context of 1,024 tokens; its rotary positions need no weights for that."""
    folder = tmp_path_factory.mktemp("roomy") / "model"
    shutil.copytree(tiny_model("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    return folder
