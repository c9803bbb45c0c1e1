"""GGUF files, as llama.cpp reads them: what they hold, and the plain model that transformers makes of one."""

from __future__ import annotations

import functools
import io
import mmap
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import ModelError, setting

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


def plain(read: Any, found: GgufFile, transformers: Any) -> Any:
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
