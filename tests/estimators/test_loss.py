"""The loss is the number a careful researcher computes by hand, whatever is beside it in the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.errors import ModelError
from curate.estimators.loss import merged_score
from curate.lm.loss import AnswerLoss, answer_losses
from curate.lm.model import LoadedModel, load_model, load_tokenizer
from curate.lm.packing import Encoded, encode, fit

PAIRS = [
    ("Question: What is the capital of France?\nAnswer:", " Paris"),
    ("Question: Who directed Alien?\nAnswer:", " Ridley Scott"),
    ("Question: What is George Rankin's occupation, in so many words that it fills a line?\nAnswer:", " pol."),
    ("Question: In what city was Zoë Müller born?\nAnswer:", " Zürich 東京 🎬"),
    ("Q", " a"),
]
KINDS = ("llama", "gpt2", "byte-fallback", "mistral", "qwen", "gemma")


def by_hand(loaded: LoadedModel, prompt: str, completion: str) -> tuple[float, int]:
    """One example alone, unpadded: −Σ log p(token | all before it) over the tokens that end after the prompt."""
    import torch

    encoded = loaded.tokenizer(prompt + completion, return_offsets_mapping=True)
    ids = torch.tensor([encoded["input_ids"]])
    with torch.no_grad():
        log_p = torch.log_softmax(loaded.model(ids).logits[0].double(), dim=-1)
    chosen = [i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(prompt)]
    return -sum(float(log_p[i - 1, ids[0, i]]) for i in chosen), len(chosen)


@pytest.fixture(params=KINDS)
def loaded(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> LoadedModel:
    return load_model(tiny_model(request.param), device="cpu")


def test_agrees_with_one_example_at_a_time(loaded: LoadedModel) -> None:
    for (prompt, completion), loss in zip(PAIRS, answer_losses(loaded, PAIRS), strict=True):
        nats, tokens = by_hand(loaded, prompt, completion)
        assert loss.tokens == tokens
        assert loss.nats == pytest.approx(nats, abs=1e-4 * tokens)


def test_real_model_on_real_questions_agrees_with_one_at_a_time(stories: Path, popqa: Path) -> None:
    loaded = load_model(stories, device="cpu")
    examples = curate.read(popqa).examples()[::75]
    pairs = [(f"Question: {e.question}\nAnswer:", f" {e.answers[0]}") for e in examples]
    for (prompt, completion), loss in zip(pairs, answer_losses(loaded, pairs), strict=True):
        nats, tokens = by_hand(loaded, prompt, completion)
        assert loss.nats == pytest.approx(nats, abs=1e-4 * tokens)


def test_golden_losses_of_a_real_model(stories: Path) -> None:
    losses = answer_losses(load_model(stories, device="cpu"), PAIRS[:3])
    assert [loss.tokens for loss in losses] == [4, 9, 4]
    assert [loss.nats for loss in losses] == pytest.approx([16.90359, 46.73122, 29.00797], abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(len(PAIRS))), budget=st.sampled_from([1, 40, 100, 10_000]))
def test_batch_size_and_order_never_change_a_loss(
    tiny_model: Callable[[str], Path], order: list[int], budget: int
) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    alone = [answer_losses(loaded, [pair])[0].nats for pair in PAIRS]
    mixed = answer_losses(loaded, [PAIRS[i] for i in order], budget)
    assert [loss.nats for loss in mixed] == pytest.approx([alone[i] for i in order], abs=1e-4)


def test_equal_pairs_have_equal_losses(loaded: LoadedModel) -> None:
    losses = answer_losses(loaded, [PAIRS[0], PAIRS[1], PAIRS[0]])
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize(("kind", "answer"), [("llama", " Paris"), ("gpt2", " Paris"), ("byte-fallback", "wer: Paris")])
def test_the_space_and_a_token_across_the_join_belong_to_the_answer(
    tiny_model: Callable[[str], Path], kind: str, answer: str
) -> None:
    """The byte-fallback tokenizer here has learned the token "wer:▁", which begins inside the prompt."""
    loaded = load_model(tiny_model(kind), device="cpu")
    (item,) = encode(loaded, [PAIRS[0]])
    assert loaded.tokenizer.decode(item.ids[item.start : item.end]).strip() == answer.strip()
    assert answer_losses(loaded, [PAIRS[0]])[0].bytes == len(b" Paris")


def test_a_long_prompt_is_cut_from_the_left_and_an_answer_never() -> None:
    item = Encoded(ids=tuple(range(10)), start=7, end=10)
    assert fit(item, 10) == item
    assert fit(item, 8) == Encoded((0, 3, 4, 5, 6, 7, 8, 9), 5, 8)
    assert fit(item, 4) is None


def test_an_answer_longer_than_the_context_gets_a_status(tiny_model: Callable[[str], Path]) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    (loss,) = answer_losses(loaded, [("Question: ?\nAnswer:", " ab" * 200)])
    assert (loss.nats, loss.status) == (None, "too_long")


@pytest.mark.parametrize(("reduction", "value"), [("sum", -6.0), ("token-mean", -2.0), ("byte-mean", -0.5)])
def test_reductions(reduction: str, value: float) -> None:
    assert merged_score([AnswerLoss(6.0, tokens=3, bytes=12)], ("it",), reduction, "first").value == value


def test_a_model_that_gives_nan_is_refused(tiny_model: Callable[[str], Path]) -> None:
    import torch

    loaded = load_model(tiny_model("llama"), device="cpu")
    with torch.no_grad():
        next(loaded.model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        answer_losses(loaded, PAIRS[:1])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no config.json"),
        (["config.json"], "no tokenizer"),
        (["config.json", "tokenizer.json"], "no weights"),
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "only pickle weights"),
    ],
)
def test_a_folder_that_is_no_model_says_what_it_lacks(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_a_model_that_is_nowhere_is_not_replaced_by_another() -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model("no-such-owner/no-such-model")


def test_a_misspelt_folder_is_told_of_the_model_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"Try: model='{tmp_path / 'model'}', if"):
        load_model(tmp_path / "modle")


# fmt: off
FORTY = [
    31.77616, 34.62611, 32.54908, 44.44449, 34.66070, 19.33538, 68.11450, 27.41146, 10.79625, 83.92377,
    19.16684, 18.33749, 55.02805, 36.39734, 24.48694, 24.15338, 24.05421, 66.19334, 25.46997, 42.30678,
    23.23051, 72.50010, 68.67678, 53.68688, 49.78434, 34.80129, 57.46832, 42.54242, 37.93146, 48.83305,
    80.40624, 13.37169, 57.82358, 52.37060, 44.51137, 65.59660, 48.38602, 43.74843, 57.36649, 25.73643,
]
# fmt: on


def test_golden_losses_on_forty_real_questions(stories: Path, popqa: Path) -> None:
    examples = curate.read(popqa).examples()[::75][:40]
    pairs = [(f"Question: {e.question}\nAnswer:", f" {e.answers[0]}") for e in examples]
    losses = answer_losses(load_model(stories, device="cpu"), pairs)
    assert [loss.nats for loss in losses] == pytest.approx(FORTY, abs=1e-4)


@pytest.fixture
def gpt2_tokenizer(shared: Path, tmp_path: Path) -> LoadedModel:
    """A tiny model of random weights with the real GPT-2 tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    folder = shared / "models" / "tokenizer-gpt2"
    tokenizer = GPT2TokenizerFast(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=128, initializer_range=0.3))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return load_model(tmp_path, device="cpu")


