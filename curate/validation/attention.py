"""How much attention the last position pays to the subject, layer by layer (Section 5.1, B.3)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curate.lm.forward import head_at
from curate.lm.model import LoadedModel
from curate.prompts import Template
from curate.records import Example, contrast
from curate.selection.ranking import random_rows


@dataclass(frozen=True, slots=True)
class SubjectPrompt:
    """A prompt as tokens, the positions of those that are part of the subject (never empty), and each token's text."""

    id: str
    ids: tuple[int, ...]
    subject: tuple[int, ...]
    texts: tuple[str, ...] = ()


def subject_spans(question: str, subject: str) -> list[tuple[int, int]]:
    """Characters (start, end) of every mention of the subject in the question; empty where there is none.

    A mention is a whole word with the subject's capitals; failing that in any capitals (`iPhone` for `Iphone`);
    failing that inside a word, since not every script puts spaces between words. Any white space matches any other.

    >>> subject_spans("In what city was It filmed?", "It")
    [(17, 19)]
    >>> subject_spans("who wrote the waste  land?", "The Waste Land")
    [(10, 25)]
    """
    words = r"\s+".join(map(re.escape, subject.split()))
    if not words:
        return []
    whole = rf"(?<!\w){words}(?!\w)"
    for pattern, flags in ((whole, 0), (whole, re.IGNORECASE), (words, 0)):
        found = [match.span() for match in re.finditer(pattern, question, flags)]
        if found:
            return found
    return []


