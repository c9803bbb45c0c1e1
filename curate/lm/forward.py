"""Passes through the model: a shared beginning once, then batches of rows, the output head only where it is needed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from curate.errors import ModelError
from curate.lm.batching import make_rows
from curate.lm.encode import Encoded
from curate.lm.load import LoadedModel
from curate.lm.packing import Pack, make_packs

if TYPE_CHECKING:
    import torch

Cache = list[tuple["torch.Tensor", "torch.Tensor"]]
"""Keys and values of every layer, each (1, heads, tokens, width)."""
PACKED_ALIKE = {"torch.float32": 1e-4}
"""How alike losses of packed and single texts must be for a model to be packed; less exact dtypes: 3%."""


def can_share(loaded: LoadedModel) -> bool:
    """Whether the model's memory of a text is keys and values, which rows can share (not so for Mamba and its kin)."""
    stateful = getattr(loaded.model, "_is_stateful", False)
    return not stateful and "past_key_values" in _parameters(loaded)


def can_pack(loaded: LoadedModel) -> bool:
    """Whether the model keeps packed texts apart and each token in its place.

    No flag tells (a model may count positions by itself, or make masks of its own), so a small tree that stands on
    a cached token is compared with its texts one by one.
    """
    if not can_share(loaded) or "position_ids" not in _parameters(loaded):
        return False
    tokens = [n * loaded.model.config.get_text_config().vocab_size // 16 for n in range(1, 16)]
    items = [Encoded((*tokens[:3], *tokens[n : n + 4]), 3, 7) for n in (3, 7, 11)]
    rows = make_rows(items, range(len(items)))
    alone = batch_nats(loaded, make_packs(rows, shared=0, room=0, most=0), items, [])
    try:
        together = batch_nats(loaded, make_packs(rows, shared=1, room=64, most=64), items, cache_of(loaded, tokens[:1]))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    tolerance = PACKED_ALIKE.get(str(loaded.model.dtype), 3e-2)
    return all(math.isclose(alone[i], together[i], rel_tol=tolerance) for i in alone)


def reach(loaded: LoadedModel) -> int:
    """The longest pack, in tokens, in which no token is out of another's sight by its distance alone."""
    config = loaded.model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    return min(loaded.context, *(w for w in windows if isinstance(w, int) and w > 0), 2**31)


def _parameters(loaded: LoadedModel) -> Mapping[str, Any]:
    return inspect.signature(loaded.model.forward).parameters


def cache_of(loaded: LoadedModel, ids: Sequence[int]) -> Cache:
    """The keys and values of a beginning that many rows share."""
    import torch
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    with torch.inference_mode(), head_at(loaded, torch.tensor([0])):
        loaded.model(input_ids=torch.tensor([ids], device=loaded.device), past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def batch_nats(loaded: LoadedModel, packs: Sequence[Pack], items: Sequence[Encoded], cache: Cache) -> dict[int, float]:
    """Summed negative log-likelihoods in nats of all items read from these packs, with the log-softmax in float32."""
    import torch

    width = max(len(pack) for pack in packs)
    # One entry for each answer token: where it is predicted (in the flattened batch), what it is, whose it is.
    wanted = [
        (number * width + path[t - 1 - pack.shared], items[i].ids[t], i)
        for number, pack in enumerate(packs)
        for row, path in zip(pack.rows, pack.paths, strict=True)
        for i in row.items
        for t in range(items[i].start, items[i].end)
    ]
    places = sorted({place for place, _, _ in wanted})
    rank = {place: n for n, place in enumerate(places)}
    with torch.inference_mode():
        logits = pack_logits(loaded, packs, torch.tensor(places), memory_of(cache, len(packs)) if cache else None)
        log_p = torch.log_softmax(logits.float(), dim=-1)  # (P, V)
        chosen = log_p[[rank[place] for place, _, _ in wanted], [token for _, token, _ in wanted]].tolist()
    nats: dict[int, float] = {}
    for (_, _, i), value in zip(wanted, chosen, strict=True):
        nats[i] = nats.get(i, 0.0) - value
    _check_finite(loaded, nats)
    return nats


def memory_of(cache: Cache, rows: int) -> Any:
    """A `DynamicCache` in which every one of some rows has the same beginning."""
    from transformers import DynamicCache

    return DynamicCache([(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in cache])


def pack_logits(loaded: LoadedModel, packs: Sequence[Pack], places: torch.Tensor, memory: Any) -> torch.Tensor:
    """Logits (P, V) at places of the flattened batch.

    `memory` is what the packs stand on, and keeps their keys and values; None if they stand on nothing and nothing is
    to be kept.
    """
    inputs: dict[str, Any] = {"input_ids": _padded([pack.ids for pack in packs]).to(loaded.device), "use_cache": False}
    if memory is not None:
        inputs |= {"past_key_values": memory, "use_cache": True}
    # Single texts need no mask: padding is on the right, where a causal model never looks.
    if not all(pack.is_one_text for pack in packs):
        inputs["position_ids"] = _padded([pack.positions for pack in packs]).to(loaded.device)
        inputs["attention_mask"] = _tree_mask(packs, loaded.model.dtype).to(loaded.device)
    with head_at(loaded, places) as selected:
        logits = loaded.model(**inputs).logits
    return logits[0] if selected else logits.flatten(0, 1)[places.to(logits.device)]


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Rows of numbers (B, T), filled with 0 on the right."""
    import torch

    padded = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row)
    return padded


def _tree_mask(packs: Sequence[Pack], dtype: torch.dtype) -> torch.Tensor:
    """What is added to attention scores (B, 1, T, shared + T): 0 where a token sees another, else the lowest number."""
    import torch

    ends = _padded([pack.ends for pack in packs])[:, None, :]  # (B, 1, T)
    index = torch.arange(ends.shape[-1])
    sees = (index[:, None] >= index) & ((index[:, None] < ends) | torch.eye(len(index), dtype=torch.bool))
    mask = torch.zeros((len(packs), 1, len(index), packs[0].shared + len(index)), dtype=dtype)
    mask[..., packs[0].shared :].masked_fill_(~sees[:, None], torch.finfo(dtype).min)
    return mask


@contextmanager
def head_at(loaded: LoadedModel, places: torch.Tensor) -> Iterator[bool]:
    """While it lasts, the output head sees only these places of the flattened batch; gives whether that is so.

    The head is most of a small model's work, and the answer is a few tokens of the text. `logits_to_keep` would
    keep the same columns of every row, so a batch would pay for each column in which any row has its answer.
    """
    head = loaded.model.get_output_embeddings()
    if head is None:
        yield False
        return

    def select(module: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        hidden = arguments[0].flatten(0, 1)  # (B × T, D)
        return (hidden[places.to(hidden.device)].unsqueeze(0),)  # (1, P, D)

    handle = head.register_forward_pre_hook(select)
    try:
        yield True
    finally:
        handle.remove()


def _check_finite(loaded: LoadedModel, nats: dict[int, float]) -> None:
    if all(math.isfinite(value) for value in nats.values()):
        return
    raise ModelError(
        f"The model {loaded.name} gives losses that are not finite numbers.",
        expected="a finite loss for every answer",
        try_next="--dtype float32, if it ran in less; else check the weights",
    )
