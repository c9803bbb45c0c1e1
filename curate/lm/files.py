"""What a model's files hold, found out before anything in them is run: a Hugging Face folder, or a GGUF file."""

from __future__ import annotations

import functools
import io
import json
import mmap
import os
import re
import stat
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from curate.data.stores import file_fingerprint
from curate.errors import ModelError, setting

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
CHECK_NAME = "check the name; for a private model, `hf auth login` first"
SAYS_WHAT_IT_IS = ("config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of a folder by which transformers knows the kind of a tokenizer."""
OPENED = (".json", ".jinja", ".txt", ".model", ".safetensors", ".bin", ".pt", ".pth")
"""Endings of the files of a folder that are opened: by transformers, or to tell one model from another."""
MOST_LAYERS = 10_000
OLD_BUFFER = re.compile(r"(^|\.)((attn|attention)\.(masked_)?bias|inv_freq)$")
"""Causal masks and rotary frequencies, which older versions of transformers saved; today's compute them."""


def place_of(name: str) -> Path:
    """The folder of that name, if there is one; ModelError for a name that no folder can have."""
    try:
        folder = Path(name).expanduser()
        folder.exists()
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"The name of a model cannot be {name[:60]!r}: {getattr(error, 'strerror', None) or error}.",
            expected="the folder of a model on this machine, or the name of one on the Hub",
        ) from error
    return folder


def check_place(name: str) -> None:
    """ModelError for what is neither the name of a Hub model nor a folder with a tokenizer that says what it is."""
    folder = place_of(name)
    if is_gguf(folder) and folder.exists():
        _check_file(folder, folder.parent)
    elif folder.is_dir():
        _check_files(folder)
        if not any((folder / name).is_file() for name in SAYS_WHAT_IT_IS):
            raise no_model(name, "the folder has no config.json and no tokenizer.json")
    elif folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or is_gguf(folder):
        missing = "there is no such file" if is_gguf(folder) else "there is no such folder"
        why = "it is not a folder" if folder.exists() else missing
        raise no_model(name, why, "the folder of a model on this machine, or the name of one on the Hub")


def _check_files(folder: Path) -> None:
    """ModelError for a file that cannot be read: a link to nothing, a device, a pipe at which one would wait for ever.

    None of them is opened to find that out.
    """
    for path in sorted([*folder.iterdir(), *folder.glob("additional_chat_templates/*")]):
        if path.suffix in OPENED and not path.name.startswith("."):
            _check_file(path, folder)


def _check_file(path: Path, folder: Path) -> None:
    try:
        odd = "" if stat.S_ISREG(path.stat().st_mode) else "it is no ordinary file"
    except OSError as error:
        odd = "it is a link to nothing" if path.is_symlink() else str(error.strerror)
    if odd or not os.access(path, os.R_OK):
        raise ModelError(
            f"The file {path.name} of the model {str(folder)!r} cannot be read: {odd or 'permission denied'}.",
            expected="ordinary files, or links to such",
            try_next="download or copy the model again, whole",
        )


def check_folder(folder: Path, allow_pickle: bool) -> int:
    """The bytes of the weights in a folder that holds all that a model needs; ModelError for any other."""
    if not (folder / "config.json").is_file():
        raise no_model(str(folder), "the folder has no config.json")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise no_model(str(folder), f"the folder has no tokenizer ({' or '.join(TOKENIZER_FILES)})")
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"The folder {str(folder)!r} holds an adapter beside a model, or instead of one (adapter_config.json).",
            expected="the weights of one whole model",
            try_next="PeftModel.from_pretrained(MODEL, ADAPTER).merge_and_unload().save_pretrained(FOLDER)",
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        weights = sorted(path for kind in ("*.bin", "*.pt", "*.pth") for path in folder.glob(kind))
        if not weights:
            raise no_model(str(folder), "the folder has no weights")
        if not allow_pickle:
            raise ModelError(
                f"The model {str(folder)!r} has only pickle weights ({weights[0].name}), which can carry code.",
                expected="*.safetensors",
                try_next=f"{setting('allow_pickle')}, if you trust where the file comes from",
            )
    config = _check_config(folder)
    if weights[0].suffix == ".safetensors" and "quantization_config" not in config:
        _check_numbers(weights)
    _check_parts(folder, config)
    return sum(path.stat().st_size for path in weights)


