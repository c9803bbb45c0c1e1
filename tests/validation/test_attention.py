from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.lm.model import LoadedModel, load_model
from curate.records import Example, contrast
from curate.validation.attention import (
    AttentionProbe,
    SubjectPrompt,
    attention_summary,
    final_attention,
    subject_prompt,
    subject_spans,
    to_subject,
    to_tokens,
)
from curate.validation.runner import Run


@pytest.mark.parametrize(
    ("question", "subject", "mentions"),
    [
        ("What is George Rankin's occupation?", "George Rankin", ["George Rankin"]),
        ("In what city was It filmed?", "It", ["It"]),
        ("Is it true that It is long?", "It", ["It"]),
        ("Who wrote the waste  land?", "The Waste Land", ["the waste  land"]),
        ("Is Ran, by the director of Ran, in colour?", "Ran", ["Ran", "Ran"]),
        ("羅生門の監督は誰ですか?", "羅生門", ["羅生門"]),
        ("Who directed C++ (film)?", "C++ (film)", ["C++ (film)"]),
        ("Who directed Alien?", "Heat", []),
        ("Who directed Alien?", " ", []),
    ],
)
def test_a_subject_is_found_as_whole_words_first(question: str, subject: str, mentions: list[str]) -> None:
    assert [question[start:end] for start, end in subject_spans(question, subject)] == mentions


def asked(tiny_model: Callable[[str], Path], kind: str, *examples: Example, before: str = "") -> list[str | None]:
    """What the subject's tokens of each prompt say, decoded."""
    loaded = load_model(tiny_model(kind))
    found = [subject_prompt(loaded, e, f"{before}Question: {e.question}\nAnswer:") for e in examples]
    return [prompt and loaded.tokenizer.decode([prompt.ids[t] for t in prompt.subject]) for prompt in found]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "byte-fallback", "qwen", "gemma"])
def test_the_tokens_of_a_subject_say_its_name(kind: str, tiny_model: Callable[[str], Path]) -> None:
    example = Example("1", "In what city was Zoë Müller born?", ("Zürich",), "Zoë Müller")
    (said,) = asked(tiny_model, kind, example)
    assert said is not None
    assert said.strip() == "Zoë Müller"


def test_solved_examples_before_the_question_do_not_count(tiny_model: Callable[[str], Path]) -> None:
    example = Example("1", "Who directed Alien?", ("Ridley Scott",), "Alien")
    shot = "Question: What genre is Alien?\nAnswer: horror\n\n"
    assert asked(tiny_model, "gpt2", example, before=shot) == [" Alien"]


def test_what_has_no_subject_to_look_at_is_left_out(tiny_model: Callable[[str], Path]) -> None:
    assert asked(
        tiny_model,
        "gpt2",
        Example("none", "Who directed Alien?", ("Ridley Scott",)),
        Example("unnamed", "Who directed it?", ("Ridley Scott",), "Alien"),
        Example("field of study", "In anatomy, what is A?", ("B",), "anatomy", choices=("A", "B")),
        Example("too long", "Who directed Alien? " * 40, ("Ridley Scott",), "Alien"),
    ) == [None, None, None, None]


KINDS = ["llama", "gpt2", "byte-fallback", "mistral", "qwen", "gemma"]


WIDTH = 8


