"""Load exactly the model that was named, or say why not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.data.files import versions
from curate.data.sources import downloaded, hub_problem
from curate.errors import ModelError, setting
from curate.lm.files import (
    ALONE,
    OLD_BUFFER,
    alone,
    check_folder,
    check_place,
    is_gguf,
    is_gpt2,
    no_model,
    place_of,
    plain_model,
    read_gguf,
    revision_of,
)
from curate.prompts import Template
from curate.settings import DTYPES

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from curate.lm.generate import VllmGenerator

PROBE = "Question: Which bird cannot fly?\nAnswer: a kiwi"
"""A text that every tokenizer makes something of, and that every model can read."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer, and what it was loaded from.

    `in_chat` is whether its texts come from its chat template, which writes special tokens itself; `turn_end` the token
    that ends a turn there, None where it has none. `gguf` tells what a GGUF file held. Answers come from `generator`
    if there is one; all else from `model`. `token_budget` is how many tokens a batch has, if that was said; no number
    depends on it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    in_chat: bool = False
    turn_end: int | None = None
    gguf: Mapping[str, Any] | None = None
    generator: VllmGenerator | None = None
    token_budget: int | None = None

    def asked_in(self, template: Template) -> LoadedModel:
        """The same model, to be asked in a template."""
        if not template.is_chat:
            return replace(self, in_chat=False, turn_end=None)
        after = self.tokenizer(template.separator.lstrip(), add_special_tokens=False)["input_ids"][:1]
        turn_end = next((token for token in after if token in self.tokenizer.added_tokens_decoder), None)
        return replace(self, in_chat=True, turn_end=turn_end)

    def tokenize(self, texts: str | Sequence[str], **options: Any) -> Any:
        """What the tokenizer makes of texts, special tokens around them unless the texts have them already."""
        return self.tokenizer(texts, add_special_tokens=not self.in_chat, **options)

    def remarks(self, template: Template) -> list[str]:
        """That the model has a chat template of its own, where it is asked in another."""
        if template.is_chat or not getattr(self.tokenizer, "chat_template", None):
            return []
        return [f"{self.name} has a chat template, and is asked with {template.name}; --template chat asks in its own."]

    @property
    def answer_end(self) -> int | None:
        """The token that follows a whole answer in training: that which ends a turn, or a text."""
        return self.tokenizer.eos_token_id if self.turn_end is None else self.turn_end

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.device

    @property
    def context(self) -> int:
        """The longest sequence the model takes, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 2**31)

    def fingerprint(self) -> Mapping[str, Any]:
        """What could change its numbers: name, revision and dtype; of a GGUF file what it holds."""
        more = [*(["gguf"] if self.gguf else []), *([self.generator.name] if self.generator else [])]
        return {
            "name": self.name,
            "revision": self.revision,
            **({"gguf": self.gguf} if self.gguf else {}),
            **({"answers_by": self.generator.name} if self.generator else {}),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "versions": versions("torch", "transformers", "tokenizers", *more),
        }


def loaded_already(model: Any) -> LoadedModel | None:
    """A model in memory with its tokenizer: the pair of both, a pipeline, a LoadedModel; None of the name of one.

    What tells it from others is a hash of its weights and its tokenizer. ModelError for anything else, and as for
    `load_model`.
    """
    if isinstance(model, (str, Path, LoadedModel)):
        return model if isinstance(model, LoadedModel) else None
    torch, transformers = _libraries()
    pair = (getattr(model, "model", None), getattr(model, "tokenizer", None))
    found, tokenizer = model if isinstance(model, (tuple, list)) and len(model) == 2 else pair
    bases = transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase
    if not isinstance(found, bases[0]) or not isinstance(tokenizer, bases[1]):
        raise ModelError(
            f"A {type(model).__name__} is no model with its tokenizer.",
            expected="a folder, a Hub id, the pair (model, tokenizer), or a pipeline of transformers",
            try_next="model=(model, tokenizer)",
        )
    name = Path(str(getattr(found, "name_or_path", ""))).name or type(found).__name__
    _check_tokenizer(tokenizer, name)
    _check_vocabulary(tokenizer, found.eval(), name)
    digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode())
    for key, tensor in sorted(found.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    loaded = LoadedModel(found, tokenizer, name, f"sha256:{digest.hexdigest()[:16]}")
    _check_reading(loaded)
    return loaded


def load_model(
    model: str | Path | LoadedModel,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    allow_pickle: bool = False,
    quantized: bool = False,
) -> LoadedModel:
    """Load a causal LM and its tokenizer from a local folder, a GGUF file or the Hub.

    A GGUF file is read by transformers; its weights are plain numbers of the dtype afterwards. Raises ModelError when
    there is no such model, it does not read from left to right, it has no safetensors weights, they do not fit its
    config.json, or its tokenizer does not fit them or cannot tell character offsets. Code from the model's repository
    is never executed; pickle weights, which could carry some, are read only with `allow_pickle` (and then by torch's
    loader of plain tensors). `quantized` keeps the weights in 4 bits (NF4, as in QLoRA), which needs bitsandbytes.
    A model that is loaded already stays as it is.
    """
    if isinstance(model, LoadedModel):
        if quantized:
            raise ModelError(
                f"{model.name} is loaded already, and {setting('method', 'qlora')} loads it in 4 bits.",
                expected="its folder or Hub id",
            )
        return model
    name = str(model)
    if dtype not in DTYPES:
        raise ModelError(f"There is no dtype {dtype!r}.", expected=f"one of {', '.join(DTYPES)}")
    torch, transformers = _libraries()
    folder = place_of(name)
    check_place(name)
    file = read_gguf(folder) if is_gguf(folder) else None
    weights = file.numbers if file else check_folder(folder, allow_pickle) if folder.is_dir() else 1 << 42
    more = _quantization(torch, transformers, name, dtype, device, quantized)
    with _source(name, revision) as source:
        tokenizer = _load_tokenizer(source, revision, name)
        config = _load_config(source, revision, name)
        try:
            with _no_larger_than(weights, name):
                loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
                    source,
                    config=config,
                    revision=revision,
                    trust_remote_code=False,  # left out, transformers asks on stdin, which may hold anything
                    dtype=getattr(torch, dtype),
                    use_safetensors=None if allow_pickle or file else True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are reported, and refused below with their names
                    **_gguf_file(name),
                    **more,
                )
        except ModelError:
            raise
        except Exception as error:  # transformers raises many kinds; each of them is something the user can fix
            raise _refused(name, error) from error
    _check_weights(report, name)
    loaded = plain_model(loaded, file, transformers) if file else loaded
    _with_gradients(loaded) if quantized else _move(loaded, device, torch)
    _check_vocabulary(tokenizer, loaded, name)
    revision = revision_of(name, source, loaded)
    called = folder.name if folder.is_dir() or file else name
    found = LoadedModel(loaded, tokenizer, called, revision, gguf=file.told() if file else None)
    _check_reading(found)
    return found


def load_tokenizer(model: str | Path | LoadedModel, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model alone, without its weights; ModelError as for `load_model`.

    A folder that holds no more than GPT-2's two files, vocabulary and merges, is such a tokenizer.
    """
    if isinstance(model, LoadedModel):
        return model.tokenizer
    _libraries()
    name = str(model)
    if not is_gpt2(place_of(name)):
        check_place(name)
    if is_gguf(place_of(name)):
        read_gguf(place_of(name))
    with _source(name, revision) as source:
        return _load_tokenizer(source, revision, name)


