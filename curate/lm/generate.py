"""What the model answers: greedily, or sampled; by transformers, or by vLLM."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.engines import processes
from curate.errors import CurateError, ModelError, SettingError, setting
from curate.lm.files import is_gguf
from curate.lm.forward import (
    TEMPERATURE,
    TOP_K,
    Cache,
    Prefilled,
    cache_of,
    can_pack,
    can_share,
    keep_rows,
    left_padded,
    next_logits,
    reach,
    read_packed,
    read_padded,
)
from curate.lm.loss import line_ends, smaller_budget
from curate.lm.model import LoadedModel
from curate.lm.packing import (
    CACHED_PER_BUDGET,
    Encoded,
    Group,
    Row,
    budget_of,
    common,
    make_groups,
    rows_that_fit,
    sizes_of,
)

MAX_NEW_TOKENS = 10
CPU_BUDGET = 4096
"""Tokens a batch on a CPU, those still to come included."""


def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    max_new_tokens: int = MAX_NEW_TOKENS,
    token_budget: int | None = None,
) -> list[str]:
    """What the model says after each prompt, in order: greedy, at most `max_new_tokens`, the first line only (B.2).

    Prompts that begin alike are read side by side, what they begin with once (packing.py); where a model does not keep
    them apart they are batched by length, with padding on the left. Each distinct prompt is answered once, and a
    beginning that many of them share (solved examples) is computed once. A prompt that is longer than the model's
    context loses tokens after its first, which is the beginning of sequence where there is one. ModelError when one
    prompt alone does not fit in memory.
    """
    distinct = list(dict.fromkeys(prompts))
    if loaded.generator:
        new = loaded.generator.greedy(_prompt_ids(loaded, distinct, max_new_tokens), max_new_tokens)
        texts = _first_lines(loaded, new)
    else:
        texts = [text for (text,) in _texts(loaded, distinct, max_new_tokens, token_budget, None)]
    said = dict(zip(distinct, texts, strict=True))
    return [said[prompt] for prompt in prompts]


def sampled_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    samples: int,
    seed: int = 0,
    max_new_tokens: int = MAX_NEW_TOKENS,
    token_budget: int | None = None,
) -> list[list[str]]:
    """So many answers to each prompt, drawn at temperature 0.5 from the 40 most likely tokens; else as greedy answers.

    What is drawn depends on the seed, the prompt and the number of the sample, and on nothing else: not on the other
    prompts, nor on how they come in batches. Samples that begin alike are computed once as far as they do.
    """
    if loaded.generator:
        ids = _prompt_ids(loaded, prompts, max_new_tokens)
        drawn = loaded.generator.sampled(ids, samples, seed, max_new_tokens)
        return [_first_lines(loaded, new) for new in drawn]
    _check_samples(loaded)
    draws = _uniform(prompts, seed, samples, max_new_tokens)
    return _texts(loaded, prompts, max_new_tokens, token_budget, draws)


def right_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    accepted: Sequence[Collection[str]],
    samples: int,
    seed: int = 0,
    max_new_tokens: int = MAX_NEW_TOKENS,
    token_budget: int | None = None,
) -> list[tuple[bool, list[bool]]]:
    """Whether the greedy answer to each prompt, and each of the `sampled_answers`, is one of those accepted there.

    What can no longer become an accepted answer is not generated to its end, so most wrong answers cost a token or two.
    """
    if loaded.generator:
        greedy = greedy_answers(loaded, prompts, max_new_tokens, token_budget)
        drawn = sampled_answers(loaded, prompts, samples, seed, max_new_tokens, token_budget)
        said = [[text, *texts] for text, texts in zip(greedy, drawn, strict=True)]
    else:
        _check_samples(loaded)
        draws = torch.nn.functional.pad(_uniform(prompts, seed, samples, max_new_tokens), (0, 0, 1, 0), value=GREEDY)
        said = _texts(loaded, prompts, max_new_tokens, token_budget, draws, accepted)
    right = [[text.strip() in own for text in texts] for own, texts in zip(accepted, said, strict=True)]
    return [(greedy, sampled) for greedy, *sampled in right]


def _check_samples(loaded: LoadedModel) -> None:
    if not can_share(loaded):
        raise ModelError(
            f"Answers of {loaded.name} cannot be sampled: its memory is not keys and values.",
            expected="a transformer",
            try_next=setting("known_mode", "exact"),
        )


GREEDY = -1.0
"""In place of a number that is drawn: the most likely token."""


def _uniform(prompts: Sequence[str], seed: int, samples: int, tokens: int) -> torch.Tensor:
    """A number from 0 to 1 for every token of every sample: (prompts, samples, tokens)"""
    drawn = np.empty((len(prompts), samples, tokens))
    for own, prompt in zip(drawn, prompts, strict=True):
        content = f"{seed}:{prompt}".encode("utf-8", "surrogatepass")
        key = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")
        own[:] = np.random.Generator(np.random.Philox(key=key)).random((samples, tokens))
    return torch.from_numpy(drawn)


@dataclass(frozen=True)
class Wanted:
    """Answers of at most so many new tokens, until one ends an answer, which `ends` (V,) tells.

    `draws` (prompts, answers, tokens) say what is sampled, without them one greedy answer each. With what is `accepted`
    for each prompt, an answer is left where no accepted one begins like it.
    """

    loaded: LoadedModel
    tokens: int
    ends: Sequence[bool]
    draws: torch.Tensor | None
    accepted: Sequence[Collection[str]] | None = None

    @property
    def copies(self) -> int:
        """Rows that a prompt may become: its answers; few are left of them where wrong ones are given up."""
        return 1 if self.draws is None else min(self.draws.shape[1], 2 if self.accepted is not None else 2**31)

    def hopeless(self, begun: Sequence[tuple[int, Sequence[int]]]) -> list[bool]:
        """Whether no accepted answer begins like some tokens after a prompt, given by its number.

        Spaces do not count, since some tokenizers move them, nor what a letter of several tokens is in its middle.
        """
        if self.accepted is None or not begun:
            return [False] * len(begun)
        texts = _first_lines(self.loaded, [list(tokens) for _, tokens in begun])
        cut = ["".join(text.split()).rstrip("\ufffd") for text in texts]
        return [
            not any("".join(answer.split()).startswith(text) for answer in self.accepted[prompt])
            for text, (prompt, _) in zip(cut, begun, strict=True)
        ]


def _texts(
    loaded: LoadedModel,
    prompts: Sequence[str],
    max_new_tokens: int,
    budget: int | None,
    draws: torch.Tensor | None,
    accepted: Sequence[Collection[str]] | None = None,
) -> list[list[str]]:
    """What the model says after each prompt, the first lines of it: greedily, or by `draws`, as `Wanted` has them."""
    ids = _prompt_ids(loaded, prompts, max_new_tokens)
    wanted = Wanted(loaded, max_new_tokens, line_ends(loaded).tolist(), draws, accepted)
    said: list[list[str]] = [[] for _ in prompts]
    for indices, new in _answers(loaded, ids, wanted, budget or budget_of(loaded, CPU_BUDGET)):
        for index, answers in zip(indices, new, strict=True):
            said[index] = _first_lines(loaded, answers)
    return said


def _prompt_ids(loaded: LoadedModel, prompts: Sequence[str], max_new_tokens: int) -> list[tuple[int, ...]]:
    room = max(2, loaded.context - max_new_tokens)
    texts = loaded.tokenize(list(prompts), return_attention_mask=False)["input_ids"] if prompts else []
    return [tuple(text) if len(text) <= room else (text[0], *text[len(text) - room + 1 :]) for text in texts]


def _first_lines(loaded: LoadedModel, new: Sequence[list[int]]) -> list[str]:
    """What new tokens say, as text, up to a line break."""
    new = [tokens[:-1] if tokens[-1:] == [loaded.turn_end] else tokens for tokens in new]
    texts = loaded.tokenizer.batch_decode(new, skip_special_tokens=True) if new else []
    return [text.split("\n")[0] for text in texts]


def _answers(
    loaded: LoadedModel, ids: Sequence[tuple[int, ...]], wanted: Wanted, budget: int
) -> Iterator[tuple[list[int], list[list[list[int]]]]]:
    """Indices of the prompts of a batch, and the new tokens of each one's answers."""
    longest_packed = reach(loaded) - wanted.tokens if len(ids) > 1 and can_pack(loaded) else 0
    for group in _groups(loaded, ids, wanted.tokens, sizes_of(loaded).room if longest_packed > 0 else 0):
        packed = max(len(row.ids) for row in group.rows) <= longest_packed
        rows = list(group.rows) if packed else sorted(group.rows, key=lambda row: -len(row.ids))
        beginning = cache_of(loaded, rows[0].ids[: group.shared]) if group.shared else []
        start = 0
        while start < len(rows):
            batch = rows[start : start + _fitting(rows[start:], group.shared, wanted, budget, packed)]
            try:
                new = _batch_answers(loaded, batch, group.shared, beginning, packed, wanted)
            except RuntimeError as error:
                budget = smaller_budget(error, budget, len(batch))
                continue
            yield [row.items[0] for row in batch], new
            start += len(batch)


