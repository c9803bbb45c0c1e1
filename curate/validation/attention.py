"""How much a model looks at the subject when it is about to answer (paper, Section 5.1 and B.3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from curate.lm.load import LoadedModel
from curate.validation.subjects import SubjectPrompt

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

TOKEN_BUDGET = 4096
"""Prompt tokens that go through the model together."""


def subject_attention(
    loaded: LoadedModel, prompts: Sequence[SubjectPrompt], token_budget: int = TOKEN_BUDGET
) -> NDArray[np.float64]:
    """Attention from the final prompt token to the subject, for each prompt and layer: (N, L), in [0, 1].

    In each head the largest weight on any of the subject's tokens, then the mean over the layer's heads (B.3).
    """
    import numpy as np

    return np.array(_reduced(loaded, prompts, _to_subject, token_budget))


def attention_maps(
    loaded: LoadedModel, prompts: Sequence[SubjectPrompt], token_budget: int = TOKEN_BUDGET
) -> list[NDArray[np.float64]]:
    """Attention from the final prompt token to every token, mean over heads: (L, T) for each prompt."""
    return _reduced(loaded, prompts, lambda weights, _: weights.mean(dim=0), token_budget)


def has_attention(loaded: LoadedModel) -> bool:
    """Whether the model's layers have attention weights to look at (not so for Mamba and its kin)."""
    return not getattr(loaded.model, "_is_stateful", False)


def _to_subject(weights: torch.Tensor, prompt: SubjectPrompt) -> torch.Tensor:
    """(H, T) -> scalar"""
    return weights[:, list(prompt.subject)].amax(dim=-1).mean()


def _reduced(
    loaded: LoadedModel,
    prompts: Sequence[SubjectPrompt],
    reduce: Callable[[torch.Tensor, SubjectPrompt], torch.Tensor],
    token_budget: int,
) -> list[NDArray[np.float64]]:
    """`reduce` of the final token's weights (H, T) in every layer: L rows for each prompt, in order.

    Prompts of one length go together, so nothing is padded.
    """
    import torch

    by_length: dict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        by_length[len(prompt.ids)].append(number)
    reduced: dict[int, NDArray[np.float64]] = {}
    with _eager_attention(loaded.model), torch.inference_mode():
        for length, numbers in sorted(by_length.items()):
            rows = max(1, token_budget // length)
            for batch in (numbers[start : start + rows] for start in range(0, len(numbers), rows)):
                layers = _final_weights(loaded, [prompts[n].ids for n in batch])
                for row, n in enumerate(batch):
                    values = torch.stack([reduce(weights[row], prompts[n]) for weights in layers])
                    reduced[n] = values.double().cpu().numpy()
    return [reduced[n] for n in range(len(prompts))]


def _final_weights(loaded: LoadedModel, ids: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Every layer's attention weights of the final token, (B, H, T) each.

    All tokens but the final one go through first; then that one alone gives its weights, so that no layer's
    (T, T) weights are kept.
    """
    import torch
    from transformers import DynamicCache

    model: Any = loaded.model
    tokens = torch.tensor(ids, device=loaded.device)  # (B, T)
    cache: Any = DynamicCache()
    if tokens.shape[1] > 1:
        model(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
    output = model(input_ids=tokens[:, -1:], past_key_values=cache, use_cache=True, output_attentions=True)
    # In models that mix kinds of layers, those without attention give None.
    return [weights[:, :, 0].float() for weights in output.attentions if weights is not None]


@contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    """While it lasts, attention is computed in the one implementation that gives its weights away."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(implementation)
