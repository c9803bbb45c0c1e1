"""Prompt and completion as tokens, and which of them are the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.lm.load import LoadedModel

SLICE = 512
"""Texts tokenised at a time: character offsets are bulky, and long prompts must not pile them up."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Prompt and completion tokenised as one text; the completion's tokens are `ids[start:end]`."""

    ids: tuple[int, ...]
    start: int
    end: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model must read: all before the answer's last token, which is only predicted."""
        return self.ids[: self.end - 1]


def encode(loaded: LoadedModel, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Tokenise each prompt + completion jointly and find the completion's tokens by character offsets.

    A token that reaches past the end of the prompt belongs to the completion, also when it begins before the
    join. Special tokens are left to the tokenizer; none of them counts as part of the completion.
    """
    encoded = []
    known: dict[int, int] = {}
    for first in range(0, len(pairs), SLICE):
        encoded.extend(_encode_slice(loaded, pairs[first : first + SLICE], known))
    return encoded


def _encode_slice(loaded: LoadedModel, pairs: Sequence[tuple[str, str]], known: dict[int, int]) -> list[Encoded]:
    """`known` keeps one Python number for each token: few-shot prompts repeat theirs a thousand times."""
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
        encoded.append(Encoded(tuple(map(known.setdefault, ids, ids)), answer[0], answer[-1] + 1))
    return encoded


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
