"""One teacher-forced pass tells what greedy decoding and sampling would say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from curate.lm.generate import greedy_answers
from curate.lm.loss import answer_recalls
from curate.lm.model import LoadedModel, load_model

PROMPT = "Q: Who wrote {}?\nA:"
ANSWERS = (" Ann", " Jane Austen", " no one")
PAIRS = [(PROMPT.format(name), answer) for name in ("Emma", "Dune") for answer in ANSWERS]


def read_one_by_one(loaded: LoadedModel, prompt: str, completion: str) -> tuple[bool, float]:
    """Greedy or not, and the chance of a sample, from the whole text's logits, token by token, without any packing."""
    text = loaded.tokenizer(prompt + completion, return_offsets_mapping=True)
    first = next(i for i, (_, end) in enumerate(text["offset_mapping"]) if end > len(prompt))
    ids = text["input_ids"]
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([ids])).logits[0].float()
    greedy, chance = True, 1.0
    for place in range(first, len(ids) + 1):
        values, likely = logits[place - 1].topk(40)
        share = dict(zip(likely.tolist(), torch.softmax(values / 0.5, dim=0).tolist(), strict=True))
        if place < len(ids):
            right = {ids[place]}
        else:
            right = {t for t in share if t == loaded.tokenizer.eos_token_id or "\n" in loaded.tokenizer.decode([t])}
        greedy &= int(logits[place - 1].argmax()) in right
        chance *= sum(share.get(token, 0.0) for token in right)
    return greedy, chance


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma"])
def test_packed_reading_agrees_with_reading_token_by_token(kind: str, tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model(kind))
    for (prompt, completion), found in zip(PAIRS, answer_recalls(loaded, PAIRS), strict=True):
        greedy, chance = read_one_by_one(loaded, prompt, completion)
        assert found.greedy == greedy
        assert found.sampled == pytest.approx(chance, rel=1e-3, abs=1e-12)


def test_what_the_model_says_greedily_is_recalled_and_nothing_else(shared: Path) -> None:
    loaded = load_model(shared / "models" / "stories260K")
    prompts = [f"Once upon a time, there was a {who}" for who in ("girl", "boy", "cat", "dog")]
    said = [f" {text}" for text in greedy_answers(loaded, prompts, max_new_tokens=200)]
    for recall in answer_recalls(loaded, list(zip(prompts, said, strict=True))):
        assert recall.greedy is True
        assert recall.sampled is not None and 0 < recall.sampled <= 1
    halves = [text[: len(text) // 2] for text in said]
    assert not any(recall.greedy for recall in answer_recalls(loaded, list(zip(prompts, halves, strict=True))))


def test_what_cannot_be_read_has_its_status(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("llama"))
    nothing, known, again = answer_recalls(loaded, [("Q: Who?\nA:", ""), PAIRS[0], PAIRS[0]])
    assert (nothing.greedy, nothing.sampled, nothing.status) == (None, None, "no_answer_tokens")
    assert known == again and known.sampled is not None and math.isfinite(known.sampled)
