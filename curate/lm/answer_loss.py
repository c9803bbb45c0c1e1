"""The negative log-likelihood of an answer given its prompt, as a careful researcher would compute it by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.errors import ModelError
from curate.lm.load import LoadedModel
from curate.records import OK

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class AnswerLoss:
    """The loss of one completion: `nats` summed over its `tokens`; `bytes` is its length in UTF-8."""

    nats: float | None
    tokens: int
    bytes: int
    status: str = OK


@dataclass(frozen=True, slots=True)
class Encoded:
    """Prompt and completion tokenised as one text; the completion's tokens are `ids[start:end]`."""

    ids: tuple[int, ...]
    start: int
    end: int


def encode(loaded: LoadedModel, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Tokenise each prompt + completion jointly and find the completion's tokens by character offsets.

    A token that reaches past the end of the prompt belongs to the completion, also when it begins before the
    join. Special tokens are left to the tokenizer; none of them counts as part of the completion.
    """
    batch = loaded.tokenizer(
        [prompt + completion for prompt, completion in pairs],
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )
    columns = zip(pairs, batch["input_ids"], batch["offset_mapping"], batch["special_tokens_mask"], strict=True)
    encoded = []
    for (prompt, _), ids, offsets, special in columns:
        answer = [i for i, (_, end) in enumerate(offsets) if end > len(prompt) and not special[i]] or [len(ids)]
        encoded.append(Encoded(tuple(ids), answer[0], answer[-1] + 1))
    return encoded


def answer_losses(loaded: LoadedModel, pairs: Sequence[tuple[str, str]], token_budget: int = 4096) -> list[AnswerLoss]:
    """The loss of each (prompt, completion), in order.

    Batches are filled by token count, longest first, so that memory fails at once if it fails. Neither batch
    size nor order changes a loss: padding is on the right, where a causal model never looks. Equal pairs are
    computed once. Raises ModelError when the model gives NaN.
    """
    distinct = list(dict.fromkeys(pairs))
    encoded = encode(loaded, distinct) if distinct else []
    losses: dict[tuple[str, str], AnswerLoss] = {}
    runnable = []
    for index, (pair, item) in enumerate(zip(distinct, encoded, strict=True)):
        fitted = fit(item, loaded.context)
        if fitted is None:
            losses[pair] = AnswerLoss(None, max(0, item.end - item.start), _bytes(pair), "too_long")
        elif fitted.start < 1 or fitted.start >= fitted.end:
            losses[pair] = AnswerLoss(None, 0, _bytes(pair), "no_answer_tokens")
        else:
            encoded[index] = fitted
            runnable.append(index)
    for batch in batches([len(encoded[i].ids) for i in runnable], token_budget):
        chosen = [runnable[i] for i in batch]
        for index, nats in zip(chosen, batch_nats(loaded, [encoded[i] for i in chosen]), strict=True):
            item, pair = encoded[index], distinct[index]
            losses[pair] = AnswerLoss(nats, item.end - item.start, _bytes(pair))
    return [losses[pair] for pair in pairs]


def fit(item: Encoded, context: int) -> Encoded | None:
    """The example cut to `context` tokens from the left of its prompt, its first token kept; None if it cannot be.

    The first token is kept because it is the beginning-of-sequence token wherever there is one.
    """
    excess = len(item.ids) - context
    if excess <= 0:
        return item
    if item.start - excess < 2:
        return None
    return Encoded(item.ids[:1] + item.ids[1 + excess :], item.start - excess, item.end - excess)


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices grouped longest first so that rows × longest row stays within the budget (one row at least)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        rows = max(1, token_budget // lengths[order[start]])
        yield order[start : start + rows]
        start += rows


def batch_nats(loaded: LoadedModel, batch: Sequence[Encoded]) -> list[float]:
    """Summed negative log-likelihoods of one batch, in nats, with the log-softmax in float32."""
    import torch

    width = max(len(item.ids) for item in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)  # (B, T); any token pads, see _logits
    answer = torch.zeros((len(batch), width), dtype=torch.bool)  # (B, T): token t is part of the answer
    for row, item in enumerate(batch):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        answer[row, item.start : item.end] = True
    # The logits at t predict the token at t + 1, so the output head is needed only one before an answer token.
    positions = answer.any(dim=0).nonzero().squeeze(1)  # (P,)
    with torch.inference_mode():
        logits = _logits(loaded, ids, positions - 1)  # (B, P, V)
        targets = ids[:, positions].to(logits.device)  # (B, P)
        nats = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
        ).view_as(targets)
        sums = (nats * answer[:, positions].to(nats.device)).sum(dim=1)
    if not bool(torch.isfinite(sums).all()):
        raise ModelError(
            f"The model {loaded.name} gives losses that are not finite numbers.",
            expected="a finite loss for every answer",
            try_next="--dtype float32, if it ran in less; else check the weights",
        )
    return [float(value) for value in sums]


def _logits(loaded: LoadedModel, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits at the given positions. No attention mask: with padding on the right, causal order is enough."""
    device = loaded.device
    output = loaded.model(input_ids=ids.to(device), logits_to_keep=positions.to(device), use_cache=False)
    return output.logits


def _bytes(pair: tuple[str, str]) -> int:
    return len(pair[1].encode("utf-8"))
