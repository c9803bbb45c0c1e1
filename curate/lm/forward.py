"""Forward passes over packed texts: shared beginnings, the head at answer places only."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn.utils.rnn import pad_sequence

from curate.errors import ModelError, setting
from curate.lm.model import LoadedModel
from curate.lm.packing import LINE_END, Encoded, Pack, Row, make_packs, make_rows

torch.backends.cuda.enable_cudnn_sdp(False)
"""cuDNN builds its attention anew for every shape that it meets, which takes longer than a batch; and all of ours
differ. What is left where there is a mask, the memory-efficient kernel, takes a few hundredths of a 7B model's time."""


@dataclass
class Prefilled:
    """Prompts that have been read: `order[b]` is the place, among those given, of row b of the batch.

    `logits` (B, V) after each, `cache` with keys and values of all, `mask` (B, T) of the tokens in it that are a row's
    own, `positions` (B,) of the next token.
    """

    order: list[int]
    logits: torch.Tensor
    cache: Any
    mask: torch.Tensor
    positions: torch.Tensor


def read_padded(loaded: LoadedModel, rows: Sequence[Row], shared: int, beginning: Cache) -> Prefilled:
    """Each prompt in a row of its own, padding on the left, after the `shared` first tokens of all."""
    from transformers import DynamicCache

    ids, mask = left_padded(loaded, [row.ids[shared:] for row in rows], shared)
    positions = mask.cumsum(dim=1).sub(1).clamp(min=0)[:, shared:]
    cache: Any = memory_of(beginning, len(rows)) if beginning else DynamicCache(config=loaded.model.config)
    logits = next_logits(loaded, ids, mask, positions, cache)
    return Prefilled(list(range(len(rows))), logits, cache, mask, positions[:, -1] + 1)


def read_packed(loaded: LoadedModel, rows: Sequence[Row], shared: int, beginning: Cache, room: int) -> Prefilled:
    """Prompts side by side in trees (packing.py), where what neighbours begin with is computed once.

    The keys and values of each prompt's tokens are then put together, padding on the left.
    """
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
    _, mask = left_padded(loaded, [path for _, path in paths], shared)
    order = [places[id(row)] for pack in packs for row in pack.rows]
    return Prefilled(order, logits, cache, mask, mask.sum(dim=1))


def next_logits(
    loaded: LoadedModel, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
) -> torch.Tensor:
    """Logits (B, V) after the last of some new tokens (B, T), which the cache remembers."""
    more = {"position_ids": positions} if "position_ids" in _parameters(loaded) else {}
    rows, length = ids.shape
    # Not by `logits_to_keep`: it cuts a view out of the hidden states, for which PyTorch copies the head once a row.
    with head_at(loaded, torch.arange(1, rows + 1) * length - 1) as selected:
        output: Any = loaded.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more)
    return output.logits[0] if selected else output.logits[:, -1]


def left_padded(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], shared: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens with padding on their left (B, T), and the mask of what is no padding (B, shared + T).

    The `shared` tokens before all of them are not among the ids, but in the mask.
    """
    width, pad = max(map(len, rows)), loaded.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=loaded.device)
    mask = torch.tensor([[1] * shared + [0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask.to(loaded.device)


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


Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of every layer, each (1, heads, tokens, width)."""


def can_share(loaded: LoadedModel) -> bool:
    """Whether the model's memory of a text is keys and values, which rows can share (not so for Mamba and its kin)."""
    stateful = getattr(loaded.model, "_is_stateful", False)
    return not stateful and "past_key_values" in _parameters(loaded)


def can_pack(loaded: LoadedModel) -> bool:
    """Whether the model keeps packed texts apart and each token in its place.

    No flag tells (a model may count positions by itself, or make masks of its own), so a small tree that stands on
    a cached token is compared with its texts one by one, once for every model.
    """
    if loaded.model not in _packable:
        _packable[loaded.model] = _packs_alike(loaded)
    return _packable[loaded.model]


