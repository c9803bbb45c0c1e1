"""Texts packed side by side: each sees what it would see alone, and its losses are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.lm import loss as answer_loss
from curate.lm.forward import can_pack, reach
from curate.lm.loss import answer_losses
from curate.lm.model import LoadedModel, load_model
from curate.lm.packing import MOST_BUDGET, Encoded, Sizes, encode, fitting_budget, make_packs, make_rows

Tiny = Callable[[str], Path]
KINDS = ("llama", "gpt2", "byte-fallback", "mistral", "qwen", "gemma")
WINDOW = 64
"""Wide enough for some texts here; those that are longer must be read alone."""
PROMPTS = ["Question: Who directed Alien?\nAnswer:", "Question: Who directed Heat?\nAnswer:", "Q", "So " * 30]
ANSWERS = [" Ridley Scott", " Ridley", " Sir Ridley Scott", " Zürich 東京", " a", " Michael Mann", " Michael K. Mann"]
PAIRS = [(prompt, answer) for prompt in PROMPTS for answer in ANSWERS]


def load(tiny_model: Tiny, kind: str) -> LoadedModel:
    loaded = load_model(tiny_model(kind), device="cpu")
    if hasattr(loaded.model.config, "sliding_window"):
        loaded.model.config.sliding_window = WINDOW
    return loaded


@pytest.fixture(params=KINDS)
def loaded(request: pytest.FixtureRequest, tiny_model: Tiny) -> LoadedModel:
    return load(tiny_model, request.param)


def alone(loaded: LoadedModel, pairs: list[tuple[str, str]]) -> list[float | None]:
    return [answer_losses(loaded, [pair])[0].nats for pair in pairs]


@given(rows=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=8).map(tuple), min_size=1, max_size=12))
def test_every_token_sees_its_own_text_and_nothing_else(rows: list[tuple[int, ...]]) -> None:
    items = [Encoded((*ids, 9), len(ids), len(ids) + 1) for ids in rows]
    made = make_rows(items, range(len(items)))
    packs = make_packs(made, shared=0, room=12, most=20)
    assert sorted(row.ids for pack in packs for row in pack.rows) == [row.ids for row in made]
    for pack in packs:
        assert len(pack) <= 16
        for row, path in zip(pack.rows, pack.paths, strict=True):
            assert tuple(pack.ids[n] for n in path) == row.ids
            assert [pack.positions[n] for n in path] == list(range(len(path)))
            for depth, token in enumerate(path):
                seen = [n for n in range(token + 1) if token < pack.ends[n]]
                assert seen == path[: depth + 1]


def test_what_rows_share_is_left_out_and_a_long_row_has_room_for_its_kin() -> None:
    prompt = tuple(range(100, 130))
    items = [Encoded((*prompt, n, n, n), 30, 33) for n in range(6)]
    (pack,) = make_packs(make_rows(items, range(6)), shared=10, room=8, most=1000)
    assert (len(pack), pack.positions[:3]) == (20 + 6 * 2, [10, 11, 12])
    packs = make_packs(make_rows(items, range(6)), shared=10, room=8, most=36)
    assert [len(pack) for pack in packs] == [26, 26], "no pack reaches farther than the model sees"


def test_models_that_keep_packed_texts_apart_are_told_by_trying(loaded: LoadedModel, tiny_model: Tiny) -> None:
    assert can_pack(loaded)
    assert not can_pack(load_model(tiny_model("mamba"), device="cpu"))


@pytest.mark.parametrize("ignored", ["position_ids", "attention_mask"])
def test_a_model_that_counts_or_masks_by_itself_reads_text_by_text(
    tiny_model: Tiny, ignored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tiny_model, "llama")
    expected = alone(loaded, PAIRS)
    original = loaded.model.forward

    def forward(input_ids: Any, position_ids: Any = None, past_key_values: Any = None, **rest: Any) -> Any:
        given = {"input_ids": input_ids, "position_ids": position_ids, "past_key_values": past_key_values, **rest}
        return original(**{name: value for name, value in given.items() if name != ignored})

    monkeypatch.setattr(loaded.model, "forward", forward)
    assert not can_pack(loaded)
    assert [loss.nats for loss in answer_losses(loaded, PAIRS)] == pytest.approx(expected, rel=1e-5)


def test_packed_losses_are_those_of_each_text_alone(loaded: LoadedModel) -> None:
    assert reach(loaded) <= 128
    assert [loss.nats for loss in answer_losses(loaded, PAIRS)] == pytest.approx(alone(loaded, PAIRS), rel=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_every_way_to_attend_gives_the_same_losses_packed_or_not(tiny_model: Tiny, implementation: str) -> None:
    expected = alone(load_model(tiny_model("llama"), device="cpu"), PAIRS)
    loaded = load_model(tiny_model("llama"), device="cpu")
    loaded.model.set_attn_implementation(implementation)
    assert can_pack(loaded)
    assert [loss.nats for loss in answer_losses(loaded, PAIRS)] == pytest.approx(expected, rel=1e-5)


def test_a_batch_takes_what_memory_holds_in_steps_and_within_limits() -> None:
    assert fitting_budget(3.5e9, 500_000) == 6912  # 27 × 256
    assert fitting_budget(1e12, 500_000) == MOST_BUDGET
    assert fitting_budget(-1e9, 500_000) == 256  # the weights alone are too much: memory runs out, and says so


@pytest.mark.parametrize("kind", ["gpt2", "mistral", "gemma"])
def test_pack_size_batch_size_and_company_never_change_a_loss(tiny_model: Tiny, kind: str) -> None:
    loaded = load(tiny_model, kind)
    nats = dict(zip(PAIRS, alone(loaded, PAIRS), strict=True))

    @settings(max_examples=20, deadline=None)
    @given(
        chosen=st.lists(st.sampled_from(PAIRS), min_size=1, max_size=20),
        room=st.sampled_from([1, 20, 50, 1000]),
        budget=st.sampled_from([1, 100, 10_000]),
        by_pack=st.booleans(),
        texts=st.sampled_from([3, 10, 1000]),
    )
    def check(chosen: list[tuple[str, str]], room: int, budget: int, by_pack: bool, texts: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(answer_loss, "sizes_of", lambda loaded: Sizes(room, by_pack, texts))
            losses = answer_losses(loaded, chosen, budget)
        assert [loss.nats for loss in losses] == pytest.approx([nats[pair] for pair in chosen], rel=1e-5)

    check()


def test_several_answers_cost_one_prompt_and_their_own_tokens(tiny_model: Tiny) -> None:
    loaded = load(tiny_model, "llama")
    told: list[int] = []
    pairs = [(PROMPTS[0], answer) for answer in (" Ridley Scott", " Michael Mann", " Zürich")]
    answer_losses(loaded, pairs, report=lambda share, tokens: told.append(tokens))
    items = encode(loaded, pairs)
    assert sum(told) == items[0].start + sum(item.end - item.start - 1 for item in items)
