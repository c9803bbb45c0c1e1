"""What the model answers: greedily, or sampled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curate.errors import ModelError, setting
from curate.lm.forward import (
    TEMPERATURE,
    TOP_K,
    Cache,
    Prefilled,
    cache_of,
    can_pack,
    can_share,
    keep_rows,
    left_padded,
    next_logits,
    reach,
    read_packed,
    read_padded,
)
from curate.lm.loss import line_ends, smaller_budget
from curate.lm.model import LoadedModel
from curate.lm.packing import (
    CACHED_PER_BUDGET,
    Encoded,
    Group,
    Row,
    budget_of,
    common,
    make_groups,
    rows_that_fit,
    sizes_of,
)

MAX_NEW_TOKENS = 10
CPU_BUDGET = 4096
"""Tokens a batch on a CPU, those still to come included."""


def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    max_new_tokens: int = MAX_NEW_TOKENS,
    token_budget: int | None = None,
) -> list[str]:
    """What the model says after each prompt, in order: greedy, at most `max_new_tokens`, the first line only (B.2).

    Prompts that begin alike are read side by side, what they begin with once (packing.py); where a model does not keep
    them apart they are batched by length, with padding on the left. Each distinct prompt is answered once, and a
    beginning that many of them share (solved examples) is computed once. A prompt that is longer than the model's
    context loses tokens after its first, which is the beginning of sequence where there is one. ModelError when one
    prompt alone does not fit in memory.
    """
    distinct = list(dict.fromkeys(prompts))
    if loaded.generator:
        new = loaded.generator.greedy(_prompt_ids(loaded, distinct, max_new_tokens), max_new_tokens)
        texts = _first_lines(loaded, new)
    else:
        texts = _texts(loaded, distinct, max_new_tokens, token_budget, None)
    said = dict(zip(distinct, texts, strict=True))
    return [said[prompt] for prompt in prompts]


def sampled_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    samples: int,
    seed: int = 0,
    max_new_tokens: int = MAX_NEW_TOKENS,
    token_budget: int | None = None,
) -> list[list[str]]:
    """So many answers to each prompt, drawn at temperature 0.5 from the 40 most likely tokens; else as greedy answers.

    What is drawn depends on the seed, the prompt and the number of the sample, and on nothing else: not on the other
    prompts, nor on how they come in batches.
    """
    if loaded.generator:
        ids = _prompt_ids(loaded, prompts, max_new_tokens)
        drawn = loaded.generator.sampled(ids, samples, seed, max_new_tokens)
        return [_first_lines(loaded, new) for new in drawn]
    if not can_share(loaded):
        raise ModelError(
            f"Answers of {loaded.name} cannot be sampled: its memory is not keys and values.",
            expected="a transformer",
            try_next=setting("known_mode", "exact"),
        )
    draws = np.concatenate(
        [_uniform(prompt, seed, samples, max_new_tokens) for prompt in prompts] or [np.empty((0, 1))]
    )
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    said = _texts(loaded, repeated, max_new_tokens, token_budget, torch.from_numpy(draws))
    return [said[n * samples : (n + 1) * samples] for n in range(len(prompts))]


def _uniform(prompt: str, seed: int, samples: int, tokens: int) -> NDArray[np.float64]:
    """A number from 0 to 1 for every token of every sample: (samples, tokens)"""
    content = f"{seed}:{prompt}".encode("utf-8", "surrogatepass")
    key = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).random((samples, tokens))


@dataclass(frozen=True)
class Wanted:
    """At most so many new tokens, until one ends an answer, which `ends` (V,) tells; greedy ones without `draws`
    (prompts, tokens)."""

    tokens: int
    ends: Sequence[bool]
    draws: torch.Tensor | None


def _texts(
    loaded: LoadedModel, prompts: Sequence[str], max_new_tokens: int, budget: int | None, draws: torch.Tensor | None
) -> list[str]:
    """What the model says after each prompt, the first line of it: greedily, or by `draws` (prompts, tokens)."""
    ids = _prompt_ids(loaded, prompts, max_new_tokens)
    wanted = Wanted(max_new_tokens, line_ends(loaded).tolist(), draws)
    said = [""] * len(prompts)
    for indices, new in _answers(loaded, ids, wanted, budget or budget_of(loaded, CPU_BUDGET)):
        for index, text in zip(indices, _first_lines(loaded, new), strict=True):
            said[index] = text
    return said


def _prompt_ids(loaded: LoadedModel, prompts: Sequence[str], max_new_tokens: int) -> list[tuple[int, ...]]:
    room = max(2, loaded.context - max_new_tokens)
    texts = loaded.tokenize(list(prompts), return_attention_mask=False)["input_ids"] if prompts else []
    return [tuple(text) if len(text) <= room else (text[0], *text[len(text) - room + 1 :]) for text in texts]


def _first_lines(loaded: LoadedModel, new: Sequence[list[int]]) -> list[str]:
    """What new tokens say, as text, up to a line break."""
    new = [tokens[:-1] if tokens[-1:] == [loaded.turn_end] else tokens for tokens in new]
    texts = loaded.tokenizer.batch_decode(new, skip_special_tokens=True) if new else []
    return [text.split("\n")[0] for text in texts]


def _answers(
    loaded: LoadedModel, ids: Sequence[tuple[int, ...]], wanted: Wanted, budget: int
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Indices of the prompts of a batch, and their new tokens."""
    longest_packed = reach(loaded) - wanted.tokens if len(ids) > 1 and can_pack(loaded) else 0
    for group in _groups(loaded, ids, wanted.tokens, sizes_of(loaded).room if longest_packed > 0 else 0):
        packed = max(len(row.ids) for row in group.rows) <= longest_packed
        rows = list(group.rows) if packed else sorted(group.rows, key=lambda row: -len(row.ids))
        beginning = cache_of(loaded, rows[0].ids[: group.shared]) if group.shared else []
        start = 0
        while start < len(rows):
            batch = rows[start : start + _fitting(rows[start:], group.shared, wanted.tokens, budget, packed)]
            try:
                new = _batch_answers(loaded, batch, group.shared, beginning, packed, wanted)
            except RuntimeError as error:
                budget = smaller_budget(error, budget, len(batch))
                continue
            yield [row.items[0] for row in batch], new
            start += len(batch)