_packable: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _packs_alike(loaded: LoadedModel) -> bool:
    if not can_share(loaded) or "position_ids" not in _parameters(loaded):
        return False
    tokens = [n * loaded.model.config.get_text_config().vocab_size // 16 for n in range(1, 16)]
    items = [Encoded((*tokens[:3], *tokens[n : n + 4]), 3, 7) for n in (3, 7, 11)]
    rows = make_rows(items, range(len(items)))
    single, packed = make_packs(rows, shared=0, room=0, most=0), make_packs(rows, shared=1, room=64, most=64)
    alone = read_batch(loaded, single, items, [], negative_log_likelihood).sums()
    try:
        together = read_batch(loaded, packed, items, cache_of(loaded, tokens[:1]), negative_log_likelihood).sums()
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    tolerance = 1e-4 if str(loaded.model.dtype) == "torch.float32" else 3e-2
    return all(math.isclose(alone[i][0], together[i][0], rel_tol=tolerance) for i in alone)


def reach(loaded: LoadedModel) -> int:
    """The longest pack, in tokens, in which no token is out of another's sight by its distance alone."""
    config = loaded.model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    return min(loaded.context, *(w for w in windows if isinstance(w, int) and w > 0), 2**31)


def _parameters(loaded: LoadedModel) -> Mapping[str, Any]:
    return inspect.signature(loaded.model.forward).parameters


def cache_of(loaded: LoadedModel, ids: Sequence[int]) -> Cache:
    """The keys and values of a beginning that many rows share."""
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    with torch.inference_mode(), head_at(loaded, torch.tensor([0])):
        loaded.model(input_ids=torch.tensor([ids], device=loaded.device), past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


Measure = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits (P, V) to K numbers for each of N tokens (N, K), which are summed over the tokens of an answer. Token n,
`tokens[n]`, is predicted by row `rows[n]` of the logits; several tokens may be predicted by one row."""


def negative_log_likelihood(logits: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The loss of every token in nats, with the log-softmax in float32: (N, 1)"""
    return -torch.log_softmax(logits.float(), dim=-1)[rows, tokens, None]


TEMPERATURE, TOP_K = 0.5, 40
"""How answers are sampled (Gekhman et al. 2024)."""
TINY = 1e-30
"""Stands for a chance of nothing, so that its logarithm is a number."""


def recall(ends: torch.Tensor) -> Measure:
    """Whether the model would say every token of an answer, and then stop: greedily, and when it samples. (N, 2)

    The first number is 1 where the token is not the one that is most likely, the second −log of its chance when
    sampled at temperature 0.5 from the 40 most likely tokens. So an answer whose first sum is 0 is the greedy
    answer, and exp of minus its second sum is the chance that a sample is that answer. The token LINE_END stands for
    any token that ends an answer, which `ends` (V,) tells.
    """

    def measure(logits: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        values, likely = logits.float().topk(min(TOP_K, logits.shape[-1]))  # (P, k), the most likely first
        chances = torch.softmax(values / TEMPERATURE, dim=-1)[rows]  # (N, k)
        likely = likely[rows]
        right = torch.where((tokens == LINE_END)[:, None], ends.to(likely.device)[likely], likely == tokens[:, None])
        return torch.stack([(~right[:, 0]).float(), -(chances * right).sum(dim=1).clamp(min=TINY).log()], dim=1)

    return measure


@dataclass(frozen=True)
class Reading:
    """What a batch of packs gave: `numbers` (N, K) of each answer token, and the item `owners[n]` that it belongs to.

    On a GPU the numbers may not be there yet: the next batch can be prepared and sent off before they are asked for.
    """

    owners: Sequence[int]
    numbers: torch.Tensor
    model: str

    def sums(self) -> dict[int, list[float]]:
        """The numbers of each item, summed over its tokens; ModelError where they are not finite."""
        sums: dict[int, list[float]] = {}
        for i, more in zip(self.owners, self.numbers.tolist(), strict=True):
            sums[i] = [a + b for a, b in zip(sums[i], more, strict=True)] if i in sums else more
        if not all(math.isfinite(number) for numbers in sums.values() for number in numbers):
            raise ModelError(
                f"The model {self.model} gives losses that are not finite numbers.",
                expected="a finite loss for every answer",
                try_next=f"{setting('dtype', 'float32')}, if it ran in less; else check the weights",
            )
        return sums


def read_batch(
    loaded: LoadedModel,
    packs: Sequence[Pack],
    items: Sequence[Encoded],
    cache: Cache,
    measure: Measure,
) -> Reading:
    """What `measure` says of every answer token of all items that are read from these packs."""
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
        rows = sent(torch.tensor([rank[place] for place, _, _ in wanted]), logits.device)
        tokens = sent(torch.tensor([token for _, token, _ in wanted]), logits.device)
        return Reading([i for _, _, i in wanted], measure(logits, rows, tokens), loaded.name)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of main memory on its way to the device; nothing waits for the work that the device still has."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def memory_of(cache: Cache, rows: int) -> Any:
    """A `DynamicCache` in which every one of some rows has the same beginning."""
    from transformers import DynamicCache

    return DynamicCache([(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in cache])


def pack_logits(loaded: LoadedModel, packs: Sequence[Pack], places: torch.Tensor, memory: Any) -> torch.Tensor:
    """Logits (P, V) at places of the flattened batch.

    `memory` is what the packs stand on, and keeps their keys and values; None if they stand on nothing and nothing is
    to be kept.
    """
    inputs: dict[str, Any] = {"input_ids": sent(_padded([pack.ids for pack in packs]), loaded.device)}
    inputs["use_cache"] = memory is not None
    if memory is not None:
        inputs["past_key_values"] = memory
    # Single texts need no mask: padding is on the right, where a causal model never looks.
    if not all(pack.is_one_text for pack in packs):
        inputs["position_ids"] = sent(_padded([pack.positions for pack in packs]), loaded.device)
        ends = sent(_padded([pack.ends for pack in packs]), loaded.device)
        inputs["attention_mask"] = tree_mask(ends, packs[0].shared, loaded.model.dtype)
    places = sent(places, loaded.device)
    with head_at(loaded, places) as selected:
        logits = loaded.model(**inputs).logits
    return logits[0] if selected else logits.flatten(0, 1)[places.to(logits.device)]


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Rows of numbers (B, T), filled with 0 on the right."""
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)


def tree_mask(ends: torch.Tensor, shared: int, dtype: torch.dtype) -> torch.Tensor:
    """What is added to attention scores (B, 1, T, shared + T): 0 where a token sees another, else the lowest number.

    `ends` (B, T) is that of the packs; padding, whose end is 0, sees itself: a row of nothing but the lowest number
    would give NaN in some kernels. Made where `ends` is: the mask is T times as large.
    """
    size, length = ends.shape
    index = torch.arange(length, device=ends.device)
    own = torch.eye(length, dtype=torch.bool, device=ends.device)
    sees = (index[:, None] >= index) & ((index[:, None] < ends[:, None, :]) | own)  # (B, T, T)
    # Rows begin at multiples of 8 numbers, or kernels on GPUs would copy the mask in every layer.
    wide = torch.zeros((size, 1, length, -(-(shared + length) // 8) * 8), dtype=dtype, device=ends.device)
    mask = wide[..., : shared + length]
    mask[..., shared:].masked_fill_(~sees[:, None], torch.finfo(dtype).min)
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


MOST_WEIGHTS = 1_000_000_000
"""A model with more weights stays as it is: a second copy of them might not fit in memory."""


@contextmanager
def adapters_merged(loaded: LoadedModel) -> Iterator[None]:
    """While it lasts, LoRA adapters in the model are part of its weights; afterwards every bit is as before.

    Only in float32, where what is added is not rounded away, and only of a model that is small enough for a copy.
    """
    layers = _adapted_layers(loaded)
    if not layers or str(loaded.model.dtype) != "torch.float32" or loaded.model.num_parameters() > MOST_WEIGHTS:
        yield
        return
    # Taking the adapters out again would leave rounding errors, and the next arm would start from another model.
    before = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    try:
        for layer in layers:
            layer.merge()
        yield
    finally:
        for layer, weight in zip(layers, before, strict=True):
            if layer.merged:
                layer.unmerge()
            layer.get_base_layer().weight.data.copy_(weight)


def _adapted_layers(loaded: LoadedModel) -> list[Any]:
    if not hasattr(loaded.model, "peft_config"):
        return []
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [
        module for module in loaded.model.modules() if isinstance(module, LoraLayer) and not module.merged
    ]
    # Weights of 4 bits (QLoRA) would be rounded anew.
    return layers if all(layer.get_base_layer().weight.is_floating_point() for layer in layers) else []
