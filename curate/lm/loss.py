"""The loss of an answer, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch

from curate.errors import ModelError, setting
from curate.lm.forward import (
    Measure,
    Reading,
    cache_of,
    can_pack,
    can_share,
    negative_log_likelihood,
    reach,
    read_batch,
    recall,
)
from curate.lm.model import LoadedModel
from curate.lm.packing import (
    LINE_END,
    Encoded,
    Group,
    Pack,
    budget_of,
    encode,
    fit,
    make_groups,
    make_packs,
    make_rows,
    rows_that_fit,
    sizes_of,
)
from curate.records import OK

CPU_BUDGET = 512
"""Tokens a batch on a CPU: small batches stay in its caches and were fastest when measured."""

Report = Callable[[float, int], None]
"""Called with the share of all tokens that is read, from 0 to 1, and the tokens read since the last call."""


@dataclass(frozen=True, slots=True)
class AnswerLoss:
    """The loss of one completion: `nats` summed over its `tokens`; `bytes` is its length in UTF-8.

    `truncated` counts the tokens cut from the left of a prompt that was longer than the model's context.
    """

    nats: float | None
    tokens: int
    bytes: int
    status: str = OK
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class AnswerRecall:
    """Whether the model says one completion and stops: greedily, and in a share of its samples.

    `greedy` is whether it is the greedy answer; `sampled`, from 0 to 1, the chance that a sample (temperature 0.5, the
    40 most likely tokens) is this answer in this tokenisation. Both None where they could not be measured.
    """

    greedy: bool | None
    sampled: float | None
    status: str = OK


def answer_losses(
    loaded: LoadedModel,
    pairs: Sequence[tuple[str, str]],
    token_budget: int | None = None,
    report: Report = lambda share, tokens: None,
) -> list[AnswerLoss]:
    """The loss of each (prompt, completion), in order.

    Equal pairs are computed once, and so is a beginning that many of them share (solved examples, a passage).
    Batches are filled by token count, longest first, so that memory fails at once if it fails; then the budget
    is halved. Neither batch size nor order nor sharing changes a loss. `token_budget` defaults by device; `report`
    is told after every batch how far the work is.
    Raises ModelError when the model gives NaN, or one row alone does not fit in memory.
    """
    found = _read(loaded, pairs, negative_log_likelihood, token_budget, report)
    return [replace(loss, nats=sums[0] if sums else None) for loss, sums in found]


def answer_recalls(
    loaded: LoadedModel,
    pairs: Sequence[tuple[str, str]],
    report: Report = lambda share, tokens: None,
) -> list[AnswerRecall]:
    """Whether the model would say each completion after its prompt, without generating a token.

    One pass over prompt and answer tells what greedy decoding and sampling would do: the answer is the greedy one if
    each of its tokens, and then an end of line or of sequence, is the most likely; a sample is the answer with the
    product of their chances. It misses what would be said in other tokens. Speed and errors as for `answer_losses`.
    """
    found = _read(loaded, pairs, recall(line_ends(loaded)), None, report, with_end=True)
    return [
        AnswerRecall(sums[0] == 0, math.exp(-sums[1])) if sums else AnswerRecall(None, None, loss.status)
        for loss, sums in found
    ]


def _read(
    loaded: LoadedModel,
    pairs: Sequence[tuple[str, str]],
    measure: Measure,
    token_budget: int | None,
    report: Report,
    with_end: bool = False,
) -> list[tuple[AnswerLoss, list[float] | None]]:
    """Of every pair what is known without the model, and what `measure` sums up; None where it cannot be read."""
    texts = list(dict.fromkeys(pairs))
    size = sizes_of(loaded).texts
    if len(texts) > size:
        texts.sort()  # so that texts which begin alike come together
    budget = token_budget or budget_of(loaded, CPU_BUDGET)
    known: dict[tuple[str, str], AnswerLoss] = {}
    sums: dict[tuple[str, str], list[float]] = {}
    # The numbers of a batch are asked for once the next one is on its way: a GPU works on it meanwhile.
    waiting: list[tuple[list[tuple[str, str]], Reading]] = []
    for first in range(0, len(texts), size):
        some = texts[first : first + size]
        items: list[Encoded] = []
        for pair, whole in zip(some, encode(loaded, some), strict=True):
            item = whole.ended() if with_end else whole
            cut = fit(item, loaded.context)
            known[pair] = _before_the_model(pair, item, cut)
            items.append(cut or item)
        runnable = [index for index, pair in enumerate(some) if known[pair].status == OK]
        for reading, share, tokens, left in _readings(loaded, items, runnable, measure, budget):
            budget = left
            waiting.append((some, reading))
            if len(waiting) > 1:
                _collect(sums, *waiting.pop(0))
            report((first + share * len(some)) / len(texts), tokens)
    for each in waiting:
        _collect(sums, *each)
    return [(known[pair], sums.get(pair)) for pair in pairs]


def _collect(sums: dict[tuple[str, str], list[float]], texts: Sequence[tuple[str, str]], reading: Reading) -> None:
    sums.update((texts[index], numbers) for index, numbers in reading.sums().items())


def _before_the_model(pair: tuple[str, str], item: Encoded, cut: Encoded | None) -> AnswerLoss:
    """All that is known without the model: counts, and why there can be no loss."""
    size = len(pair[1].encode("utf-8", "surrogatepass"))
    if cut is None:
        return AnswerLoss(None, max(0, item.end - item.start), size, "too_long")
    if cut.start < 1 or cut.start >= len(cut.ids) or cut.ids[cut.start] == LINE_END:
        return AnswerLoss(None, 0, size, "no_answer_tokens")
    return AnswerLoss(None, cut.end - cut.start, size, truncated=len(item.ids) - len(cut.ids))


def _readings(
    loaded: LoadedModel, items: Sequence[Encoded], runnable: Sequence[int], measure: Measure, budget: int
) -> Iterator[tuple[Reading, float, int, int]]:
    """Batch after batch: what it gave, the share of all tokens that is read with it, its tokens, and the budget."""
    plan = _plan(loaded, items, runnable)
    read, total = 0, sum(len(pack) for _, packs in plan for pack in packs)
    for beginning, packs in plan:
        cache = cache_of(loaded, beginning) if beginning else []
        start = 0
        while start < len(packs):
            fitting = rows_that_fit(len(beginning) + len(packs[start]), len(beginning), budget)
            batch = packs[start : start + fitting]
            try:
                reading = read_batch(loaded, batch, items, cache, measure)
            except RuntimeError as error:
                budget = smaller_budget(error, budget, len(batch))
                continue
            start += len(batch)
            tokens = sum(map(len, batch))
            read += tokens
            yield reading, read / total, tokens, budget


def _plan(
    loaded: LoadedModel, items: Sequence[Encoded], runnable: Sequence[int]
) -> list[tuple[tuple[int, ...], list[Pack]]]:
    """The beginnings to compute first (empty for none), each with the packs that stand on it; the longest first."""
    rows = make_rows(items, runnable)
    most = reach(loaded) if len(rows) > 1 and can_pack(loaded) else 0
    sizes = sizes_of(loaded)
    groups = make_groups(rows, items, sizes.room if most else 0) if can_share(loaded) else [Group(tuple(rows))]
    plan = []
    for group in groups:
        near = [row for row in group.rows if len(row.ids) <= most]
        far = [row for row in group.rows if len(row.ids) > most]
        for chosen, allowed in ((near, sizes.pack), (far, 0)):
            if chosen:
                packs = make_packs(chosen, group.shared, allowed, most)
                plan.append((chosen[0].ids[: group.shared], packs))
    return sorted(plan, key=lambda stage: -len(stage[0]) - len(stage[1][0]))


def smaller_budget(error: RuntimeError, budget: int, rows: int) -> int:
    """Half the budget when memory ran out; any other error goes on."""
    out_of_memory = isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
    if not out_of_memory:
        raise error
    if rows == 1:
        raise ModelError(
            "One example alone does not fit in memory with this model.",
            expected="memory for at least one row",
            try_next=f"{setting('dtype', 'bfloat16')}, another {setting('device')}, or fewer {setting('shots')}",
        ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return max(1, budget // 2)


def line_ends(loaded: LoadedModel) -> torch.Tensor:
    """Of every token (V,) whether it ends an answer: the end of sequence or of a chat's turn, and all line breaks."""
    if loaded.tokenizer not in _line_ends:
        backend: Any = loaded.tokenizer
        size = max(len(backend), loaded.model.config.get_text_config().vocab_size)
        texts = backend.backend_tokenizer.decode_batch([[token] for token in range(size)], skip_special_tokens=False)
        ends = torch.tensor(["\n" in text for text in texts])
        if loaded.tokenizer.eos_token_id is not None:
            ends[loaded.tokenizer.eos_token_id] = True
        _line_ends[loaded.tokenizer] = ends
    if loaded.turn_end is None:
        return _line_ends[loaded.tokenizer]
    ends = _line_ends[loaded.tokenizer].clone()
    ends[loaded.turn_end] = True
    return ends


_line_ends: WeakKeyDictionary[Any, torch.Tensor] = WeakKeyDictionary()
