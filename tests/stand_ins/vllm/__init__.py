"""Stands in for vLLM: the same names and signatures, answering by transformers and peft, one prompt at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vllm.lora.request import LoRARequest


@dataclass(kw_only=True)
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: Sequence[int]


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput] = field(default_factory=list)


@dataclass
class EngineArgs:
    """Those arguments of the engine that LLM takes as further keywords."""

    enable_lora: bool = False
    max_lora_rank: int = 16
    max_model_len: int | None = None
    load_format: str = "auto"
    generation_config: str = "auto"


class LLM:
    made: ClassVar[list[LLM]] = []

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        seed: int = 0,
        gpu_memory_utilization: float = 0.9,
        **kwargs: Any,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.args, self.utilization, self.dtype = EngineArgs(**kwargs), gpu_memory_utilization, dtype
        if self.args.max_lora_rank not in (8, 16, 32, 64, 128, 256):
            raise ValueError(f"max_lora_rank ({self.args.max_lora_rank}) must be one of 8, 16, 32, 64, 128, 256.")
        self.load = lambda: AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer or model)
        self.models: dict[int, Any] = {0: self.load()}
        self.asked = 0
        self.made.append(self)

    def generate(
        self,
        prompts: Sequence[str | dict[str, Any]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        several = isinstance(sampling_params, Sequence)
        params = sampling_params if several else [sampling_params or SamplingParams()] * len(prompts)
        self.asked += len(prompts)
        model = self.model(lora_request)
        return [self.answer(model, prompt, how) for prompt, how in zip(prompts, params, strict=True)]

    def model(self, lora: LoRARequest | None) -> Any:
        """Loaded the first time that a number is seen."""
        from peft import PeftModel

        if lora is None:
            return self.models[0]
        if not self.args.enable_lora:
            raise ValueError("LoRA is not enabled. Use --enable-lora to enable LoRA.")
        if lora.lora_int_id not in self.models:
            adapted = PeftModel.from_pretrained(self.load(), lora.lora_path).eval()
            if adapted.peft_config["default"].r > self.args.max_lora_rank:
                raise ValueError("LoRA rank is greater than max_lora_rank.")
            self.models[lora.lora_int_id] = adapted
        return self.models[lora.lora_int_id]

    def answer(self, model: Any, prompt: str | dict[str, Any], how: SamplingParams) -> RequestOutput:
        import torch

        ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt["prompt_token_ids"]
        if self.args.max_model_len and len(ids) > self.args.max_model_len:
            raise ValueError(f"The prompt (length {len(ids)}) is longer than the maximum model length.")
        ends = [self.tokenizer.eos_token_id, *(how.stop_token_ids or [])]
        sampled = how.temperature > 0
        drawn = {"temperature": how.temperature, "top_k": how.top_k, "num_return_sequences": how.n} if sampled else {}
        if how.seed is not None:
            torch.manual_seed(how.seed)
        given = torch.tensor([ids])
        said = model.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=how.max_tokens,
            do_sample=sampled,
            eos_token_id=ends,
            pad_token_id=ends[0],
            **drawn,
        )
        new = [row[len(ids) :].tolist() for row in said]
        return RequestOutput(list(ids), [self.completion(n, tokens, ends, how) for n, tokens in enumerate(new)])

    def completion(self, index: int, tokens: list[int], ends: list[int], how: SamplingParams) -> CompletionOutput:
        """Up to what stops it: the token that does is among the ids, its text is not in the text."""
        for count in range(1, len(tokens) + 1):
            text = self.tokenizer.decode(tokens[:count], skip_special_tokens=True)
            stop = next((stop for stop in how.stop or () if stop in text), None)
            if stop or tokens[count - 1] in ends:
                return CompletionOutput(index, text.split(stop)[0] if stop else text, tuple(tokens[:count]))
        return CompletionOutput(index, self.tokenizer.decode(tokens, skip_special_tokens=True), tuple(tokens))
