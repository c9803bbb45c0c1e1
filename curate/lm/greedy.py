"""Greedy short answers, batched: every row goes on until its line ends, and only as long as it must."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from curate.lm.answer_loss import smaller_budget
from curate.lm.batching import Group, Row, make_groups, rows_that_fit
from curate.lm.encode import Encoded
from curate.lm.forward import Cache, cache_of, can_share, reach
from curate.lm.load import LoadedModel

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 10
BUDGETS = {"cpu": 2048}
"""Tokens a batch, by device, those still to come included."""
DEFAULT_BUDGET = 8192
LEFT_TO_SHRINK = 0.75
"""Finished rows leave the batch once no more than this share of it goes on: leaving copies the cache."""


def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    max_new_tokens: int = MAX_NEW_TOKENS,
    token_budget: int | None = None,
) -> list[str]:
    """What the model says after each prompt, in order: greedy, at most `max_new_tokens`, the first line only (B.2).

    Prompts are batched by length with padding on the left; each distinct prompt is answered once, and a beginning
    that many of them share (solved examples) is computed once. A prompt that is longer than the model's context loses
    tokens after its first, which is the beginning of sequence where there is one. ModelError when one prompt alone
    does not fit in memory.
    """
    distinct = list(dict.fromkeys(prompts))
    room = max(2, loaded.context - max_new_tokens)
    texts = loaded.tokenizer(distinct, return_attention_mask=False)["input_ids"] if distinct else []
    ids = [tuple(text) if len(text) <= room else (text[0], *text[len(text) - room + 1 :]) for text in texts]
    said: dict[str, str] = {}
    for indices, new in _answers(loaded, ids, max_new_tokens, token_budget or _budget(loaded)):
        spoken = loaded.tokenizer.batch_decode(new, skip_special_tokens=True)
        said.update((distinct[i], text.split("\n")[0]) for i, text in zip(indices, spoken, strict=True))
    return [said[prompt] for prompt in prompts]


def _answers(
    loaded: LoadedModel, ids: Sequence[tuple[int, ...]], max_new_tokens: int, budget: int
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Indices of the prompts of a batch, and their new tokens."""
    ends = _line_ends(loaded)
    for group in _groups(loaded, ids, max_new_tokens):
        rows = sorted(group.rows, key=lambda row: -len(row.ids))
        cache = cache_of(loaded, rows[0].ids[: group.shared]) if group.shared else []
        start = 0
        while start < len(rows):
            longest = len(rows[start].ids) + max_new_tokens
            batch = rows[start : start + rows_that_fit(longest, group.shared, budget)]
            own = [list(row.ids[group.shared :]) for row in batch]
            try:
                if can_share(loaded):
                    new = _with_cache(loaded, own, max_new_tokens, ends, cache)
                else:
                    new = _generated(loaded, own, max_new_tokens)
            except RuntimeError as error:
                budget = smaller_budget(error, budget, len(batch))
                continue
            yield [row.items[0] for row in batch], new
            start += len(batch)


def _groups(loaded: LoadedModel, ids: Sequence[tuple[int, ...]], max_new_tokens: int) -> list[Group]:
    """The prompts, those together that share a beginning worth computing once."""
    rows = sorted((Row(prompt, (i,)) for i, prompt in enumerate(ids)), key=lambda row: row.ids)
    if not can_share(loaded):
        return [Group(tuple(rows))] if rows else []
    # What is predicted of a prompt is all that comes after it, so all but its last token may be shared.
    groups = make_groups(rows, [Encoded((*prompt, 0), len(prompt), len(prompt) + 1) for prompt in ids])
    # Padding stands between a shared beginning and the rest: no matter, unless the model counts tokens of a window.
    return [
        group if max(len(row.ids) for row in group.rows) + max_new_tokens <= reach(loaded) else Group(group.rows)
        for group in groups
    ]


def _with_cache(
    loaded: LoadedModel,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    ends: Callable[[int], bool],
    shared: Cache,
) -> list[list[int]]:
    """New tokens of each prompt after the shared beginning, the one that ends its line included."""
    import torch
    from transformers import DynamicCache

    ids, mask = _left_padded(loaded, prompts)
    before = shared[0][0].shape[2] if shared else 0
    positions = mask.cumsum(dim=1).sub(1).clamp(min=0) + before
    mask = torch.nn.functional.pad(mask, (before, 0), value=1)
    copies = [(k.expand(len(prompts), -1, -1, -1), v.expand(len(prompts), -1, -1, -1)) for k, v in shared]
    cache: Any = DynamicCache(copies) if copies else DynamicCache(config=loaded.model.config)
    accepted = inspect.signature(loaded.model.forward).parameters
    last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    new: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # whose row of the batch is whose
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            where = {"position_ids": positions} if "position_ids" in accepted else {}
            output = loaded.model(
                input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **where, **last
            )
            chosen = output.logits[:, -1].argmax(dim=-1)  # (B,)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if not (new[row] and ends(new[row][-1])):
                    new[row].append(token)
            going = [n for n, row in enumerate(rows) if not ends(new[row][-1])]
            if not going:
                break
            if len(going) <= LEFT_TO_SHRINK * len(rows):
                kept = torch.tensor(going, device=ids.device)
                cache.batch_select_indices(kept)
                chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
                rows = [rows[n] for n in going]
            ids = chosen[:, None]
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            positions = positions[:, -1:] + 1
    return new


def _generated(loaded: LoadedModel, prompts: Sequence[list[int]], max_new_tokens: int) -> list[list[int]]:
    """The same for models whose memory is not keys and values, such as Mamba."""
    import torch
    from transformers import GenerationConfig

    tokenizer = loaded.tokenizer
    model: Any = loaded.model
    ids, mask = _left_padded(loaded, prompts)
    # A config of our own, since a model's generation_config.json may ask for sampling.
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    with torch.inference_mode():
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [list(row) for row in output[:, ids.shape[1] :].tolist()]


def _left_padded(loaded: LoadedModel, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, (B, T) each."""
    import torch

    width = max(len(ids) for ids in prompts)
    pad = loaded.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in prompts], device=loaded.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=loaded.device)
    return ids, mask


def _line_ends(loaded: LoadedModel) -> Callable[[int], bool]:
    """Whether a token ends an answer: the end of sequence, or any token with a line break in it."""
    known: dict[int, bool] = {loaded.tokenizer.eos_token_id: True}

    def ends(token: int) -> bool:
        if token not in known:
            known[token] = "\n" in str(loaded.tokenizer.decode([token]))
        return known[token]

    return ends


def _budget(loaded: LoadedModel) -> int:
    return BUDGETS.get(loaded.device.type, DEFAULT_BUDGET)