def subject_prompt(loaded: LoadedModel, example: Example, prompt: str) -> SubjectPrompt | None:
    """An example's prompt with the tokens of its subject; None where attention to it has no meaning.

    That is so when the example has no subject, or choices (its subject is then a field of study, not an entity),
    when the question does not name the subject, or when the prompt is longer than the model's context. Every
    mention in the question counts; those in solved examples before it do not.
    """
    start = prompt.rfind(example.question)
    if start < 0 or not example.subject or example.choices:
        return None
    mentions = [(start + a, start + b) for a, b in subject_spans(example.question, example.subject)]
    if not mentions:
        return None
    encoded = loaded.tokenize(prompt, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    # A token is the subject's as soon as one of its characters is.
    subject = [t for t, (a, b) in enumerate(offsets) if any(max(a, c) < min(b, d) for c, d in mentions)]
    if not subject or len(ids) > loaded.context:
        return None
    names = loaded.tokenizer.convert_ids_to_tokens(ids)  # of special tokens, which cover no character
    texts = [prompt[a:b] or name for (a, b), name in zip(offsets, names, strict=True)]
    return SubjectPrompt(example.id, tuple(ids), tuple(subject), tuple(texts))


TOKEN_BUDGET = 4096
"""Prompt tokens that go through the model together."""


def final_attention(
    loaded: LoadedModel, prompts: Sequence[SubjectPrompt], token_budget: int = TOKEN_BUDGET
) -> list[list[torch.Tensor]]:
    """What each prompt's final token attends to: for each prompt, in order, the (H, T) weights of every layer.

    Prompts of one length go together, so nothing is padded.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        by_length[len(prompt.ids)].append(number)
    found: dict[int, list[torch.Tensor]] = {}
    with torch.inference_mode():
        for length, numbers in sorted(by_length.items()):
            rows = max(1, token_budget // length)
            for batch in (numbers[start : start + rows] for start in range(0, len(numbers), rows)):
                layers = _final_weights(loaded, [prompts[n].ids for n in batch])
                found |= {n: [weights[row] for weights in layers] for row, n in enumerate(batch)}
    return [found[n] for n in range(len(prompts))]


def to_subject(layers: Sequence[torch.Tensor], prompt: SubjectPrompt) -> NDArray[np.float64]:
    """In each head the largest weight on any of the subject's tokens, mean over the heads (B.3): L of (H, T) -> (L,)"""
    return np.array([float(weights[:, list(prompt.subject)].amax(dim=-1).mean()) for weights in layers])


def to_tokens(layers: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    """The weight on every token, mean over the heads: L of (H, T) -> (L, T)"""
    return np.array([weights.mean(dim=0).double().numpy() for weights in layers])


def _final_weights(loaded: LoadedModel, ids: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Every layer's attention weights of the final token, (B, H, T) each.

    All tokens but the final one go through first, with the model's own attention; then that one alone gives its
    weights. So no layer's (T, T) weights are computed in the slow implementation that gives them away.
    """
    from transformers import DynamicCache

    model: Any = loaded.model
    tokens = torch.tensor(ids, device=loaded.device)  # (B, T)
    cache: Any = DynamicCache()
    with head_at(loaded, torch.tensor([0])):  # no logits are wanted
        if tokens.shape[1] > 1:
            model(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=True)
        with _eager_attention(model):
            output = model(input_ids=tokens[:, -1:], past_key_values=cache, use_cache=True, output_attentions=True)
    # In models that mix kinds of layers, those without attention give None.
    return [weights[:, :, 0].float().cpu() for weights in output.attentions if weights is not None]


@contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    """While it lasts, attention is computed in the one implementation that gives its weights away."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(implementation)


EXAMPLES = 500
"""Test examples whose attention is averaged, at most: enough for a standard error of a few thousandths."""
MAPS = 24
"""Of these, examples whose whole attention is kept for heat maps."""


@dataclass(frozen=True)
class AttentionProbe:
    """The prompts that attention is measured on, and how many test examples name their subject at all."""

    prompts: Sequence[SubjectPrompt]
    with_subject: int

    def measure(self, loaded: LoadedModel) -> dict[str, Any] | None:
        """Mean subject attention of every layer, and a few whole maps; None where there is nothing to look at."""
        without_attention = getattr(loaded.model, "_is_stateful", False)  # Mamba and its kin
        if not self.prompts or without_attention:
            return None
        found = final_attention(loaded, self.prompts)
        each = [to_subject(layers, prompt) for layers, prompt in zip(found, self.prompts, strict=True)]
        return {
            "layers": np.mean(each, axis=0).tolist(),
            "maps": [
                {
                    "id": prompt.id,
                    "tokens": list(prompt.texts),
                    "subject": [t in prompt.subject for t in range(len(prompt.ids))],
                    "weights": to_tokens(layers).round(5).tolist(),
                }
                for prompt, layers in zip(self.prompts[:MAPS], found, strict=False)
            ],
        }


def make_probe(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> AttentionProbe:
    """A seeded sample of the test examples that name their subject, with their zero-shot prompts."""
    prompts = (subject_prompt(loaded, example, template.zero_shot(example)) for example in examples)
    found = [prompt for prompt in prompts if prompt is not None]
    rows = random_rows([prompt.id for prompt in found], min(EXAMPLES, len(found)), 0, "random")
    return AttentionProbe([found[row] for row in rows], len(found))


def attention_rows(runs: Sequence[Any]) -> list[dict[str, Any]]:
    """Mean attention to the subject of every run that was looked at: arm, seed, layer (from 1), subject_attention."""
    return [
        {"arm": run.arm, "seed": run.seed, "layer": layer, "subject_attention": value}
        for run in runs
        if run.attention
        for layer, value in enumerate(run.attention["layers"], start=1)
    ]


def map_rows(runs: Sequence[Any]) -> list[dict[str, Any]]:
    """The attention maps of every arm at its first seed: a row for each example and layer."""
    first: dict[str, Any] = {}
    for run in runs:
        first.setdefault(run.arm, run)
    return [
        {"arm": run.arm, "seed": run.seed, "id": kept["id"], "layer": layer}
        | {"tokens": kept["tokens"], "subject": kept["subject"], "attention": weights}
        for run in first.values()
        if run.attention
        for kept in run.attention["maps"]
        for layer, weights in enumerate(kept["weights"], start=1)
    ]


def attention_summary(runs: Sequence[Any], probe: AttentionProbe) -> dict[str, Any] | None:
    """Whether the first arm of the `contrast` looks at the subject more than the second in the later half of layers.

    Gives both means over seeds, their difference seed by seed, and a sentence that says what they say; None
    without attention.
    """
    looked_at = [run for run in runs if run.attention]
    if not looked_at:
        return None
    about = {"examples": len(probe.prompts), "with_subject": probe.with_subject}
    pair = contrast(list(dict.fromkeys(run.arm for run in looked_at)))
    if pair is None:
        return {**about, "sentence": "There is only one finetuned arm: nothing to compare."}
    depth = max(len(run.attention["layers"]) for run in looked_at)
    first = depth // 2 + 1
    later = depth - first + 1
    a, b = (
        {run.seed: sum(run.attention["layers"][first - 1 :]) / later for run in looked_at if run.arm == arm}
        for arm in pair
    )
    differences = [a[seed] - b[seed] for seed in a if seed in b]
    means = {arm: sum(seeds.values()) / len(seeds) for arm, seeds in zip(pair, (a, b), strict=True)}
    layers = f"layer {depth}" if first == depth else f"layers {first} to {depth}"
    return {
        **about,
        "later_layers": [first, depth],
        "later_attention": means,
        "later_differences": differences,
        "sentence": f"In the later half of the model ({layers} of {depth}) the last token of the prompt gives the "
        f"subject {means[pair[0]]:.3f} of its attention after finetuning on {pair[0]} and {means[pair[1]]:.3f} after "
        f"{pair[1]}: {_in_words(differences, pair[0])}.",
    }


def _in_words(differences: Sequence[float], arm: str) -> str:
    """Seed by seed, since a mean over a few seeds can hide that they disagree."""
    more, less, seeds = sum(d > 0 for d in differences), sum(d < 0 for d in differences), len(differences)
    times = "the one seed" if seeds == 1 else f"each of the {seeds} seeds"
    if more == seeds:
        return f"{arm} gives it more with {times}"
    if less == seeds:
        return f"{arm} gives it less with {times}"
    return f"no clear difference, {arm} gives it more with {more} of {seeds} seeds"
