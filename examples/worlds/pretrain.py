"""Pretrain a small Llama on the statements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def new_model(tokenizer: PreTrainedTokenizerFast, width: int, depth: int, feedforward: int) -> LlamaForCausalLM:
    """A Llama with tied embeddings, so that most of its million parameters are left for the layers."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=feedforward,
        num_hidden_layers=depth,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """Token ids of `<s> text </s>`, padded on the right to one length."""
    ids = [[*row, tokenizer.eos_token_id] for row in tokenizer(texts)["input_ids"]]
    padded = np.full((len(ids), max(map(len, ids))), tokenizer.pad_token_id, dtype=np.int16)
    for row, tokens in zip(padded, ids, strict=True):
        row[: len(tokens)] = tokens
    return padded


def group_by_length(order: np.ndarray, tokens: np.ndarray, batch_size: int, pad: int, seed: int) -> np.ndarray:
    """The same draws with texts of like length in one batch: of every 16 batches, short texts need no padding then.

    Which batch of the 16 comes first stays random. `order` must fill whole batches.
    """
    rng = np.random.default_rng([seed, 3])
    lengths = (tokens != pad).sum(1)
    grouped = []
    for window in np.split(order, range(16 * batch_size, len(order), 16 * batch_size)):
        batches = window[np.argsort(lengths[window], kind="stable")].reshape(-1, batch_size)
        grouped.append(rng.permutation(batches).ravel())
    return np.concatenate(grouped)


def mixed(*kinds: np.ndarray) -> list[np.ndarray]:
    """Batches of several kinds of text, (batches, rows) each, every kind spread evenly over the whole."""
    placed = [((number + 0.5) / len(kind), batch) for kind in kinds for number, batch in enumerate(kind)]
    return [batch for _, batch in sorted(placed, key=lambda item: item[0])]


def pretrain(model: LlamaForCausalLM, tokens: np.ndarray, batches: Sequence[np.ndarray], learning_rate: float) -> None:
    """One pass over the corpus: `batches` name the rows of `tokens` in the order in which they were drawn."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.1, betas=(0.9, 0.98), fused=True)
    warmup = len(batches) // 50
    pad = model.config.pad_token_id
    model.train()
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _schedule(step, warmup, len(batches))
        batch = torch.from_numpy(tokens[rows].astype(np.int64))
        batch = batch[:, : int((batch != pad).sum(1).max())]
        # Right padding under a causal mask needs no attention mask: no real token looks at a pad.
        logits = model(input_ids=batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=pad)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 200 == 0:
            print(f"step {step:5d} of {len(batches)}  loss {loss.item():.3f}", flush=True)


def _schedule(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