def parameters_of(model: str | Path | LoadedModel, revision: str | None = None) -> tuple[int, Any]:
    """How many numbers a model has, and its config, without its weights; ModelError as for `load_model`."""
    if isinstance(model, LoadedModel):
        return sum(weight.numel() for weight in model.model.parameters()), model.model.config
    torch, transformers = _libraries()
    name = str(model)
    check_place(name)
    with _source(name, revision) as source:
        config = _load_config(source, revision, name)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    return sum(weight.numel() for weight in empty.parameters()), config


@contextmanager
def _source(name: str, revision: str | None) -> Iterator[str]:
    """The folder to load from, or the name on the Hub; where the Hub cannot be asked, what was downloaded before."""
    folder = place_of(name)
    if is_gguf(folder):
        with alone(folder) as place:
            yield place
        return
    yield str(folder) if folder.is_dir() else _on_hub(name, revision)


def _gguf_file(name: str) -> dict[str, str]:
    """What transformers must be told besides the folder where the model is a GGUF file."""
    return {"gguf_file": ALONE} if is_gguf(place_of(name)) else {}


def _on_hub(name: str, revision: str | None) -> str:
    problem = hub_problem()
    if problem is None:
        return name
    copy = downloaded(name, revision=revision)
    if copy is None:
        raise no_model(name, f"it is not on this machine, and {problem}", "the folder of a model on this machine")
    return str(copy)


def _load_tokenizer(source: str, revision: str | None, name: str) -> PreTrainedTokenizerBase:
    _, transformers = _libraries()
    kind = transformers.GPT2Tokenizer if is_gpt2(Path(source)) else transformers.AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(source, revision=revision, trust_remote_code=False, **_gguf_file(name))
        _check_tokenizer(tokenizer, name)
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds; each of them is something the user can fix
        raise _refused(name, error) from error
    return tokenizer


