"""However answers go through the model — alone, in batches, on a shared beginning — the loss is the same number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ModelError
from curate.lm import loss as answer_loss
from curate.lm import packing as batching
from curate.lm.loss import answer_losses
from curate.lm.model import LoadedModel, load_model

Tiny = Callable[[str], Path]
KINDS = ("llama", "gpt2", "byte-fallback", "mistral", "qwen", "gemma", "mamba")

SHOTS = "Question: What is the capital of Spain?\nAnswer: Madrid\n\nQuestion: Who directed Heat?\nAnswer: Mann\n\n"
ASKED = [
    ("Question: Who directed Alien?\nAnswer:", " Ridley Scott"),
    ("Question: Who directed Alien?\nAnswer:", " R"),
    ("Question: Who directed Alien?\nAnswer:", " Ridley"),
    ("Question: What is the capital of France?\nAnswer:", " Paris"),
    ("Question: In what city was Zoë Müller born?\nAnswer:", " Zürich 東京"),
    ("Question: Where?\nAnswer:", " a"),
    ("Question: Where?\nAnswer:", " b"),
]
FEW_SHOT = [(SHOTS + prompt, completion) for prompt, completion in ASKED] * 2


@pytest.fixture(scope="module", autouse=True)
def eager_to_share() -> Iterator[None]:
    """Rows share a beginning here even where little is saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "LEAST_SAVED", 8)
        yield


def one_by_one(loaded: LoadedModel, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Every text alone through the whole model: no batch, no cache, no selection before the head."""
    import torch

    nats = []
    for prompt, completion in pairs:
        encoded = loaded.tokenizer(prompt + completion, return_offsets_mapping=True)
        ids = torch.tensor([encoded["input_ids"]])
        with torch.no_grad():
            log_p = torch.log_softmax(loaded.model(ids).logits[0].double(), dim=-1)
        chosen = [i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(prompt)]
        nats.append(-sum(float(log_p[i - 1, ids[0, i]]) for i in chosen))
    return nats


@pytest.fixture(params=KINDS)
def loaded(request: pytest.FixtureRequest, tiny_model: Tiny) -> LoadedModel:
    return load_model(tiny_model(request.param), device="cpu")


def test_a_shared_beginning_never_changes_a_loss(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = []
    original = answer_loss.cache_of
    monkeypatch.setattr(answer_loss, "cache_of", lambda *a: caches.append(a) or original(*a))
    losses = answer_losses(loaded, FEW_SHOT)
    assert [loss.nats for loss in losses] == pytest.approx(one_by_one(loaded, FEW_SHOT), rel=1e-5, abs=1e-5)
    assert bool(caches) == (loaded.model.config.model_type != "mamba")


def test_a_model_with_a_running_state_shares_nothing(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """As hybrids of attention and state spaces have: their memory is more than keys and values."""
    loaded = load_model(tiny_model("llama"), device="cpu")
    monkeypatch.setattr(loaded.model, "_is_stateful", True)
    monkeypatch.setattr(answer_loss, "cache_of", None)
    assert all(loss.nats for loss in answer_losses(loaded, FEW_SHOT))


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_batch_size_order_and_company_never_change_a_loss(tiny_model: Tiny, kind: str, data: st.DataObject) -> None:
    loaded = load_model(tiny_model(kind), device="cpu")
    pairs = ASKED + FEW_SHOT[: len(ASKED)]
    alone = dict(zip(pairs, one_by_one(loaded, pairs), strict=True))
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=20))
    budget = data.draw(st.sampled_from([1, 40, 100, 10_000]))
    losses = answer_losses(loaded, chosen, budget)
    assert [loss.nats for loss in losses] == pytest.approx([alone[pair] for pair in chosen], rel=1e-5, abs=1e-5)


def test_letters_and_short_answers_of_one_prompt_are_read_from_one_row(
    tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    sizes: list[int] = []
    original = answer_loss.read_batch
    monkeypatch.setattr(answer_loss, "read_batch", lambda *a: sizes.append(len(a[1])) or original(*a))
    answer_losses(loaded, [("Question: Where?\nAnswer:", f" {letter}") for letter in "ABCDEFGHIJ"])
    assert sizes == [1]


def test_a_cut_prompt_is_counted(tiny_model: Tiny) -> None:
    loaded = load_model(tiny_model("llama"), device="cpu")
    long = ("Question: " + "Who directed Alien? " * 40 + "\nAnswer:", " Ridley")
    whole, cut = answer_losses(loaded, [ASKED[0], long])
    ids = loaded.tokenizer(long[0] + long[1])["input_ids"]
    assert (whole.truncated, cut.truncated) == (0, len(ids) - 128)
    assert cut.nats is not None


class RunsOut:
    """A forward pass that finds no memory for more than `rows` rows."""

    def __init__(self, model: Any, rows: int) -> None:
        self.forward, self.rows, self.refused = model.forward, rows, 0

    def __call__(self, input_ids: Any, **rest: Any) -> Any:
        import torch

        if len(input_ids) > self.rows:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError("out of memory")
        return self.forward(input_ids=input_ids, **rest)


def test_when_memory_runs_out_smaller_batches_go_on(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(tiny_model("gpt2"), device="cpu")
    expected = [loss.nats for loss in answer_losses(loaded, ASKED)]
    loaded = load_model(tiny_model("gpt2"), device="cpu")  # of which nothing is known yet
    tight = RunsOut(loaded.model, rows=1)
    monkeypatch.setattr(loaded.model, "forward", tight)
    losses = answer_losses(loaded, ASKED, token_budget=256)
    assert [loss.nats for loss in losses] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert tight.refused > 0


def test_one_example_too_big_for_memory_says_so(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(tiny_model("gpt2"), device="cpu")
    monkeypatch.setattr(loaded.model, "forward", RunsOut(loaded.model, rows=0))
    with pytest.raises(ModelError, match="does not fit in memory"):
        answer_losses(loaded, ASKED)