def _check_config(folder: Path) -> dict[str, Any]:
    """The content of config.json; ModelError where it says nothing that a model could be built by."""
    config = _json(folder / "config.json")
    odd = [] if isinstance(config.get("model_type"), str) else ["no model_type"]
    for key, value in sorted((key, value) for key, value in config.items() if isinstance(value, (int, float))):
        if re.search(r"(^|_)n?_?layers?$", key) and not 0 <= value <= MOST_LAYERS:
            odd.append(f"{key} is {value}")
        if key in ("vocab_size", "max_position_embeddings", "n_positions") and not value >= 1:
            odd.append(f"{key} is {value}")
        if key.endswith(("dropout", "pdrop", "dropout_prob")) and not 0 <= value <= 1:
            odd.append(f"{key} is {value}")
    if odd:
        raise ModelError(
            f"The config.json of {str(folder)!r} describes no model: {', '.join(odd)}.",
            expected="config.json as save_pretrained wrote it, with the kind and the sizes of the model",
            try_next="download or save the model again",
        )
    return config


def _json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON; ModelError for anything else."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it is not an object of JSON")
    return content


def _check_numbers(files: list[Path]) -> None:
    """ModelError for safetensors files that are cut off, or whose header tells something else than what is in them."""
    from safetensors import SafetensorError, safe_open

    for path in files:
        try:
            with safe_open(path, "pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 it is no mapping
                    kind = tensors.get_slice(key).get_dtype()
                    weights = key.endswith((".weight", ".bias")) and not OLD_BUFFER.search(key)
                    if weights and not re.match("B?F", kind):
                        raise _damaged(path, f"the weights {key} are of the type {kind}")
        except SafetensorError as error:
            raise _damaged(path, str(error)) from error


def _check_parts(folder: Path, config: Mapping[str, Any]) -> None:
    """ModelError unless the files in which weights are said to be lie in the folder itself."""
    named = [config["transformers_weights"]] if config.get("transformers_weights") else []
    for index in folder.glob("*.index.json"):
        weight_map = _json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise _damaged(index, "it has no weight_map")
        named += weight_map.values()
    for file in dict.fromkeys(map(str, named)):
        if Path(file).name != file or Path(file).suffix not in OPENED or not (folder / file).is_file():
            raise no_model(str(folder), f"there are to be weights in {file!r}, and the folder has no such file")


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(
        f"The file {path.name} of the model {str(path.parent)!r} is damaged: {(why.splitlines() or ['?'])[0]}.",
        expected="the file as save_pretrained wrote it, whole",
        try_next="download or copy the model again",
    )


def is_gpt2(folder: Path) -> bool:
    """Whether a folder has the vocabulary and merges of byte-level BPE and nothing that says whose they are."""
    said = any((folder / name).is_file() for name in SAYS_WHAT_IT_IS)
    return not said and all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))


def version_of(name: str, revision: str | None) -> tuple[str, str | None]:
    """A model without loading it: the name and hash of a folder; of one on the Hub the name and what was asked for."""
    folder = Path(name).expanduser()
    here = folder.is_dir() or (is_gguf(folder) and folder.is_file())
    return (folder.name, revision_of(name, name, None)) if here else (name, revision)


def revision_of(name: str, source: str, model: Any) -> str:
    """The commit of a Hub model; for a local folder, a hash of its weights and tokenizer, or of the GGUF file."""
    folder = place_of(name)
    if is_gguf(folder):
        return f"sha256:{file_fingerprint([folder])[:16]}"
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None)) if source == name else Path(source).name
    kinds = (".safetensors", ".bin", ".json", ".model", ".txt")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in kinds and path.name[0] != "."]
    named = [part for path in files for part in (f"{path.name}\0".encode(), path)]
    return f"sha256:{file_fingerprint(named)[:16]}"


def no_model(name: str, why: str, otherwise: str = CHECK_NAME) -> ModelError:
    """No such model; what to try is seen in the folder if the name is one or nearly one, `otherwise` if not."""
    folder = place_of(name)
    beside = [str(found.parent) for found in folder.parent.glob("*/config.json")]
    beside += map(str, folder.parent.glob(f"*{SUFFIX}"))
    meant = get_close_matches(str(folder), beside, n=1)
    if folder.is_dir() and (files := sorted(folder.glob(f"*{SUFFIX}"))):
        advice = setting("model", files[0])
    elif folder.exists():
        advice = "model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER)"
    else:
        advice = f"{setting('model', meant[0])}, if that was meant" if meant else otherwise
    if is_gguf(folder) and folder.exists():
        advice = "another file, or the Hugging Face folder of the model"
    return ModelError(
        f"The model {name!r} cannot be loaded: {why.rstrip('.')}.",
        expected="a GGUF file of an architecture that transformers reads (llama, qwen2, gemma3, …)"
        if is_gguf(folder)
        else "a Hugging Face folder with config.json, tokenizer.json and *.safetensors, or a Hub id",
        try_next=advice,
    )


