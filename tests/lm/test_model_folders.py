"""A model's folder that is none, lies about what is in it, or holds another kind of model: one message, and no wait."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.errors import ModelError
from curate.lm.model import load_model, load_tokenizer
from tests.models import save_tiny_model

Edit = Callable[[Path], object]
NORM = "model.layers.0.input_layernorm.weight"


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Path:
    """A model that is as it should be, to be damaged."""
    return shutil.copytree(tiny_model("llama"), tmp_path / "model")


@pytest.fixture(autouse=True)
def no_wait() -> Iterator[None]:
    """Whoever opens a pipe that nobody writes to waits for ever: here for a minute, and then it is an error."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def written(name: str, content: bytes) -> Edit:
    return lambda folder: (folder / name).write_bytes(content)


def values(name: str, **changed: Any) -> Edit:
    """Some values of a JSON file are others; a field that is to be `...` is missing."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | changed
        kept = {key: value for key, value in content.items() if value is not ...}
        (folder / name).write_text(json.dumps(kept))

    return edit


def config(**changed: Any) -> Edit:
    return values("config.json", **changed)


def tokenizer(**changed: Any) -> Edit:
    return values("tokenizer.json", **changed)


def link(name: str, to: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return edit


def pipe(name: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return edit


def header(**changed: Any) -> Edit:
    """The header of the weights tells something else of one tensor."""

    def edit(folder: Path) -> None:
        content = (folder / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        told = json.loads(content[8 : 8 + length])
        told[NORM] |= changed
        lying = json.dumps(told).encode()
        rest = content[8 + length :]
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(lying)) + lying + rest)

    return edit


def cut_to(size: int) -> Edit:
    def edit(folder: Path) -> None:
        os.truncate(folder / "model.safetensors", size)

    return edit


def not_a_number(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors[NORM][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def in_parts(*, of: Any) -> Edit:
    """Weights of which an index says where they lie."""

    def edit(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(of))
        os.mkfifo(folder / "pipe")

    return edit


WORDS_UNKNOWN = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
FAULTS: dict[str, tuple[Edit, str]] = {
    "a list as config": (written("config.json", b"[]"), "config.json .* not an object of JSON"),
    "no JSON as config": (written("config.json", b"model_type: llama"), "config.json .* is damaged: Expecting value"),
    "a bottomless config": (written("config.json", b"[" * 100_000), "config.json .* is damaged"),
    "nothing in the config": (written("config.json", b"{}"), "describes no model: no model_type"),
    "a kind that nobody knows": (config(model_type="nothing"), "cannot be loaded"),
    "no size": (config(hidden_size=...), "describes a far larger model|are not those that its config.json describes"),
    "no vocabulary": (config(vocab_size=0), "describes no model: vocab_size is 0"),
    "fewer layers than none": (config(num_hidden_layers=-2), "describes no model: num_hidden_layers is -2"),
    "a billion layers": (config(num_hidden_layers=10**9), "describes no model: num_hidden_layers is 1000000000"),
    "thousands of layers": (config(num_hidden_layers=9999), "describes a far larger model than its [0-9,]+ bytes"),
    "a billion words": (config(vocab_size=10**9), "describes a far larger model"),
    "a billion wide": (config(intermediate_size=10**9), "describes a far larger model"),
    "no heads": (config(num_attention_heads=0), "cannot be loaded: ZeroDivisionError"),
    "a size in words": (config(hidden_size="many"), "cannot be loaded: .*'hidden_size'"),
    "a share above one": (config(attention_dropout=7), "describes no model: attention_dropout is 7"),
    "weights of nothing": (cut_to(0), "model.safetensors .* is damaged: .*header too small"),
    "weights without their end": (cut_to(9000), "model.safetensors .* is damaged: .*not fully covered"),
    "a header larger than the file": (written("model.safetensors", b"\xff" * 64), "is damaged: .*header"),
    "a tensor that is larger": (header(shape=[10**12]), "is damaged: .*shape"),
    "a tensor in another's place": (header(data_offsets=[0, 128]), "is damaged: .*offset"),
    "whole numbers as weights": (header(dtype="I32"), f"the weights {NORM} are of the type I32"),
    "weights that are no numbers": (not_a_number, "numbers that are not finite"),
    "an index to a pipe": (in_parts(of={"metadata": {}, "weight_map": {NORM: "pipe"}}), "weights in 'pipe'"),
    "an index to a device": (in_parts(of={"metadata": {}, "weight_map": {NORM: "/dev/zero"}}), "in '/dev/zero'"),
    "an index to elsewhere": (in_parts(of={"metadata": {}, "weight_map": {NORM: "../x.bin"}}), "no such file"),
    "an index of nothing": (in_parts(of={"weight_map": []}), "index.json .* has no weight_map"),
    "weights told to be elsewhere": (
        config(transformers_weights="sub/x.safetensors"),
        "weights in 'sub/x.safetensors'",
    ),
    "an adapter beside the model": (written("adapter_config.json", b"{}"), "holds an adapter beside a model"),
    "a tokenizer that is no JSON": (written("tokenizer.json", b"{"), "cannot be loaded"),
    "a tokenizer without model": (tokenizer(model=None), "cannot be loaded"),
    "a tokenizer without words": (tokenizer(model={"type": "BPE", "vocab": {}, "merges": []}), "no tokens of text"),
    "a tokenizer that knows no word": (tokenizer(model=WORDS_UNKNOWN), "no tokens of text"),
    "a text as special token": (values("tokenizer_config.json", bos_token=5), "cannot be loaded"),
}
for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"):
    FAULTS |= {
        f"{name} a link to nothing": (link(name, "nowhere"), f"{name} .* is a link to nothing"),
        f"{name} a link to itself": (link(name, name), f"{name} .* cannot be read"),
        f"{name} a device": (link(name, "/dev/zero"), f"{name} .* is no ordinary file"),
        f"{name} a pipe": (pipe(name), f"{name} .* is no ordinary file"),
    }


@pytest.mark.parametrize(("fault", "told"), FAULTS.values(), ids=FAULTS)
def test_a_folder_with_a_fault_is_one_message(folder: Path, fault: Edit, told: str) -> None:
    fault(folder)
    with pytest.raises(ModelError) as error:
        load_model(folder, device="cpu")
    assert re.search(told, error.value.found), error.value.found
    assert error.value.expected
    assert error.value.try_next


def test_files_that_nothing_is_read_from_may_be_anything(folder: Path) -> None:
    pipe("notes")(folder)
    link(".lock.json", "nowhere")(folder)
    load_model(folder, device="cpu")


@pytest.mark.parametrize("name", ["m" * 5000, "~nobody-of-that-name/model", "a\0b"])
def test_a_name_that_no_model_can_have_is_a_message(name: str) -> None:
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError):
            load(name)


def test_the_command_says_it_without_a_traceback(
    curate: Callable[..., Any], folder: Path, films: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    pipe("tokenizer.json")(folder)
    for command in (
        "score films.jsonl --by loss --model model -o scored.parquet",
        "score films.jsonl --by loss --model model -o scored.parquet --dry-run",
        "select films.jsonl --by column:views --budget-tokens 60 --tokenizer model -o split.parquet",
        "validate films.jsonl --eval films.jsonl --model model -o run",
    ):
        result = curate(*command.split())
        assert (result.exit_code, result.stderr.count("tokenizer.json of the model 'model'")) == (1, 1), command


# what the tokenizer knows and the model does not


def beyond(token: str, number: int, folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"].append(content["added_tokens"][-1] | {"id": number, "content": token})
    (folder / "tokenizer.json").write_text(json.dumps(content))


def test_a_tokenizer_of_more_words_than_the_model_has_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"] = {
        word: number if number < 350 else number + 99 for word, number in content["model"]["vocab"].items()
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"has a token '.*' of number 4\d\d, the model knows 375 tokens"):
        load_model(folder, device="cpu")


def test_an_added_token_that_the_model_lacks_counts_only_where_a_text_has_it(folder: Path) -> None:
    from curate.lm.loss import answer_losses

    pairs = [("Question: Who?\nAnswer:", " Paris")]
    expected = answer_losses(load_model(folder, device="cpu"), pairs)
    beyond("<image>", 5000, folder)
    loaded = load_model(folder, device="cpu")
    assert answer_losses(loaded, pairs) == expected
    with pytest.raises(ModelError, match="a token '<image>' of number 375"):
        answer_losses(loaded, [("Question: Who is <image>?\nAnswer:", " Paris")])


# models of another kind


def encoder(kind: str, folder: Path) -> Path:
    """A model of random weights that looks both ways, or an encoder with a decoder, with the tokenizer of a Llama."""
    import torch
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    wide = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 8}
    long = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}
    made: dict[str, Callable[[], Any]] = {
        "BERT": lambda: transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=375, **sizes)),
        "BERT as if causal": lambda: transformers.BertLMHeadModel(transformers.BertConfig(vocab_size=375, **sizes)),
        "RoBERTa": lambda: transformers.RobertaForMaskedLM(transformers.RobertaConfig(vocab_size=375, **sizes)),
        "XLNet": lambda: transformers.XLNetLMHeadModel(transformers.XLNetConfig(vocab_size=375, **long)),
        "T5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=375, **wide)),
        "ModernBERT": lambda: transformers.ModernBertForMaskedLM(
            transformers.ModernBertConfig(vocab_size=375, pad_token_id=0, **sizes)
        ),
    }
    torch.manual_seed(0)
    save_tiny_model("llama", folder)
    for left in ("config.json", "model.safetensors", "generation_config.json"):
        (folder / left).unlink()
    made[kind]().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("BERT", "is an encoder, a masked language model"),
        ("BERT as if causal", "is an encoder: it looks at what comes later"),
        ("RoBERTa", "is an encoder, a masked language model"),
        ("XLNet", "is an encoder: it looks at what comes later"),
        ("T5", "is an encoder-decoder"),
        ("ModernBERT", "is an encoder, a masked language model"),
    ],
)
def test_a_model_that_does_not_read_from_left_to_right_is_refused(tmp_path: Path, kind: str, told: str) -> None:
    folder = encoder(kind, tmp_path / "model")
    with pytest.raises(ModelError, match=told) as error:
        load_model(folder, device="cpu")
    assert "causal language model" in str(error.value.expected)


def test_a_bert_that_was_made_a_decoder_is_read(tmp_path: Path) -> None:
    folder = encoder("BERT as if causal", tmp_path / "model")
    config(is_decoder=True)(folder)
    assert load_model(folder, device="cpu").name == "model"


def test_layers_that_take_no_adapters_are_told_before_the_model_answers(
    curate: Callable[..., Any], films: list[dict[str, Any]], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    command = f"validate films.jsonl --eval films.jsonl --model {tiny_model('mamba')} --seeds 1 --epochs 1 -o run"
    result = curate(*command.split())
    assert result.exit_code == 1
    assert "cannot be finetuned with adapters" in result.stderr
    assert "Try: --method full" in result.stderr
    assert "6 questions" not in result.stderr
    assert curate(*command.split(), "--method", "full", "--held-out", "0").exit_code == 0
