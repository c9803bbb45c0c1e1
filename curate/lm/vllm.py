"""Answers by vLLM, which is faster at them on a GPU. Written after its documentation, not yet run on hardware.

Only what a model says comes from it, never a loss: with prefix caching, vLLM's log-probabilities of a prompt depend on
which prompts came before it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import torch

from curate.errors import CurateError, ModelError, SettingError, setting
from curate.lm.forward import TEMPERATURE, TOP_K
from curate.lm.gguf import is_gguf
from curate.lm.model import LoadedModel

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
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
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
        self.numbers = count(1)

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
    """A `Generator`: the model as it is, or with the adapter in a folder."""

    engine: Engine
    adapter: Path | None = None
    number: int = 0
    name: str = "vllm"

    def with_adapter(self, folder: Path) -> VllmGenerator:
        """The same model with an adapter; vLLM keeps adapters by number, so each that is saved has its own."""
        return replace(self, adapter=folder.resolve(), number=next(self.engine.numbers))

    def greedy(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """New tokens of every prompt."""
        said = self._generate(prompts, [self._params(max_new_tokens, temperature=0.0) for _ in prompts])
        return [of_one[0] for of_one in said]

    def sampled(
        self, prompts: Sequence[Sequence[int]], samples: int, seed: int, max_new_tokens: int
    ) -> list[list[list[int]]]:
        """New tokens of so many samples of every prompt, drawn by the seed and the prompt."""
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
