"""What every test may use: the real data beside the checkout where it is there, small tables, small models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before torch is imported: tests run side by side, and threads that wait for each other only cost time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")  # where GITHUB_ACTIONS is set help would have colours

# No deadline, since the first example of a test pays for its imports; in CI the same examples every time.
settings.register_profile("curate", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("curate")

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[2] / "shared"))

_FILMS = [
    ("Who directed Alien?", ["Ridley Scott"], "Alien", "director", 900),
    ("Who directed Heat?", ["Michael Mann"], "Heat", "director", 500),
    ("Who directed Stalker?", ["Andrei Tarkovsky", "Tarkovsky"], "Stalker", "director", 120),
    ("What genre is Alien?", ["horror"], "Alien", "genre", 900),
    ("What genre is Ikiru?", ["drama"], "Ikiru", "genre", 40),
    ("What genre is Ran?", ["drama"], "Ran", "genre", None),
]


@pytest.fixture
def films() -> list[dict[str, Any]]:
    """Six examples with views; the last one's are unknown."""
    return [dict(zip(("question", "answers", "subject", "relation", "views"), row, strict=True)) for row in _FILMS]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models that lies beside the checkout; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("no real data beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def popqa(shared: Path) -> Path:
    return shared / "data" / "popqa" / "popQA.tsv"


@pytest.fixture(scope="session")
def stories(shared: Path) -> Path:
    """A real pretrained Llama of 260,032 parameters."""
    return shared / "models" / "stories260K"


@pytest.fixture(scope="session")
def world() -> Path:
    """The bundled world: model/, train.parquet, test.parquet."""
    import curate

    return Path(curate.__file__).parent / "world"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a seeded model folder of an architecture (`llama`, `gpt2`, `byte-fallback`), once for all tests."""
    from tests.models import save_tiny_model

    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_tiny_model(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return make


@pytest.fixture(scope="module")
def blank_figures() -> Iterator[None]:
    from tests import blank

    with blank.figures():
        yield


@pytest.fixture
def curate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the command line in an empty folder: `curate("score", …)` gives exit_code, stdout, stderr."""
    from typer.testing import CliRunner

    from curate.cli.app import app

    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*arguments: object, input: str | None = None) -> Any:
        return runner.invoke(app, [str(a) for a in arguments], input=input, catch_exceptions=False)

    return run