def _load_config(source: str, revision: str | None, name: str) -> Any:
    """The config of a model that continues a text; ModelError for any other."""
    _, transformers = _libraries()
    try:
        config = transformers.AutoConfig.from_pretrained(
            source, revision=revision, trust_remote_code=False, **_gguf_file(name)
        )
    except Exception as error:
        raise _refused(name, error) from error
    if getattr(config, "is_encoder_decoder", False):
        raise _not_causal(name, f"is an encoder-decoder ({config.model_type})")
    if "ForMaskedLM" in str(config.architectures):
        raise _not_causal(name, f"is an encoder, a masked language model ({config.model_type})")
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and not hasattr(config, "auto_map"):
        raise _not_causal(name, f"is of the kind {config.model_type}, which does not continue a text")
    return config


def _libraries() -> tuple[Any, Any]:
    """PyTorch and transformers, which from here on say nothing of their own."""
    import huggingface_hub
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    huggingface_hub.utils.disable_progress_bars()
    return torch, transformers


def _quantization(torch: Any, transformers: Any, name: str, dtype: str, device: str, quantized: bool) -> dict[str, Any]:
    """How transformers is to keep the weights: as plain numbers, or `quantized` in 4 bits."""
    if not is_gguf(place_of(name)):
        return _four_bits(torch, dtype, device) if quantized else {}
    if quantized:
        raise ModelError(
            f"The GGUF file {name!r} cannot be kept in 4 bits (qlora): its weights are unpacked.",
            try_next=f"{setting('method', 'lora')}, or the Hugging Face folder of the model",
        )
    config = getattr(transformers, "GgufConfig", None)  # of newer versions, which may leave the weights packed
    return {"quantization_config": config(dequantize=True)} if config else {}


def _four_bits(torch: Any, dtype: str, device: str) -> dict[str, Any]:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ModelError(
            "Weights of 4 bits (qlora) need the package bitsandbytes, which is not installed.",
            try_next=f"pip install bitsandbytes, or {setting('method', 'lora')}",
        )
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise _no_place(device, "there is no CUDA GPU", "cpu")
    on_gpu = torch.cuda.is_available() and (device == "auto" or device.startswith("cuda"))
    place = torch.cuda.current_device() if on_gpu else device.replace("auto", "cpu")
    return {"quantization_config": config, "device_map": {"": place}}


def _with_gradients(model: Any) -> None:
    """On a CPU bitsandbytes answers in a faster way that has no gradients, and would go on with it in training."""
    for module in model.eval().modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


@contextmanager
def _no_larger_than(weights: int, name: str) -> Iterator[None]:
    """ModelError as soon as a model grows beyond what so many bytes can hold, before its parts fill time or memory."""
    from torch.nn.modules import module

    parts = numbers = 0

    def count(_: Any, key: str, tensor: Any) -> None:
        nonlocal parts, numbers
        # Twice each, when it is built and when it is loaded; half a byte a number at least; the head as embeddings.
        parts, numbers = parts + 1, numbers + (0 if tensor is None else tensor.numel())
        if parts > 4_000 + weights // 16 or numbers > 10_000_000 + 8 * weights:
            raise ModelError(
                f"The config.json of {name!r} describes a far larger model than its {weights:,} bytes of weights.",
                expected="a config.json and weights of the same model",
                try_next="download or save the model again, config.json and weights together",
            )

    hook = module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _check_weights(report: Mapping[str, Any], name: str) -> None:
    """ModelError unless the files hold exactly the model's tensors: transformers would make up what is missing.

    Tied weights are there if one of them is; `report` is transformers' loading info, which knows of them.
    """
    problems = {
        "missing": sorted(report["missing_keys"]),
        "unexpected": sorted(key for key in report["unexpected_keys"] if not OLD_BUFFER.search(key)),
        "of another shape": sorted(
            f"{key}: {list(found)} instead of {list(expected)}" for key, found, expected in report["mismatched_keys"]
        ),
    }
    told = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in problems.items() if keys]
    if told:
        config = "header" if is_gguf(place_of(name)) else "config.json"
        raise ModelError(
            f"The weights of {name!r} are not those that its {config} describes; tensors: {', '.join(told)}.",
            expected="every tensor of the model in its shape, and no other",
            try_next=f"download or save the model again, {config} and weights together",
        )


def _some(keys: list[str]) -> str:
    more = len(keys) - 3
    return ", ".join(keys[:3]) + (f" and {more} more" if more > 0 else "")


