"""Several processes, a device each: every one loads the model and computes a part of the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from curate.errors import ModelError, SettingError
from curate.lm.loss import AnswerLoss, Report, answer_losses
from curate.lm.model import LoadedModel
from curate.piping import PipedProcess, ProcessEndedError

Pairs = Sequence[tuple[str, str]]


class Helper:
    """A process that has loaded the same model on a device of its own. It ends when this object or its owner does."""

    def __init__(self, arguments: Mapping[str, Any], threads: int) -> None:
        """Start to load: `arguments` are those of `load_model`."""
        self.device = arguments["device"]
        self.piped = PipedProcess("curate.lm.helper")
        self._ask((dict(arguments), threads))

    def ask(self, pairs: Pairs, token_budget: int | None) -> None:
        """Have it compute these losses meanwhile."""
        self._ask((list(pairs), token_budget))

    def answer(self) -> list[AnswerLoss] | Exception:
        """The losses it was last asked for, or what went wrong there; ModelError if it has ended."""
        try:
            result: list[AnswerLoss] | Exception = self.piped.answer()
        except ProcessEndedError as error:
            raise self._ended(error) from error
        return result

    def _ask(self, question: Any) -> None:
        try:
            self.piped.ask(question)
        except ProcessEndedError as error:
            raise self._ended(error) from error

    def _ended(self, error: ProcessEndedError) -> ModelError:
        return ModelError(
            f"The process that runs the model on {self.device} ended with exit code {error.exit_code}.",
            expected="memory for the model in every process",
            try_next="--processes 1, or fewer than now",
        )


def start_helpers(devices: Sequence[str], **arguments: Any) -> list[Helper]:
    """A helper for each device; `arguments` are those of `load_model` but for the device.

    This process and its helpers share the processor's threads evenly.
    """
    if not devices:
        return []
    import torch

    threads = max(1, torch.get_num_threads() // (len(devices) + 1))
    torch.set_num_threads(threads)
    return [Helper({**arguments, "device": device}, threads) for device in devices]


def choose_devices(device: str, processes: int | None) -> list[str]:
    """The device of each process: every visible GPU unless told otherwise. SettingError if there are too few."""
    import torch

    gpus = torch.cuda.device_count()
    on_gpus = device == "cuda" or (device == "auto" and gpus > 0)
    if processes is None:
        processes = max(1, gpus) if on_gpus else 1
    if processes == 1:
        return [device]
    if processes < 1 or (on_gpus and processes > gpus) or device not in ("auto", "cpu", "cuda"):
        raise SettingError(
            f"--processes is {processes} on the device {device!r}, and this machine has {gpus} GPUs.",
            expected="at least one process, and one GPU for each; several processes on auto, cuda or cpu only",
            try_next="leave --processes out: every visible GPU then has one",
        )
    return [f"cuda:{n}" for n in range(processes)] if on_gpus else ["cpu"] * processes


def spread_losses(
    loaded: LoadedModel, helpers: Sequence[Helper], pairs: Pairs, token_budget: int | None, report: Report
) -> list[AnswerLoss]:
    """As `answer_losses`, the distinct pairs shared out among this process and its helpers.

    The report is of this process, times their number: the parts are of equal length.
    """
    if not helpers:
        return answer_losses(loaded, pairs, token_budget, report)
    own, *others = share_out(pairs, len(helpers) + 1)
    for helper, part in zip(helpers, others, strict=True):
        helper.ask(part, token_budget)
    count = len(helpers) + 1
    try:
        mine = answer_losses(loaded, own, token_budget, lambda share, tokens: report(share, count * tokens))
    except Exception:
        for helper in helpers:
            helper.answer()  # which the next question must not get
        raise
    losses = dict(zip(own, mine, strict=True))
    answers = [helper.answer() for helper in helpers]  # all of them, before one is raised
    for part, answer in zip(others, answers, strict=True):
        if isinstance(answer, Exception):
            raise answer
        losses.update(zip(part, answer, strict=True))
    return [losses[pair] for pair in pairs]


def share_out(pairs: Pairs, count: int) -> list[list[tuple[str, str]]]:
    """The distinct pairs in `count` parts of about equal length; sorted, so that what begins alike stays together."""
    distinct = sorted(set(pairs))
    ends = list(accumulate(len(prompt) + len(completion) for prompt, completion in distinct))
    parts: list[list[tuple[str, str]]] = [[] for _ in range(count)]
    for pair, end in zip(distinct, ends, strict=True):
        parts[(end - 1) * count // ends[-1] if ends[-1] else 0].append(pair)
    return parts
