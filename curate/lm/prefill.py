"""Reading prompts: the first token after each, and the memory from which the answers go on."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.lm.batching import Row
from curate.lm.forward import Cache, memory_of, pack_logits, reach
from curate.lm.load import LoadedModel
from curate.lm.packing import make_packs

if TYPE_CHECKING:
    import torch


@dataclass
class Begun:
    """Prompts that have been read: `order[b]` is the place, among those given, of row b of the batch.

    `logits` (B, V) after each, `cache` with keys and values of all, `mask` (B, T) of the tokens in it that are a row's
    own, `positions` (B,) of the next token.
    """

    order: list[int]
    logits: torch.Tensor
    cache: Any
    mask: torch.Tensor
    positions: torch.Tensor


def read_padded(loaded: LoadedModel, rows: Sequence[Row], shared: int, beginning: Cache) -> Begun:
    """Each prompt in a row of its own, padding on the left, after the `shared` first tokens of all."""
    import torch
    from transformers import DynamicCache

    own = [row.ids[shared:] for row in rows]
    width = max(map(len, own))
    pad = loaded.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in own], device=loaded.device)
    mask = _left_mask([len(row) for row in own], width, shared, loaded)
    positions = mask.cumsum(dim=1).sub(1).clamp(min=0)[:, shared:]
    cache: Any = memory_of(beginning, len(rows)) if beginning else DynamicCache(config=loaded.model.config)
    logits = next_logits(loaded, ids, mask, positions, cache)
    return Begun(list(range(len(rows))), logits, cache, mask, positions[:, -1] + 1)


def read_packed(loaded: LoadedModel, rows: Sequence[Row], shared: int, beginning: Cache, room: int) -> Begun:
    """Prompts side by side in trees (packing.py), where what neighbours begin with is computed once.

    The keys and values of each prompt's tokens are then put together, padding on the left.
    """
    import torch
    from transformers import DynamicCache

    places = {id(row): place for place, row in enumerate(rows)}
    packs = make_packs(rows, shared, room, most=min(room + shared, reach(loaded)))
    length = max(map(len, packs))
    paths = [(number, path) for number, pack in enumerate(packs) for path in pack.paths]
    cache: Any = memory_of(beginning, len(packs)) if beginning else DynamicCache()
    ends = torch.tensor([number * length + path[-1] for number, path in paths])
    logits = pack_logits(loaded, packs, ends, cache)
    width = max(len(path) for _, path in paths)
    tokens = torch.arange(shared + width).repeat(len(paths), 1)  # (B, T), by their place in the pack
    for row, (_, path) in enumerate(paths):
        tokens[row, -len(path) :] = torch.tensor(path) + shared
    tokens += (shared + length) * torch.tensor([number for number, _ in paths])[:, None]
    for layer in cache.layers:
        layer.keys, layer.values = _gathered(layer.keys, tokens), _gathered(layer.values, tokens)
    mask = _left_mask([len(path) for _, path in paths], width, shared, loaded)
    order = [places[id(row)] for pack in packs for row in pack.rows]
    return Begun(order, logits, cache, mask, mask.sum(dim=1))


def next_logits(
    loaded: LoadedModel, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
) -> torch.Tensor:
    """Logits (B, V) after the last of some new tokens (B, T), which the cache remembers."""
    accepted = inspect.signature(loaded.model.forward).parameters
    more: dict[str, Any] = {"position_ids": positions} if "position_ids" in accepted else {}
    more |= {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    model: Any = loaded.model
    output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more)
    return output.logits[:, -1]


def _left_mask(lengths: Sequence[int], width: int, shared: int, loaded: LoadedModel) -> torch.Tensor:
    """1 for the shared beginning and the tokens of each row, 0 for the padding between: (B, shared + width)"""
    import torch

    place = torch.arange(shared + width)
    own = place >= shared + width - torch.tensor(lengths)[:, None]
    return ((place < shared) | own).long().to(loaded.device)


def keep_rows(cache: Any, rows: torch.Tensor) -> None:
    """Forget all but some rows of the batch.

    Where layers remember keys and values and nothing else, `index_select` takes two thirds of the time of the cache's
    own way.
    """
    from transformers.cache_utils import DynamicLayer

    if not all(isinstance(layer, DynamicLayer) for layer in cache.layers):
        cache.batch_select_indices(rows)
        return
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.index_select(0, rows), layer.values.index_select(0, rows)


def _gathered(kept: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Of (packs, heads, length, size) the tokens (B, T), counted over all packs: (B, heads, T, size)"""
    packs, heads, length, size = kept.shape
    flat = kept.transpose(1, 2).reshape(packs * length, heads * size).index_select(0, tokens.flatten().to(kept.device))
    return flat.view(*tokens.shape, heads, size).transpose(1, 2)