def _check_tokenizer(tokenizer: Any, name: str) -> None:
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer of {name} cannot tell which characters a token covers (it is a slow one).",
            expected="a fast tokenizer: a tokenizer.json in the model folder",
            try_next="AutoTokenizer.from_pretrained(MODEL, use_fast=True).save_pretrained(FOLDER)",
        )
    if len({*tokenizer(PROBE, add_special_tokens=False)["input_ids"]}) < 2:  # nothing, or the unknown token
        raise ModelError(
            f"The tokenizer of {name} knows no tokens of text.",
            expected="the tokenizer that the model was trained with",
            try_next="download or save the tokenizer again",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token


def _check_vocabulary(tokenizer: Any, model: Any, name: str) -> None:
    """ModelError if there are tokens that the model has no embedding of.

    Some models come with added tokens that only their larger siblings know (Gemma 3 with that of an image); these are
    an error when a text has one.
    """
    embeddings = model.get_input_embeddings()
    rows = len(embeddings.weight)
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return
    if tokenizer.pad_token_id in beyond:  # a token that is never looked at
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token

    def refuse(number: int) -> None:
        raise ModelError(
            f"The tokenizer of {name!r} has a token {beyond.get(number)!r} of number {number}, "
            f"the model knows {rows} tokens.",
            expected="the tokenizer that the model was trained with",
            try_next="model.resize_token_embeddings(len(tokenizer)) before finetuning, or the model's own tokenizer",
        )

    added = tokenizer.get_added_vocab()
    for number, token in beyond.items():
        if token not in added or token in (tokenizer.bos_token, tokenizer.eos_token):
            refuse(number)

    def check(_: Any, arguments: tuple[Any, ...]) -> None:
        if (largest := int(arguments[0].max())) >= rows:
            refuse(largest)

    embeddings.register_forward_pre_hook(check)


def _check_reading(loaded: LoadedModel) -> None:
    """ModelError unless the model reads from left to right: what comes later changes nothing that it said before.

    Of many kinds the config does not tell whether they do.
    """
    import torch

    tokens = loaded.tokenizer(PROBE)["input_ids"][: min(12, loaded.context)]
    other = [*tokens[:-1], next((token for token in tokens if token != tokens[-1]), tokens[-1])]
    try:
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([tokens, other], device=loaded.device)).logits.float()
    except Exception as error:
        raise _refused(loaded.name, error) from error
    one, two = logits[:, :-1]
    exact = 1e-4 if loaded.model.dtype == torch.float32 else 0.03
    if not torch.isfinite(logits).all():
        raise ModelError(
            f"The model {loaded.name!r} gives numbers that are not finite: its weights are damaged, or too large for "
            f"{str(loaded.model.dtype).removeprefix('torch.')}.",
            expected="finite logits",
            try_next=f"{setting('dtype', 'float32')}, or download the model again",
        )
    if (one - two).abs().max() > exact * logits.abs().max():
        raise _not_causal(loaded.name, "is an encoder: it looks at what comes later in a text")


def _not_causal(name: str, what: str) -> ModelError:
    return ModelError(
        f"The model {name!r} {what}.",
        expected="a causal language model, which continues a text from left to right (GPT-2, Llama, Mamba, …)",
        try_next="the name of such a model",
    )


def _move(model: Any, device: str, torch: Any) -> None:
    """Put the model on a device, in evaluation mode; `auto` is the first GPU if there is one."""
    best = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model.to(best if device == "auto" else device).eval()
    except (RuntimeError, AssertionError) as error:
        raise _no_place(device, str(error).strip().splitlines()[0], best) from error


def _no_place(device: str, why: str, best: str) -> ModelError:
    return ModelError(
        f"The model cannot be put on the device {device!r}: {why}",
        expected=f"a device of this machine with room for it; the best one here is {best}",
        try_next=setting("device", "auto"),
    )


def _refused(name: str, error: BaseException) -> ModelError:
    """What the user can do about an error of transformers, which wraps the one that tells."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, GatedRepoError):
        cause = cause.__cause__
    if cause is None and "trust_remote_code" in str(error):
        return ModelError(
            f"The model {name!r} needs code of its own, which curate never runs.",
            expected="an architecture and a tokenizer that are built into transformers",
            try_next="another model, or this one converted to an architecture of transformers",
        )
    if cause is None:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason is given"]
        why = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
        return no_model(name, why if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {why}")
    return ModelError(
        f"The model {name!r} is gated: its owners let in only accounts that they gave access.",
        expected="an account with access, logged in on this machine (or its token in HF_TOKEN)",
        try_next=f"ask for access at {constants.ENDPOINT}/{name}, then `hf auth login`",
    )