def _groups(loaded: LoadedModel, ids: Sequence[tuple[int, ...]], max_new_tokens: int, room: int) -> list[Group]:
    """The prompts, those together that share a beginning worth computing once."""
    rows = sorted((Row(prompt, (i,)) for i, prompt in enumerate(ids)), key=lambda row: row.ids)
    if not can_share(loaded):
        return [Group(tuple(rows))] if rows else []
    # What is predicted of a prompt is all that comes after it, so all but its last token may be shared.
    items = [Encoded((*prompt, 0), len(prompt), len(prompt) + 1) for prompt in ids]
    groups = make_groups(rows, items, room, passes=max_new_tokens if room else 1)  # a group's tokens come one by one
    # Padding stands between a shared beginning and the rest: no matter, unless the model counts tokens of a window.
    return [
        group if max(len(row.ids) for row in group.rows) + max_new_tokens <= reach(loaded) else Group(group.rows)
        for group in groups
    ]


def _fitting(rows: Sequence[Row], shared: int, max_new_tokens: int, budget: int, packed: bool) -> int:
    """How many of the next rows make a batch: by the tokens that are computed, and by those that are kept."""
    if not packed:
        return rows_that_fit(len(rows[0].ids) + max_new_tokens, shared, budget)
    computed, longest = 0, 0
    for count, (row, before) in enumerate(zip(rows, [None, *rows], strict=False)):
        computed += len(row.ids) - max(shared, common(row.ids, before.ids) if before else 0) + max_new_tokens
        longest = max(longest, len(row.ids) + max_new_tokens)
        if count and (computed > budget or (count + 1) * longest > CACHED_PER_BUDGET * budget):
            return count
    return len(rows)


def _batch_answers(
    loaded: LoadedModel, rows: Sequence[Row], shared: int, beginning: Cache, packed: bool, wanted: Wanted
) -> list[list[int]]:
    """New tokens of each row, the one that ends its line included."""
    if not can_share(loaded):
        return _generated(loaded, rows, wanted.tokens)
    with torch.inference_mode():
        if packed:
            prefilled = read_packed(loaded, rows, shared, beginning, sizes_of(loaded).pack)
        else:
            prefilled = read_padded(loaded, rows, shared, beginning)
        own = None if wanted.draws is None else wanted.draws[[rows[n].items[0] for n in prefilled.order]]
        return _continued(loaded, prefilled, wanted, own)


def _continued(
    loaded: LoadedModel, prefilled: Prefilled, wanted: Wanted, draws: torch.Tensor | None
) -> list[list[int]]:
    """Tokens of each row until its line ends, greedy or by its `draws` (B, tokens); rows that have ended leave."""
    cache, mask, positions, rows = prefilled.cache, prefilled.mask, prefilled.positions, prefilled.order
    new: list[list[int]] = [[] for _ in rows]
    logits, kept = prefilled.logits, torch.arange(len(rows))
    while True:
        length = len(new[rows[0]])
        chosen = logits.argmax(dim=-1) if draws is None else sampled_tokens(logits, draws[kept, length])  # (B,)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            new[row].append(token)
        going = [n for n, row in enumerate(rows) if not wanted.ends[new[row][-1]]]
        if not going or length + 1 == wanted.tokens:
            return new
        if len(going) < len(rows):  # leaving copies the cache
            staying = torch.tensor(going, device=chosen.device)
            keep_rows(cache, staying)
            chosen, mask, positions = chosen[staying], mask[staying], positions[staying]
            rows, kept = [rows[n] for n in going], kept[going]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        logits = next_logits(loaded, chosen[:, None], mask, positions[:, None], cache)
        positions = positions + 1


def sampled_tokens(logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """A token of each row (B,), from the 40 most likely at temperature 0.5; `draws` (B,) say which, from 0 to 1."""
    values, likely = logits.float().topk(min(TOP_K, logits.shape[-1]))
    shares = torch.softmax(values / TEMPERATURE, dim=-1).double().cumsum(dim=-1)
    place = torch.searchsorted(shares, draws[:, None].to(shares.device)).clamp(max=likely.shape[-1] - 1)
    return likely.gather(1, place)[:, 0]


def _generated(loaded: LoadedModel, rows: Sequence[Row], max_new_tokens: int) -> list[list[int]]:
    """The same for models whose memory is not keys and values, such as Mamba."""
    from transformers import GenerationConfig

    model: Any = loaded.model
    ids, mask = left_padded(loaded, [row.ids for row in rows])
    # A config of our own, since a model's generation_config.json may ask for sampling.
    special = {name: getattr(loaded.tokenizer, name) for name in ("pad_token_id", "bos_token_id")}
    special["eos_token_id"] = [e for e in (loaded.tokenizer.eos_token_id, loaded.turn_end) if e is not None] or None
    config = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, **special)
    with torch.inference_mode():
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [list(row) for row in output[:, ids.shape[1] :].tolist()]