def test_the_real_gpt2_tokenizer_puts_no_token_first_and_the_space_in_the_answer(gpt2_tokenizer: LoadedModel) -> None:
    (item,) = encode(gpt2_tokenizer, PAIRS[:1])
    assert gpt2_tokenizer.tokenizer.convert_ids_to_tokens(item.ids[item.start : item.end]) == ["ĠParis"]
    assert gpt2_tokenizer.tokenizer.convert_ids_to_tokens(item.ids[:1]) == ["Question"]
    for (prompt, completion), loss in zip(PAIRS, answer_losses(gpt2_tokenizer, PAIRS), strict=True):
        nats, tokens = by_hand(gpt2_tokenizer, prompt, completion)
        assert (loss.tokens, loss.nats) == (tokens, pytest.approx(nats, abs=1e-4 * tokens))


def test_the_two_files_of_gpt2_are_a_tokenizer(shared: Path) -> None:
    tokenizer = load_tokenizer(shared / "models" / "tokenizer-gpt2")
    assert tokenizer.convert_ids_to_tokens(tokenizer("Question: Paris")["input_ids"]) == ["Question", ":", "ĠParis"]


def test_pickle_weights_are_read_only_when_allowed(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    import torch

    original = load_model(tiny_model("llama"), device="cpu")
    shutil.copytree(tiny_model("llama"), tmp_path / "old")
    torch.save(original.model.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    (tmp_path / "old" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="allow_pickle"):
        load_model(tmp_path / "old", device="cpu")
    allowed = load_model(tmp_path / "old", device="cpu", allow_pickle=True)
    assert answer_losses(allowed, PAIRS) == answer_losses(original, PAIRS)


def test_a_slow_tokenizer_is_refused_with_what_to_type(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    from transformers import ByT5Tokenizer

    shutil.copytree(tiny_model("llama"), tmp_path / "slow")
    for file in (tmp_path / "slow").glob("tokenizer*"):
        file.unlink()
    ByT5Tokenizer().save_pretrained(tmp_path / "slow")
    (tmp_path / "slow" / "vocab.json").write_text("{}")  # bytes need none, but a tokenizer has some such file
    with pytest.raises(ModelError, match="which characters a token covers"):
        load_model(tmp_path / "slow", device="cpu")


def test_solved_examples_may_be_a_list_of_rows(tiny_model: Callable[[str], Path], films: list[dict[str, Any]]) -> None:
    model: dict[str, Any] = {"by": "loss", "model": tiny_model("llama"), "device": "cpu"}
    alone, solved = (curate.score(films, **model, **more) for more in ({}, {"shots": 2, "shots_from": films}))
    assert all(a["score_loss"] != b["score_loss"] for a, b in zip(alone, solved, strict=True))
