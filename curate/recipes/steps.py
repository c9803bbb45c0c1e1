"""Which steps of a recipe are done: a step is kept while all it was made from is the same, and so is what it made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import __version__
from curate.datasets.sources import file_fingerprint
from curate.datasets.write import write_json

STEPS = "steps.json"
"""Where a folder remembers them."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One step: its name, what it makes, all that could change that, the work, and the command that does the same.

    `made_from` is asked when the steps before are done.
    """

    name: str
    output: Path
    made_from: Callable[[], Mapping[str, Any]]
    work: Callable[[], object]
    command: str | None = None


class Ledger:
    """The steps that are done in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STEPS
        self.done: dict[str, dict[str, str]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):  # without it, or if it is damaged, nothing is done
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            self.done = {name: {key: kept[name][key] for key in ("made_from", "output")} for name in kept}

    def has(self, step: Step) -> bool:
        """Whether what the step makes is there, made from the same, and untouched since."""
        kept = self.done.get(step.name)
        return (
            kept is not None
            and step.output.exists()
            and kept["output"] == content_of(step.output)
            and kept["made_from"] == digest(step.made_from())
        )

    def run(self, steps: Iterable[Step], say: Say) -> None:
        """Do what is not done, in order."""
        for step in steps:
            if self.has(step):
                say(f"{step.name}: done earlier ({step.output})")
                continue
            say(f"$ {step.command}" if step.command else f"{step.name}: {step.output}")
            made_from = digest(step.made_from())
            step.work()
            self.done[step.name] = {"made_from": made_from, "output": content_of(step.output)}
            write_json(self.done, self.path)

    def to_do(self, steps: Sequence[Step]) -> list[str]:
        """The names of the steps that `run` would not skip; what follows one of them may turn out to be unchanged."""
        first = next((i for i, step in enumerate(steps) if not self.has(step)), len(steps))
        return [step.name for step in steps[first:]]


def digest(content: Any) -> str:
    """A hash of settings and fingerprints, and of the version of curate."""
    text = json.dumps([__version__, content], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_of(path: Path) -> str:
    """A hash of a file, or of the files that lie directly in a folder."""
    if path.is_file():
        return file_fingerprint([path])[:16]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    return digest([(file.name, file_fingerprint([file])) for file in files])
