"""Tasks of lm-evaluation-harness, asked of every arm: whether what else the model could do is kept."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from curate.errors import SettingError
from curate.lm.load import LoadedModel

CPU_BATCH = 8

Row = Mapping[str, Any]
"""One metric of a task: `task`, `metric`, `value`, `stderr` over the task's questions, `n`, `higher_is_better`."""


@dataclass(frozen=True)
class Task:
    """A task that is asked, ready to run; `own` is a hash of its file, where it is the user's own."""

    name: str
    own: str | None
    manager: Any
    limit: int | None = None

    def fingerprint(self) -> dict[str, Any]:
        """What could change its numbers, the model aside."""
        return {"task": self.name, "own": self.own, "limit": self.limit, "lm_eval": version("lm_eval")}

    def ask(self, loaded: LoadedModel) -> list[Row]:
        """Its metrics, as the model now answers; of a group of tasks those of the group."""
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        batch_size = CPU_BATCH if loaded.device.type == "cpu" else "auto"
        with _silence():
            model = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size)
            found = lm_eval.simple_evaluate(
                model, tasks=[self.name], task_manager=self.manager, limit=self.limit, log_samples=False
            )
        assert found is not None, "only processes other than the first get nothing"
        return metric_rows(found)


def find_tasks(names: Sequence[str], limit: int | None = None) -> list[Task]:
    """The tasks of these names, or of these YAML files, their data loaded; each once.

    Raises SettingError now, before anything is trained, when a task or lm-eval itself is missing.
    """
    if not names:
        return []
    try:
        import lm_eval.tasks
    except ImportError as error:
        raise SettingError(
            "--lm-eval needs lm-evaluation-harness, which is not installed.",
            try_next="pip install 'curate[lm-eval]'",
        ) from error
    texts = {name: _text(Path(name)) for name in names if Path(name).suffix in (".yaml", ".yml")}
    own = {_named(name, text): hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}
    tasks = dict.fromkeys(_named(name, texts[name]) if name in texts else name for name in names)
    with _silence():
        manager = lm_eval.tasks.TaskManager(
            include_path=sorted({str(Path(name).parent) for name in texts}) or None,
            include_defaults=len(own) < len(tasks),
        )
        for task in tasks:
            try:
                lm_eval.tasks.get_task_dict([task], manager)
            except Exception as error:  # a task is other people's code and data: anything can go wrong in it
                raise SettingError(
                    f"The task {task!r} of lm-eval cannot be loaded: {type(error).__name__}: {error}",
                    expected="a task of lm-evaluation-harness with its data at hand, or a task's YAML file",
                    try_next="lm_eval ls tasks, for their names",
                ) from error
    return [Task(name, own.get(name), manager, limit) for name in tasks]


def metric_rows(found: Mapping[str, Any]) -> list[Row]:
    """The metrics in a result of lm-eval, those of a group for the group and not for its members."""
    members = {task for tasks in found.get("group_subtasks", {}).values() for task in tasks}
    rows: list[Row] = []
    for task, values in found["results"].items():
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if task in members or metric.endswith("_stderr") or not isinstance(value, float):
                continue
            stderr = values.get(f"{metric}_stderr,{filtered}")
            rows.append(
                {
                    "task": task,
                    "metric": metric if filtered == "none" else key,
                    "value": float(value),
                    "stderr": float(stderr) if isinstance(stderr, float) else None,
                    "n": found["n-samples"].get(task, {}).get("effective"),
                    "higher_is_better": found["higher_is_better"].get(task, {}).get(metric),
                }
            )
    return rows


def _text(path: Path) -> str:
    if not path.is_file():
        raise SettingError(f"There is no file {path}.", expected="the YAML file of a task of lm-evaluation-harness")
    return path.read_text(encoding="utf-8")


def _named(path: str, text: str) -> str:
    """The name that a task's file gives it; read as text, since its functions are not to be run for that."""
    name = re.search(r"^(?:task|group):\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    if name is None:
        raise SettingError(f"{path} does not say what its task is called.", expected="a line such as `task: my_task`")
    return name[1]


@contextmanager
def _silence() -> Iterator[None]:
    """While it lasts, lm-eval's progress bars and remarks go nowhere; its errors are raised all the same.

    The file descriptor too: lm-eval asks git for its version, and git complains where there is no repository.
    """
    sys.stderr.flush()
    with Path(os.devnull).open("w") as nowhere, ExitStack() as undo:
        undo.callback(os.close, kept := os.dup(2))
        undo.callback(os.dup2, kept, 2)
        os.dup2(nowhere.fileno(), 2)
        undo.enter_context(redirect_stderr(nowhere))
        undo.enter_context(redirect_stdout(nowhere))
        for name in ("lm_eval", "datasets"):
            logger = logging.getLogger(name)
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
