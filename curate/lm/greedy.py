"""Greedy short answers, batched: every row goes on until its line ends, and only as long as it must."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from curate.lm.batching import batches
from curate.lm.forward import can_share
from curate.lm.load import LoadedModel

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 10
LEFT_TO_SHRINK = 0.75
"""Finished rows leave the batch once no more than this share of it goes on: leaving copies the cache."""


def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    max_new_tokens: int = MAX_NEW_TOKENS,
    token_budget: int = 8192,
) -> list[str]:
    """What the model says after each prompt, in order: greedy, at most `max_new_tokens`, the first line only (B.2).

    Prompts are batched by length with padding on the left; each distinct prompt is answered once. One that is
    longer than the model's context loses tokens after its first, which is the beginning of sequence where there is
    one.
    """
    distinct = list(dict.fromkeys(prompts))
    room = max(2, loaded.context - max_new_tokens)
    texts = loaded.tokenizer(distinct, return_attention_mask=False)["input_ids"] if distinct else []
    ids = [list(text) if len(text) <= room else [text[0], *text[len(text) - room + 1 :]] for text in texts]
    speak = _with_cache if can_share(loaded) else _generated
    ends = _line_ends(loaded)
    said: dict[str, str] = {}
    for batch in batches([len(text) for text in ids], token_budget):
        new = speak(loaded, [ids[i] for i in batch], max_new_tokens, ends)
        spoken = loaded.tokenizer.batch_decode(new, skip_special_tokens=True)
        said.update((distinct[i], text.split("\n")[0]) for i, text in zip(batch, spoken, strict=True))
    return [said[prompt] for prompt in prompts]


def _with_cache(
    loaded: LoadedModel, prompts: Sequence[list[int]], max_new_tokens: int, ends: Callable[[int], bool]
) -> list[list[int]]:
    """New tokens of each prompt, the one that ends its line included."""
    import torch
    from transformers import DynamicCache

    ids, mask = _left_padded(loaded, prompts)
    accepted = inspect.signature(loaded.model.forward).parameters
    last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    positions = mask.cumsum(dim=1).sub(1).clamp(min=0)
    cache: Any = DynamicCache(config=loaded.model.config)
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


def _generated(
    loaded: LoadedModel, prompts: Sequence[list[int]], max_new_tokens: int, ends: Callable[[int], bool]
) -> list[list[int]]:
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
