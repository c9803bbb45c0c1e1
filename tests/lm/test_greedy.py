"""Greedy answers are those of one prompt at a time, whatever is batched, padded or shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from curate.errors import ModelError
from curate.lm import generate as greedy
from curate.lm.forward import Cache
from curate.lm.generate import greedy_answers, right_answers, sampled_answers, sampled_tokens
from curate.lm.model import LoadedModel, load_model
from curate.prompts import DEFAULT

QUESTIONS = [f"What is the colour of {name}?" for name in ("Ann", "Bob", "Cy", "Dee", "Eve", "Flo")]


@pytest.fixture
def loaded(tiny_model: Callable[[str], Path]) -> LoadedModel:
    return load_model(tiny_model("llama"), device="cpu")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "byte-fallback", "mistral", "gemma", "mamba"])
def test_answers_are_the_first_line_of_what_generate_says_one_prompt_at_a_time(
    kind: str, tiny_model: Callable[[str], Path]
) -> None:
    loaded = load_model(tiny_model(kind), device="cpu")
    prompts = [DEFAULT.render_prompt(question + " And why is that so?" * i) for i, question in enumerate(QUESTIONS)]
    together = greedy_answers(loaded, prompts)
    for prompt, said in zip(prompts, together, strict=True):
        batch = loaded.tokenizer([prompt], return_tensors="pt", return_token_type_ids=False)
        output = loaded.model.generate(**batch, max_new_tokens=10, do_sample=False, pad_token_id=0)
        whole = loaded.tokenizer.decode(output[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        assert said == whole.split("\n")[0]


def test_greedy_answers_do_not_depend_on_what_else_is_asked(loaded: LoadedModel) -> None:
    prompts = [DEFAULT.render_prompt(question + " And why is that so?" * i) for i, question in enumerate(QUESTIONS[:3])]
    together = greedy_answers(loaded, [*prompts, prompts[0]])
    assert together == [greedy_answers(loaded, [p])[0] for p in [*prompts, prompts[0]]]
    assert greedy_answers(loaded, prompts, token_budget=1) == together[:3]


def test_an_answer_is_ten_times_the_most_likely_next_token(loaded: LoadedModel) -> None:
    import torch

    prompt = "Question: Who?\nAnswer:"
    ids = loaded.tokenizer(prompt)["input_ids"]
    said: list[int] = []
    for _ in range(10):
        said.append(int(loaded.model(torch.tensor([ids + said])).logits[0, -1].argmax()))
    assert greedy_answers(loaded, [prompt]) == [loaded.tokenizer.decode(said, skip_special_tokens=True)]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt-neo", "byte-fallback", "mistral", "gemma", "mamba"])
def test_a_beginning_that_prompts_share_changes_no_answer(
    kind: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistral's window here is shorter than the prompts, so nothing may be shared; Mamba has nothing to share."""
    loaded = load_model(tiny_model(kind), device="cpu")
    solved = "Question: Who directed Alien?\nAnswer: Ridley Scott\n\n"
    prompts = [solved * (1 + i % 2) + DEFAULT.render_prompt(q + " And why?" * (i % 3)) for i, q in enumerate(QUESTIONS)]
    alone = [greedy_answers(loaded, [prompt])[0] for prompt in prompts]
    monkeypatch.setattr("curate.lm.packing.LEAST_SAVED", 16)
    shared: list[int] = []

    def cache_of(loaded: LoadedModel, ids: Sequence[int]) -> Cache:
        shared.append(len(ids))
        return real(loaded, ids)

    real = greedy.cache_of
    monkeypatch.setattr(greedy, "cache_of", cache_of)
    assert greedy_answers(loaded, prompts) == alone
    assert bool(shared) == (kind not in ("mistral", "gemma", "mamba"))


def tokens_read(loaded: LoadedModel, prompts: Sequence[str]) -> int:
    """Tokens that go through the model while the prompts are answered, padding included."""
    read: list[int] = []
    count = loaded.model.get_input_embeddings().register_forward_hook(lambda *call: read.append(call[1][0].numel()))
    greedy_answers(loaded, prompts, max_new_tokens=1)
    count.remove()
    return sum(read)


def test_what_prompts_begin_with_is_read_once(loaded: LoadedModel) -> None:
    stem, ends = DEFAULT.render_prompt("What is the colour of " * 4), ("Ann", "Bob", "Cy", "Dee")
    once = tokens_read(loaded, [stem + ends[0], stem + ends[1]])
    twice = tokens_read(loaded, [stem + end for end in ends])
    each = len(loaded.tokenizer(stem)["input_ids"])
    assert twice - once < each


def test_when_memory_runs_out_the_batch_is_halved(loaded: LoadedModel) -> None:
    import torch

    sizes: list[int] = []

    def short_of_memory(module: Any, arguments: Any, given: dict[str, Any]) -> None:
        sizes.append(given["input_ids"].numel())
        if sizes[-1] > room:
            raise torch.OutOfMemoryError("out of memory")

    prompts = [DEFAULT.render_prompt(question) for question in QUESTIONS]
    expected = greedy_answers(loaded, prompts)
    room = max(len(ids) for ids in loaded.tokenizer(prompts)["input_ids"])
    memory = loaded.model.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    try:
        assert greedy_answers(loaded, prompts, token_budget=300) == expected
        assert max(sizes) > room
        room = 0
        with pytest.raises(ModelError, match="One example alone does not fit"):
            greedy_answers(loaded, prompts)
    finally:
        memory.remove()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_samples_depend_on_their_prompt_and_seed_alone(kind: str, tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model(kind), device="cpu")
    prompts = [DEFAULT.render_prompt(question + " And why is that so?" * i) for i, question in enumerate(QUESTIONS[:3])]
    together = sampled_answers(loaded, prompts, samples=4)
    assert together == [sampled_answers(loaded, [prompt], samples=4)[0] for prompt in prompts]
    assert together == sampled_answers(loaded, prompts, samples=4, token_budget=1)
    assert together != sampled_answers(loaded, prompts, samples=4, seed=1)
    assert len({text for said in together for text in said}) > 3, "samples differ"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_right_answers_are_those_that_are_said(kind: str, tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model(kind), device="cpu")
    prompts = [DEFAULT.render_prompt(question) for question in QUESTIONS]
    greedy, drawn = greedy_answers(loaded, prompts), sampled_answers(loaded, prompts, samples=4)
    # Said greedily, said in a sample, and said by no one though it begins like what is said.
    accepted = [{g.strip(), texts[1].strip(), g.strip()[:-1]} for g, texts in zip(greedy, drawn, strict=True)]
    expected = [
        (g.strip() in own, [text.strip() in own for text in texts])
        for g, texts, own in zip(greedy, drawn, accepted, strict=True)
    ]
    assert right_answers(loaded, prompts, accepted, samples=4) == expected
    assert right_answers(loaded, prompts, accepted, samples=4, token_budget=1) == expected
    assert all(said and samples[1] for said, samples in expected)
    assert not all(all(samples) for _, samples in expected)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    import torch

    logits = torch.randn(1, 100, generator=torch.Generator().manual_seed(0))
    draws = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000  # every share of the line once
    drawn = sampled_tokens(logits, draws, torch.zeros(len(draws), dtype=torch.long)).bincount(minlength=100) / len(
        draws
    )
    values, likely = logits[0].topk(40)
    expected = torch.zeros(100).index_put((likely,), torch.softmax(values / 0.5, dim=0))
    assert torch.allclose(drawn, expected, atol=1e-4)
