"""Load exactly the model that was named, or say why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.data.files import versions
from curate.data.hub import downloaded, hub_problem
from curate.data.stores import file_fingerprint
from curate.errors import ModelError, setting

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
DTYPES = ("float32", "bfloat16", "float16")

CHECK_NAME = "check the name; for a private model, `hf auth login` first"

SAYS_WHAT_IT_IS = ("config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of a folder by which transformers knows the kind of a tokenizer."""

OLD_BUFFER = re.compile(r"(^|\.)((attn|attention)\.(masked_)?bias|inv_freq)$")
"""Causal masks and rotary frequencies, which older versions of transformers saved; today's compute them."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer, and what it was loaded from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.device

    @property
    def context(self) -> int:
        """The longest sequence the model takes, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 2**31)

    def fingerprint(self) -> Mapping[str, Any]:
        """What could change its numbers: name, revision and dtype."""
        return {
            "name": self.name,
            "revision": self.revision,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "versions": versions("torch", "transformers", "tokenizers"),
        }


def load_model(
    model: str | Path,
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    allow_pickle: bool = False,
    quantized: bool = False,
) -> LoadedModel:
    """Load a causal LM and its tokenizer from a local folder or the Hub.

    Raises ModelError when there is no such model, it has no safetensors weights, they do not fit its config.json,
    or its tokenizer cannot tell character offsets. Code from the model's repository is never executed; pickle weights,
    which could carry some, are read only with `allow_pickle` (and then by torch's loader of plain tensors). `quantized`
    keeps the weights in 4 bits (NF4, as in QLoRA), which needs bitsandbytes.
    """
    name = str(model)
    if dtype not in DTYPES:
        raise ModelError(f"There is no dtype {dtype!r}.", expected=f"one of {', '.join(DTYPES)}")
    torch, transformers = _libraries()
    folder = Path(name).expanduser()
    _check_place(name)
    if folder.is_dir():
        _check_folder(folder, allow_pickle)
    quantization = _four_bits(torch, dtype, device) if quantized else {}
    source = _source(name, revision)
    tokenizer = _load_tokenizer(source, revision, name)
    try:
        loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            trust_remote_code=False,  # left out, transformers asks on stdin, which may hold anything
            dtype=getattr(torch, dtype),
            use_safetensors=None if allow_pickle else True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below with their names
            **quantization,
        )
    except Exception as error:  # transformers raises many kinds; each of them is something the user can fix
        raise _refused(name, error) from error
    _check_weights(report, name)
    _with_gradients(loaded) if quantized else _move(loaded, device, torch)
    return LoadedModel(loaded, tokenizer, folder.name if folder.is_dir() else name, _revision(name, source, loaded))


def load_tokenizer(model: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model alone, without its weights; ModelError as for `load_model`.

    A folder that holds no more than GPT-2's two files, vocabulary and merges, is such a tokenizer.
    """
    _libraries()
    name = str(model)
    if not _is_gpt2(Path(name).expanduser()):
        _check_place(name)
    return _load_tokenizer(_source(name, revision), revision, name)


def _source(name: str, revision: str | None) -> str:
    """The folder to load from, or the name on the Hub; where the Hub cannot be asked, what was downloaded before."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    problem = hub_problem()
    if problem is None:
        return name
    copy = downloaded(name, revision=revision)
    if copy is None:
        raise _no_model(name, f"it is not on this machine, and {problem}", "the folder of a model on this machine")
    return str(copy)


def _load_tokenizer(source: str, revision: str | None, name: str) -> PreTrainedTokenizerBase:
    _, transformers = _libraries()
    kind = transformers.GPT2Tokenizer if _is_gpt2(Path(source).expanduser()) else transformers.AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds; each of them is something the user can fix
        raise _refused(name, error) from error
    _check_tokenizer(tokenizer, name)
    return tokenizer


def _is_gpt2(folder: Path) -> bool:
    """Whether a folder has the vocabulary and merges of byte-level BPE and nothing that says whose they are."""
    said = any((folder / name).is_file() for name in SAYS_WHAT_IT_IS)
    return not said and all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))


def _libraries() -> tuple[Any, Any]:
    """PyTorch and transformers, which from here on say nothing of their own."""
    import huggingface_hub
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    huggingface_hub.utils.disable_progress_bars()
    return torch, transformers


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


def _check_place(name: str) -> None:
    """ModelError for what is neither the name of a Hub model nor a folder with a tokenizer that says what it is."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in SAYS_WHAT_IT_IS):
            raise _no_model(name, "the folder has no config.json and no tokenizer.json")
    elif folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        why = "it is not a folder" if folder.exists() else "there is no such folder"
        raise _no_model(name, why, "the folder of a model on this machine, or the name of one on the Hub")


def _check_folder(folder: Path, allow_pickle: bool) -> None:
    if not (folder / "config.json").is_file():
        raise _no_model(str(folder), "the folder has no config.json")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise _no_model(str(folder), f"the folder has no tokenizer ({' or '.join(TOKENIZER_FILES)})")
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern))
    if not pickles:
        raise _no_model(str(folder), "the folder has no weights")
    if not allow_pickle:
        raise ModelError(
            f"The model {str(folder)!r} has only pickle weights ({pickles[0]}), which can carry code.",
            expected="*.safetensors",
            try_next=f"{setting('allow_pickle')}, if you trust where the file comes from",
        )


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
        raise ModelError(
            f"The weights of {name!r} are not those that its config.json describes; tensors: {', '.join(told)}.",
            expected="every tensor of the model in its shape, and no other",
            try_next="download or save the model again, config.json and weights together",
        )


def _some(keys: list[str], most: int = 3) -> str:
    more = len(keys) - most
    return ", ".join(keys[:most]) + (f" and {more} more" if more > 0 else "")


def _check_tokenizer(tokenizer: Any, name: str) -> None:
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer of {name} cannot tell which characters a token covers (it is a slow one).",
            expected="a fast tokenizer: a tokenizer.json in the model folder",
            try_next="AutoTokenizer.from_pretrained(MODEL, use_fast=True).save_pretrained(FOLDER)",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token


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


def _revision(name: str, source: str, model: Any) -> str:
    """The commit of a Hub model; for a local folder, a hash of its weights and tokenizer."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None)) if source == name else Path(source).name
    kinds = (".safetensors", ".bin", ".json", ".model", ".txt")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in kinds]
    named = [part for path in files for part in (f"{path.name}\0".encode(), path)]
    return f"sha256:{file_fingerprint(named)[:16]}"


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
        return _no_model(name, str(error).strip().splitlines()[0])
    return ModelError(
        f"The model {name!r} is gated: its owners let in only accounts that they gave access.",
        expected="an account with access, logged in on this machine (or its token in HF_TOKEN)",
        try_next=f"ask for access at {constants.ENDPOINT}/{name}, then `hf auth login`",
    )


def _no_model(name: str, why: str, otherwise: str = CHECK_NAME) -> ModelError:
    """No such model; what to try is seen in the folder if the name is one or nearly one, `otherwise` if not."""
    folder = Path(name).expanduser()
    beside = [str(found.parent) for found in folder.parent.glob("*/config.json")]
    meant = get_close_matches(str(folder), beside, n=1)
    if folder.exists():
        advice = "model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER)"
    else:
        advice = f"{setting('model', meant[0])}, if that was meant" if meant else otherwise
    return ModelError(
        f"The model {name!r} cannot be loaded: {why.rstrip('.')}.",
        expected="a Hugging Face folder with config.json, tokenizer.json and *.safetensors, or a Hub id",
        try_next=advice,
    )
