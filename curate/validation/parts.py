"""What a run has done so far, kept in its folder, so that the same command goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from curate import __version__
from curate.datasets.write import whole_file
from curate.folders import check_own_folder
from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.validation.config import FinetuneConfig
from curate.validation.fitting import Fitting, first_fitting
from curate.validation.processes import by_first, is_first, processes

PARTS = ".parts"
"""Where a run keeps what every arm and seed answered, and the checkpoints of the one that trains."""

Row = Mapping[str, Any]


def check_run_folder(folder: Path) -> None:
    """Raise OutputError now if a run could not be written to the folder later."""
    check_own_folder(folder, PARTS, "curate validate")


@dataclass(frozen=True)
class Parts:
    """The finished parts of a run, each under a key made of everything that could change it."""

    folder: Path
    loaded: LoadedModel
    template: Template

    def key(self, *content: Any) -> str:
        """A hash of curate's version, the model, the template and `content`."""
        whole = [__version__, dict(self.loaded.fingerprint()), asdict(self.template), *content]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]

    def checkpoints(self, key: str) -> Path:
        """The folder for the checkpoints of a part that is being trained."""
        return self.folder / PARTS / key

    def kept(self, key: str) -> Row | None:
        """A finished part, if there is one."""
        part = self.folder / PARTS / f"{key}.json"
        return by_first(lambda: json.loads(part.read_text()) if part.is_file() else None)

    def keep(self, key: str, make: Callable[[], Row]) -> Row:
        """Make a part in the first process and write it."""

        def work() -> Row:
            row = make()
            with whole_file(self.folder / PARTS / f"{key}.json") as temporary:
                temporary.write_text(json.dumps(row))
            return json.loads(json.dumps(row))

        return by_first(work)

    def drop_checkpoints(self, key: str) -> None:
        """The part's training is over, and nothing is left to do with its model."""
        if is_first():
            rmtree(self.checkpoints(key), ignore_errors=True)

    def fitting(self, config: FinetuneConfig) -> Fitting:
        """How a batch fitted into memory when it last did not; at first, all of it at once."""
        path = self._fitting_path(config)
        first = first_fitting(config.batch_size, processes())
        return Fitting(**json.loads(path.read_text())) if path.is_file() else first

    def remember_fitting(self, config: FinetuneConfig, fitting: Fitting) -> None:
        """Where the next finetuning begins, also that of another process or command."""
        with whole_file(self._fitting_path(config)) as temporary:
            temporary.write_text(json.dumps(asdict(fitting)))

    def _fitting_path(self, config: FinetuneConfig) -> Path:
        return self.folder / PARTS / f"fitting-{config.method}-{config.batch_size}-of-{processes()}.json"