# A GGUF file, as llama.cpp reads it, and the plain model that transformers makes of one.

SUFFIX = ".gguf"
ALONE = f"model{SUFFIX}"
"""What a file is called in the folder that it is read from."""

NUMBER_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
"""Kinds of values in the metadata (the GGUF specification, version 3)."""

TURNS = "rope_freqs.weight"
"""What the frequencies of rotary positions are divided by, as in Llama 3.1; transformers does not read it."""


def is_gguf(place: Path) -> bool:
    """Whether a model is one file of this kind, by its name, there or not."""
    return place.suffix.lower() == SUFFIX and not place.is_dir()


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: how many numbers it has, of which type, and where its bytes lie."""

    numbers: int
    kind: str
    start: int
    stop: int


@dataclass(frozen=True)
class GgufFile:
    """A file's metadata, of lists their length, and its tensors."""

    path: Path
    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def numbers(self) -> int:
        """How many numbers all tensors have."""
        return sum(tensor.numbers for tensor in self.tensors.values())

    def told(self) -> dict[str, Any]:
        """For manifests: the architecture, and how many tensors are of which type."""
        kinds = Counter(tensor.kind for tensor in self.tensors.values())
        return {"architecture": self.values["general.architecture"], "tensors": dict(sorted(kinds.items()))}


