"""Passes through the model: a shared beginning once, then batches of rows, the output head only where it is needed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from curate.errors import ModelError
from curate.lm.batching import Row
from curate.lm.encode import Encoded
from curate.lm.load import LoadedModel

if TYPE_CHECKING:
    import torch

Cache = list[tuple["torch.Tensor", "torch.Tensor"]]
"""Keys and values of every layer, each (1, heads, tokens, width)."""


def can_share(loaded: LoadedModel) -> bool:
    """Whether the model's memory of a text is keys and values, which rows can share (not so for Mamba and its kin)."""
    stateful = getattr(loaded.model, "_is_stateful", False)
    return not stateful and "past_key_values" in inspect.signature(loaded.model.forward).parameters


def cache_of(loaded: LoadedModel, ids: Sequence[int]) -> Cache:
    """The keys and values of a beginning that many rows share."""
    import torch
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    with torch.inference_mode(), _head_at(loaded, torch.tensor([0])):
        loaded.model(input_ids=torch.tensor([ids], device=loaded.device), past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def batch_nats(loaded: LoadedModel, rows: Sequence[Row], items: Sequence[Encoded], cache: Cache) -> dict[int, float]:
    """Summed negative log-likelihoods in nats of all items read from these rows, with the log-softmax in float32.

    No attention mask is given: padding is on the right, where a causal model never looks.
    """
    import torch

    shared = cache[0][0].shape[-2] if cache else 0
    width = max(len(row.ids) for row in rows) - shared
    ids = torch.zeros((len(rows), width), dtype=torch.long)  # (B, T); any token pads
    for number, row in enumerate(rows):
        ids[number, : len(row.ids) - shared] = torch.tensor(row.ids[shared:])
    # One entry for each answer token: where it is predicted (in the flattened batch), what it is, whose it is.
    wanted = [
        (number * width + t - 1 - shared, items[i].ids[t], i)
        for number, row in enumerate(rows)
        for i in row.items
        for t in range(items[i].start, items[i].end)
    ]
    places = sorted({place for place, _, _ in wanted})
    rank = {place: n for n, place in enumerate(places)}
    with torch.inference_mode():
        log_p = torch.log_softmax(_logits(loaded, ids, torch.tensor(places), cache).float(), dim=-1)  # (P, V)
        chosen = log_p[[rank[place] for place, _, _ in wanted], [token for _, token, _ in wanted]].tolist()
    nats: dict[int, float] = {}
    for (_, _, i), value in zip(wanted, chosen, strict=True):
        nats[i] = nats.get(i, 0.0) - value
    _check_finite(loaded, nats)
    return nats


def _logits(loaded: LoadedModel, ids: torch.Tensor, places: torch.Tensor, cache: Cache) -> torch.Tensor:
    """Logits (P, V) at places of the flattened batch."""
    from transformers import DynamicCache

    past: dict[str, Any] = {"use_cache": False}
    if cache:
        shared = DynamicCache([(k.expand(len(ids), -1, -1, -1), v.expand(len(ids), -1, -1, -1)) for k, v in cache])
        past = {"past_key_values": shared, "use_cache": True}
    with _head_at(loaded, places) as selected:
        logits = loaded.model(input_ids=ids.to(loaded.device), **past).logits
    return logits[0] if selected else logits.flatten(0, 1)[places.to(logits.device)]


@contextmanager
def _head_at(loaded: LoadedModel, places: torch.Tensor) -> Iterator[bool]:
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
    import math

    if all(math.isfinite(value) for value in nats.values()):
        return
    raise ModelError(
        f"The model {loaded.name} gives losses that are not finite numbers.",
        expected="a finite loss for every answer",
        try_next="--dtype float32, if it ran in less; else check the weights",
    )