def model_that_attends(*heads: tuple[float, ...]) -> LoadedModel:
    """One layer whose head h gives token t a share of attention proportional to `heads[h][t]`, whoever asks."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=WIDTH, n_embd=WIDTH, n_layer=1, n_head=len(heads), n_positions=16)
    model = GPT2LMHeadModel(config).eval()
    head_width = WIDTH // len(heads)
    # The embedding of token t is 1 at t; layer norm makes that 1/deviation, apart from a constant softmax ignores.
    deviation = sqrt(1 / WIDTH - 1 / WIDTH**2 + config.layer_norm_epsilon)
    with torch.no_grad():
        model.transformer.wte.weight.copy_(torch.eye(WIDTH))
        model.transformer.wpe.weight.zero_()
        attention = model.transformer.h[0].attn.c_attn
        attention.weight.zero_()  # (input, query | key | value)
        attention.bias.zero_()
        for h, shares in enumerate(heads):
            attention.bias[h * head_width] = 1.0  # the query of every token
            for token, share in enumerate(shares):
                attention.weight[token, WIDTH + h * head_width] = log(share) * sqrt(head_width) * deviation
    return LoadedModel(model, None, "made by hand", "")  # type: ignore[arg-type]


def test_in_each_head_the_most_attended_token_of_the_subject_counts() -> None:
    """Tokens 1 and 2 are the subject: 0.3 in one head, 0.5 in the other. The mean of heads first would give 0.35."""
    loaded = model_that_attends((1, 2, 3, 4), (2, 5, 1, 2))
    prompt = SubjectPrompt("1", ids=(0, 1, 2, 3), subject=(1, 2))
    (layers,) = final_attention(loaded, [prompt])
    assert to_subject(layers, prompt) == pytest.approx(np.array([0.4]), abs=1e-5)
    assert to_tokens(layers) == pytest.approx(np.array([[0.15, 0.35, 0.2, 0.3]]), abs=1e-5)


def subject_attention(loaded: LoadedModel, prompts: list[SubjectPrompt], **how: int) -> np.ndarray:
    """Of every prompt and layer: (N, L)."""
    found = final_attention(loaded, prompts, **how)
    return np.array([to_subject(layers, prompt) for layers, prompt in zip(found, prompts, strict=True)])


def prompts_for(loaded: LoadedModel) -> list[SubjectPrompt]:
    """Ten prompts of 1 to 22 tokens, some of one length; the subject is not always before the last token."""
    prompts = []
    for number, length in enumerate([9, 22, 5, 9, 1, 14, 9, 5, 22, 2]):
        ids = tuple((7 * number + 3 * t) % 90 + 5 for t in range(length))
        prompts.append(SubjectPrompt(str(number), ids, tuple(range(length // 3, length // 3 + 1 + length // 8))))
    return prompts


def by_the_definition(loaded: LoadedModel, prompt: SubjectPrompt) -> list[float]:
    """One prompt alone, all of its attention at once."""
    import torch

    model: Any = loaded.model
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        layers = model(torch.tensor([prompt.ids]), output_attentions=True).attentions
    model.set_attn_implementation(implementation)
    return [
        sum(max(float(head[-1, t]) for t in prompt.subject) for head in weights[0]) / len(weights[0])
        for weights in layers
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_change_nothing_and_agree_with_the_definition(kind: str, tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model(kind))
    prompts = prompts_for(loaded)
    together = subject_attention(loaded, prompts)
    assert together.shape == (10, 2)
    assert together == pytest.approx(subject_attention(loaded, prompts, token_budget=1), abs=1e-5)
    for row, prompt in zip(together, prompts, strict=True):
        assert row.tolist() == pytest.approx(by_the_definition(loaded, prompt), abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_model_with_an_adapter_is_measured_with_it(kind: str, tiny_model: Callable[[str], Path]) -> None:
    from peft import LoraConfig, get_peft_model

    loaded = load_model(tiny_model(kind))
    prompts = prompts_for(loaded)
    before = subject_attention(loaded, prompts)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    with pytest.warns(Warning):
        adapted: Any = get_peft_model(loaded.model, lora)
    after = subject_attention(LoadedModel(adapted, loaded.tokenizer, "adapted", ""), prompts)
    assert np.abs(after - before).max() > 0.01


def test_attention_is_computed_as_before_afterwards_and_generation_is_unchanged(
    tiny_model: Callable[[str], Path],
) -> None:
    from curate.lm.generate import greedy_answers

    loaded = load_model(tiny_model("llama"))
    said = greedy_answers(loaded, ["Question: Who directed Alien?\nAnswer:"])
    assert loaded.model.config._attn_implementation == "sdpa"
    final_attention(loaded, prompts_for(loaded))
    assert loaded.model.config._attn_implementation == "sdpa"
    assert greedy_answers(loaded, ["Question: Who directed Alien?\nAnswer:"]) == said


def test_a_model_without_attention_is_not_looked_at(tiny_model: Callable[[str], Path]) -> None:
    probe = AttentionProbe([SubjectPrompt("1", ids=(5, 6, 7), subject=(1,))], 1)
    assert probe.measure(load_model(tiny_model("mamba"))) is None
    assert probe.measure(load_model(tiny_model("gpt2"))) is not None


PROBE = AttentionProbe((), 7)


def runs(top: list[list[float]], bottom: list[list[float]]) -> list[Run]:
    """What was looked at, by seed and layer."""
    return [
        Run(arm, seed, attention={"layers": layers})
        for arm, seeds in (("base", top[:1]), ("top", top), ("bottom", bottom))
        for seed, layers in enumerate(seeds)
    ]


@pytest.mark.parametrize(
    ("top", "bottom", "said"),
    [
        ([[0, 0, 0.5, 0.3]], [[0.9, 0.9, 0.2, 0.2]], "top gives it more with the one seed."),
        ([[0, 0.5], [0, 0.4]], [[0, 0.1], [0, 0.2]], "top gives it more with each of the 2 seeds."),
        ([[0, 0.1], [0, 0.2]], [[0, 0.5], [0, 0.4]], "top gives it less with each of the 2 seeds."),
        ([[0, 0.9], [0, 0.2]], [[0, 0.1], [0, 0.4]], "no clear difference, top gives it more with 1 of 2 seeds."),
        ([[0, 0.2], [0, 0.2]], [[0, 0.2], [0, 0.2]], "no clear difference, top gives it more with 0 of 2 seeds."),
    ],
)
def test_the_sentence_says_what_the_later_half_of_the_layers_shows_seed_by_seed(
    top: list[list[float]], bottom: list[list[float]], said: str
) -> None:
    summary = attention_summary(runs(top, bottom), PROBE)
    assert summary is not None
    assert summary["sentence"].endswith(said)


def test_means_and_layers_of_the_sentence() -> None:
    summary = attention_summary(runs([[9, 9, 0.5, 0.3]], [[9, 9, 0.25, 0.25]]), PROBE)
    assert summary is not None
    assert summary["later_layers"] == [3, 4]
    assert summary["later_attention"] == pytest.approx({"top": 0.4, "bottom": 0.25})
    assert "(layers 3 to 4 of 4)" in summary["sentence"] and "0.400" in summary["sentence"]


def test_without_attention_nothing_is_said() -> None:
    assert attention_summary([Run("top", 0), Run("bottom", 0)], PROBE) is None


def test_arms_without_the_papers_names_are_contrasted_in_their_order() -> None:
    assert contrast(["base", "top", "random", "bottom"]) == ("top", "bottom")
    assert contrast(["base", "easy", "hard"]) == ("easy", "hard")
    assert contrast(["base", "easy"]) is None