def _groups(loaded: LoadedModel, ids: Sequence[tuple[int, ...]], max_new_tokens: int, room: int) -> list[Group]:
    """The prompts, those together that share a beginning worth computing once."""
    rows = sorted((Row(prompt, (i,)) for i, prompt in enumerate(ids)), key=lambda row: row.ids)
    if not can_share(loaded):
        return [Group(tuple(rows))] if rows else []
    # What is predicted of a prompt is all that comes after it, so all but its last token may be shared.
    items = [Encoded((*prompt, 0), len(prompt), len(prompt) + 1) for prompt in ids]
    groups = make_groups(rows, items, room, passes=max_new_tokens if room else 1)  # a group's tokens come one by one
    # Padding stands between a shared beginning and the rest: no matter, unless the model counts tokens of a window.
    return [
        group if max(len(row.ids) for row in group.rows) + max_new_tokens <= reach(loaded) else Group(group.rows)
        for group in groups
    ]


def _fitting(rows: Sequence[Row], shared: int, wanted: Wanted, budget: int, packed: bool) -> int:
    """How many of the next rows make a batch: by the tokens that are computed, and by those that are kept."""
    if not packed:
        return max(1, rows_that_fit(len(rows[0].ids) + wanted.tokens, shared, budget) // wanted.copies)
    computed, longest = 0, 0
    for count, (row, before) in enumerate(zip(rows, [None, *rows], strict=False)):
        own = len(row.ids) - max(shared, common(row.ids, before.ids) if before else 0)
        computed += own + wanted.copies * wanted.tokens
        longest = max(longest, len(row.ids) + wanted.tokens)
        kept = (count + 1) * wanted.copies * longest
        if count and (computed > budget or kept > CACHED_PER_BUDGET * budget):
            return count
    return len(rows)


def _batch_answers(
    loaded: LoadedModel, rows: Sequence[Row], shared: int, beginning: Cache, packed: bool, wanted: Wanted
) -> list[list[list[int]]]:
    """New tokens of each answer of each row, the one that ends its line included."""
    if not can_share(loaded):
        return [[tokens] for tokens in _generated(loaded, rows, wanted.tokens)]
    with torch.inference_mode():
        if packed:
            prefilled = read_packed(loaded, rows, shared, beginning, sizes_of(loaded).pack)
        else:
            prefilled = read_padded(loaded, rows, shared, beginning)
        return _continued(loaded, prefilled, wanted, [row.items[0] for row in rows])


@dataclass(frozen=True)
class Branch:
    """What some answers (by number) to a prompt (by its place in the batch) have in common: a row of the batch."""

    place: int
    tokens: tuple[int, ...]
    answers: Sequence[int]


def _continued(
    loaded: LoadedModel, prefilled: Prefilled, wanted: Wanted, prompts: Sequence[int]
) -> list[list[list[int]]]:
    """Tokens of each answer until its line ends; branches that have ended leave the batch.

    Answers that say the same so far are one branch, so the samples of a prompt cost as much as it has different ones.
    """
    cache, mask, positions, logits = prefilled.cache, prefilled.mask, prefilled.positions, prefilled.logits
    count = 1 if wanted.draws is None else wanted.draws.shape[1]
    new: list[list[list[int]]] = [[[] for _ in range(count)] for _ in prompts]
    branches = [Branch(place, (), range(count)) for place in prefilled.order]
    while True:
        grown = _grown(logits, branches, prompts, wanted.draws)
        for _, branch in grown:
            for answer in branch.answers:
                new[branch.place][answer] = list(branch.tokens)
        if len(grown[0][1].tokens) == wanted.tokens:
            return new
        open_ones = [(parent, branch) for parent, branch in grown if not wanted.ends[branch.tokens[-1]]]
        given_up = wanted.hopeless([(prompts[branch.place], branch.tokens) for _, branch in open_ones])
        going = [each for each, hopeless in zip(open_ones, given_up, strict=True) if not hopeless]
        if not going:
            return new
        parents = [parent for parent, _ in going]
        if parents != list(range(len(branches))):  # leaving and branching copies the cache
            staying = torch.tensor(parents, device=logits.device)
            keep_rows(cache, staying)
            mask, positions = mask[staying], positions[staying]
        branches = [branch for _, branch in going]
        last = torch.tensor([[branch.tokens[-1]] for branch in branches], device=logits.device)
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        logits = next_logits(loaded, last, mask, positions[:, None], cache)
        positions = positions + 1


def _grown(
    logits: torch.Tensor, branches: Sequence[Branch], prompts: Sequence[int], draws: torch.Tensor | None
) -> list[tuple[int, Branch]]:
    """The branches with one more token, by `logits` (B, V), each after the number of the one that it comes from."""
    greedy = logits.argmax(dim=-1).tolist()
    if draws is None:
        found = [((row, token), 0) for row, token in enumerate(greedy)]
    else:
        owners = [(row, answer) for row, branch in enumerate(branches) for answer in branch.answers]
        rows = torch.tensor([row for row, _ in owners])
        of = torch.tensor([prompts[branches[row].place] for row, _ in owners])
        numbers = draws[of, torch.tensor([answer for _, answer in owners]), len(branches[0].tokens)]
        chosen = sampled_tokens(logits, numbers, rows).tolist()
        found = [
            ((row, greedy[row] if number == GREEDY else token), answer)
            for (row, answer), token, number in zip(owners, chosen, numbers.tolist(), strict=True)
        ]
    grown: dict[tuple[int, int], list[int]] = {}
    for key, answer in found:
        grown.setdefault(key, []).append(answer)
    return [
        (row, Branch(branches[row].place, (*branches[row].tokens, token), answers))
        for (row, token), answers in grown.items()
    ]


def sampled_tokens(logits: torch.Tensor, draws: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A token (N,) after each of the `rows` (N,) of logits (B, V), from the 40 most likely at temperature 0.5.

    `draws` (N,) say which, from 0 to 1.
    """
    values, likely = logits.float().topk(min(TOP_K, logits.shape[-1]))
    shares = torch.softmax(values / TEMPERATURE, dim=-1).double().cumsum(dim=-1)
    rows, draws = rows.to(shares.device), draws.to(shares.device)
    place = torch.searchsorted(shares[rows], draws[:, None]).clamp(max=likely.shape[-1] - 1)
    return likely[rows].gather(1, place)[:, 0]


def _generated(loaded: LoadedModel, rows: Sequence[Row], max_new_tokens: int) -> list[list[int]]:
    """The same for models whose memory is not keys and values, such as Mamba."""
    from transformers import GenerationConfig

    model: Any = loaded.model
    ids, mask = left_padded(loaded, [row.ids for row in rows])
    # A config of our own, since a model's generation_config.json may ask for sampling.
    special = {name: getattr(loaded.tokenizer, name) for name in ("pad_token_id", "bos_token_id")}
    special["eos_token_id"] = [e for e in (loaded.tokenizer.eos_token_id, loaded.turn_end) if e is not None] or None
    config = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, **special)
    with torch.inference_mode():
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [list(row) for row in output[:, ids.shape[1] :].tolist()]


# By vLLM, which is faster on a GPU. Written after its documentation, not yet run on hardware.
#
# Only what a model says comes from it, never a loss: with prefix caching, vLLM's log-probabilities of a prompt depend
# on which prompts came before it.


DEVICES = ("cuda",)
RANKS = (8, 16, 32, 64, 128, 256)
"""The ranks of adapters that vLLM makes room for."""
MOST_TOKENS = 8192
"""The longest prompt with its answer: room for one such must be left, however long a text the model could read."""
BESIDE_TRAINING, ALONE = 0.5, 0.9
"""The share of the free GPU memory that vLLM takes."""

_BY_VLLM = setting("answers_by", "vllm")
_WITHOUT = setting("answers_by", "transformers")


def check_vllm(model: str) -> None:
    """SettingError or ModelError, before anything is loaded, where vLLM cannot answer for the model of that name."""
    if find_spec("vllm") is None:
        raise SettingError(
            f"{_BY_VLLM} needs vLLM, which is not installed.", try_next=f"pip install 'curate-qa[vllm]', or {_WITHOUT}"
        )
    if is_gguf(Path(model)):
        raise ModelError(
            f"{_BY_VLLM} cannot answer for the GGUF file {model!r}.",
            expected="the Hugging Face folder of the model, or its name on the Hub",
            try_next=_WITHOUT,
        )
    if processes() > 1:
        raise SettingError(f"{_BY_VLLM} is for one process, not for torchrun.", try_next=f"one process, or {_WITHOUT}")


def by_vllm(loaded: LoadedModel, model: str, revision: str | None, rank: int | None = None) -> LoadedModel:
    """The model with vLLM to generate its answers, and those of adapters up to a `rank` if there will be any.

    `model` and `revision` are what `loaded` was loaded from: vLLM loads its own copy. Raises ModelError on any device
    but the first GPU, SettingError for a rank that vLLM has no room for.
    """
    if loaded.device.type not in DEVICES or loaded.device.index:
        raise ModelError(
            f"{_BY_VLLM} answers on the first GPU, and the model is on {loaded.device}.",
            expected="a CUDA GPU; CUDA_VISIBLE_DEVICES=1 makes another the first",
            try_next=f"{setting('device', 'cuda')}, or {_WITHOUT}",
        )
    if rank and rank > RANKS[-1]:
        raise SettingError(f"{setting('lora_rank', rank)} is more than vLLM reads.", expected=f"at most {RANKS[-1]}")
    room = next(r for r in RANKS if r >= rank) if rank else None
    return replace(loaded, generator=VllmGenerator(Engine(loaded, model, revision, room)))


class Engine:
    """vLLM's own copy of a model, loaded when it is first asked."""

    def __init__(self, loaded: LoadedModel, model: str, revision: str | None, rank: int | None) -> None:
        place = Path(model).expanduser()
        self.name, self.context = loaded.name, min(loaded.context, MOST_TOKENS)
        self.model, self.revision = str(place.resolve()) if place.is_dir() else model, revision
        self.dtype = str(loaded.model.dtype).removeprefix("torch.")
        self.rank, self.stops = rank, [loaded.answer_end] if loaded.answer_end is not None else []
        self.numbers = itertools.count(1)

    @cached_property
    def llm(self) -> Any:
        """Takes its share of the GPU memory that is free now, and keeps it."""
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        torch.cuda.empty_cache()  # what training no longer needs is free too
        free, total = torch.cuda.mem_get_info()
        try:
            from vllm import LLM

            return LLM(
                model=self.model,
                revision=self.revision,
                tokenizer_revision=self.revision,
                trust_remote_code=False,
                load_format="safetensors",
                dtype=self.dtype,
                generation_config="vllm",  # the model's own may ask for penalties
                max_model_len=self.context,
                gpu_memory_utilization=(BESIDE_TRAINING if self.rank else ALONE) * free / total,
                **({"enable_lora": True, "max_lora_rank": self.rank} if self.rank else {}),
            )
        except Exception as error:
            raise self.failed("load", error) from error

    def failed(self, what: str, error: Exception) -> CurateError:
        """vLLM raises many kinds of errors."""
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return ModelError(
            f"vLLM could not {what} {self.name}: {first}",
            expected=f"a model that vLLM knows, room for it on the GPU, prompts of {self.context} tokens at most",
            try_next=_WITHOUT,
        )


@dataclass(frozen=True)
class VllmGenerator:
    """What generates answers in place of the model itself: prompts and answers are token ids.

    As the model is, or with the adapter in a folder.
    """

    engine: Engine
    adapter: Path | None = None
    number: int = 0
    name: str = "vllm"

    def with_adapter(self, folder: Path) -> VllmGenerator:
        """The same model with an adapter; vLLM keeps adapters by number, so each that is saved has its own."""
        return replace(self, adapter=folder.resolve(), number=next(self.engine.numbers))

    def greedy(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """New tokens of every prompt, that which ends an answer included or not."""
        said = self._generate(prompts, [self._params(max_new_tokens, temperature=0.0) for _ in prompts])
        return [of_one[0] for of_one in said]

    def sampled(
        self, prompts: Sequence[Sequence[int]], samples: int, seed: int, max_new_tokens: int
    ) -> list[list[list[int]]]:
        """The same of so many samples a prompt, drawn by the seed (temperature 0.5, the 40 most likely tokens)."""
        how = {"n": samples, "temperature": TEMPERATURE, "top_k": TOP_K}
        seeds = [hashlib.blake2b(f"{seed}:{list(ids)}".encode(), digest_size=4).digest() for ids in prompts]
        params = [self._params(max_new_tokens, seed=int.from_bytes(own, "little"), **how) for own in seeds]
        return self._generate(prompts, params)

    def _params(self, max_new_tokens: int, **how: Any) -> Any:
        from vllm import SamplingParams

        return SamplingParams(max_tokens=max_new_tokens, stop=["\n"], stop_token_ids=self.engine.stops, **how)

    def _generate(self, prompts: Sequence[Sequence[int]], params: list[Any]) -> list[list[list[int]]]:
        from vllm.lora.request import LoRARequest

        lora = LoRARequest(f"adapter-{self.number}", self.number, str(self.adapter)) if self.adapter else None
        # As tokens: of a chat's text, vLLM's tokenizer would put a second beginning of sequence before the first.
        asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
        llm = self.engine.llm
        try:
            outputs = llm.generate(asked, params, use_tqdm=False, lora_request=lora) if asked else []
        except Exception as error:
            raise self.engine.failed("answer with", error) from error
        return [[list(sample.token_ids) for sample in output.outputs] for output in outputs]
