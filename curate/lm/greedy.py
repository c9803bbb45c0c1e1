"""Greedy short answers, batched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.lm.batching import batches
from curate.lm.load import LoadedModel

MAX_NEW_TOKENS = 10


def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    max_new_tokens: int = MAX_NEW_TOKENS,
    token_budget: int = 8192,
) -> list[str]:
    """What the model says after each prompt, at most `max_new_tokens` greedy tokens, in order (paper B.2).

    Prompts are batched by length with padding on the left; each distinct prompt is answered once.
    """
    distinct = list(dict.fromkeys(prompts))
    room = max(1, loaded.context - max_new_tokens)
    lengths = [min(room, len(ids)) for ids in loaded.tokenizer(distinct)["input_ids"]] if distinct else []
    answers: dict[str, str] = {}
    for batch in batches(lengths, token_budget):
        chosen = [distinct[i] for i in batch]
        answers.update(zip(chosen, _generate(loaded, chosen, max_new_tokens, room), strict=True))
    return [answers[prompt] for prompt in prompts]


def _generate(loaded: LoadedModel, prompts: list[str], max_new_tokens: int, room: int) -> list[str]:
    import torch
    from transformers import GenerationConfig

    tokenizer = loaded.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.truncation_side = "left"
    batch = tokenizer(
        prompts,
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=room,
        return_token_type_ids=False,
    ).to(loaded.device)
    # A config of our own, since a model's generation_config.json may ask for sampling.
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    model: Any = loaded.model
    with torch.inference_mode():
        output = model.generate(**batch, generation_config=config)
    new = output[:, batch["input_ids"].shape[1] :]  # (B, up to max_new_tokens)
    return [str(text) for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