def read_gguf(path: Path) -> GgufFile:
    """What a file holds, its weights unread; ModelError for one that is cut off, or that cannot become a model."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise _refused(path, "it does not begin with GGUF")
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found = _Header(content).read(path)
        except (struct.error, UnicodeDecodeError, OverflowError, RecursionError) as error:
            raise _refused(path, "its header is cut off or damaged") from error
    _check(found, path.stat().st_size)
    return found


class _Header:
    """A position in a file, from which the next value is read; struct.error beyond the end."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._place = content, 4

    def read(self, path: Path) -> GgufFile:
        import gguf

        version = self._number("I")
        if version not in (2, 3):
            raise _refused(path, f"it is of version {version}, and versions 2 and 3 can be read")
        tensors, count = self._number("Q"), self._number("Q")
        values = {self._string(): self._value(self._number("I")) for _ in range(count)}
        listed = [self._tensor() for _ in range(tensors)]
        alignment = int(values.get("general.alignment", 32))
        start = -(-self._place // alignment) * alignment
        found = {}
        for name, numbers, kind, offset in listed:
            try:
                known = gguf.GGMLQuantizationType(kind)
            except ValueError as error:
                raise _unread(path, f"of number {kind}") from error
            block, size = gguf.GGML_QUANT_SIZES[known]
            stop = start + offset + numbers // block * size
            found[name] = Tensor(numbers, known.name, start + offset, stop)
        return GgufFile(path, values, found)

    def _number(self, kind: str) -> Any:
        (value,) = struct.unpack_from(f"<{kind}", self._content, self._place)
        self._place += struct.calcsize(kind)
        return value

    def _string(self) -> str:
        return bytes(self._skip(self._number("Q"))).decode("utf-8")

    def _skip(self, size: int) -> bytes:
        if self._place + size > len(self._content):
            raise struct.error("beyond the end")
        self._place += size
        return self._content[self._place - size : self._place]

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind in NUMBER_FORMATS:
            return self._number(NUMBER_FORMATS[kind])
        if kind != ARRAY:
            raise struct.error("no kind of value")
        inner, length = self._number("I"), self._number("Q")
        if inner in NUMBER_FORMATS:
            self._skip(length * struct.calcsize(NUMBER_FORMATS[inner]))
        else:
            for _ in range(length):
                self._value(inner)
        return length

    def _tensor(self) -> tuple[str, int, int, int]:
        name, dimensions = self._string(), self._number("I")
        return name, prod(self._number("Q") for _ in range(dimensions)), self._number("I"), self._number("Q")


def _check(found: GgufFile, size: int) -> None:
    """ModelError for a file whose tensors do not end in it or cannot be unpacked, or that lacks what a model needs."""
    if "general.architecture" not in found.values or not found.tensors:
        raise _refused(found.path, "it holds no model")
    ends = max(tensor.stop for tensor in found.tensors.values())
    if ends > size:
        raise _refused(found.path, f"it ends after {size:,} bytes, and its tensors after {ends:,}")
    unread = sorted({tensor.kind for tensor in found.tensors.values() if not _can_unpack(tensor.kind)})
    if unread:
        raise _unread(found.path, ", ".join(unread))
    if not found.values.get("tokenizer.ggml.tokens") or "tokenizer.ggml.model" not in found.values:
        raise ModelError(
            f"The GGUF file {str(found.path)!r} holds no tokenizer.",
            expected="a file with the tokenizer that the model was trained with, as llama.cpp converts models",
            try_next="another file of the model, or its Hugging Face folder",
        )


def _can_unpack(kind: str) -> bool:
    import gguf

    known = gguf.GGMLQuantizationType[kind]
    try:
        gguf.dequantize(np.zeros(gguf.GGML_QUANT_SIZES[known][1], dtype=np.uint8), known)
    except NotImplementedError:
        return False
    return True


@contextmanager
def alone(path: Path) -> Iterator[str]:
    """A folder with nothing but the file: what else lies beside it is not looked at.

    Meanwhile its header is read once, and the names of an architecture's tensors are made once: transformers does the
    first for tokenizer, config and weights, the second for every module, which is most of the time.
    """
    import gguf

    slow = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    with tempfile.TemporaryDirectory(prefix="curate-") as folder, redirect_stderr(io.StringIO()):  # a progress bar
        (Path(folder) / ALONE).symlink_to(path.resolve())
        vars(gguf).update({name: functools.cache(function) for name, function in slow.items()})
        try:
            yield folder
        finally:
            vars(gguf).update(slow)


def plain_model(read: Any, found: GgufFile, transformers: Any) -> Any:
    """The same model, its weights plain numbers: one that was read from GGUF cannot be trained or saved.

    ModelError where the file holds numbers that are not in it: they would be left out without a word.
    """
    config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    model = transformers.AutoModelForCausalLM.from_config(type(read.config)(**config), dtype=read.dtype)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.name_or_path = model.config._name_or_path = ""  # not the folder it was read from, which peft would look into
    left = {name: tensor.numbers for name, tensor in found.tensors.items()}
    if TURNS in left and _turned(model, found):
        del left[TURNS]
    if model.config.tie_word_embeddings:
        left.pop("output.weight", None)
    architecture = found.values["general.architecture"]
    scaling = found.values.get(f"{architecture}.rope.scaling.type", "none")
    rope = getattr(model.config, "rope_parameters", None) or {}
    if scaling != "none" and rope.get("rope_type", "default") == "default":
        raise _left_out(found.path, f"that its positions are scaled ({scaling})")
    more = sum(left.values()) - sum(weight.numel() for weight in model.parameters())
    if more:
        unknown = ", ".join(_unknown(found, architecture, model.config.num_hidden_layers)[:3])
        raise _left_out(found.path, f"{more:,} numbers{f' ({unknown})' if unknown else ''}")
    return model


def _turned(model: Any, found: GgufFile) -> bool:
    """Divide the frequencies of rotary positions as the file says; False where the model has none such."""
    tensor = found.tensors[TURNS]
    factors = np.fromfile(found.path, "<f4", tensor.numbers, offset=tensor.start) if tensor.kind == "F32" else ()
    frequencies = [buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq")]
    if not frequencies or any(len(buffer) != len(factors) for buffer in frequencies):
        return False
    for buffer in frequencies:
        buffer /= buffer.new_tensor(factors)
    return True


def _unknown(found: GgufFile, architecture: str, layers: int) -> list[str]:
    """Tensors that no model of the architecture has."""
    import gguf

    kinds = [kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture]
    known = {name for kind in kinds for _, name in gguf.get_tensor_name_map(kind, layers).mapping.values()}
    return [name for name in found.tensors if name.rpartition(".")[0] not in known and name != TURNS]


def _refused(path: Path, why: str) -> ModelError:
    return ModelError(
        f"The GGUF file {str(path)!r} cannot be read: {why}.",
        expected="a whole file, as llama.cpp writes it",
        try_next="download or convert the model again",
    )


def _unread(path: Path, kinds: str) -> ModelError:
    return ModelError(
        f"The GGUF file {str(path)!r} holds tensors of a type that cannot be unpacked: {kinds}.",
        expected="types such as F32, F16, BF16, Q4_0, Q4_K, Q5_K, Q6_K, Q8_0",
        try_next="a file of the same model in another quantisation",
    )


def _left_out(path: Path, what: str) -> ModelError:
    return ModelError(
        f"The GGUF file {str(path)!r} says more than transformers reads from it: {what}.",
        expected="a file whose every tensor is in the model that is made of it",
        try_next=f"{setting('model')} with the Hugging Face folder of the model",
    )
