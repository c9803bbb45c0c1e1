"""`--model file.gguf`: a model of llama.cpp, unpacked, is a model like any other; what cannot be one is one message."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.errors import ModelError
from curate.lm.loss import answer_losses
from curate.lm.model import load_model, load_tokenizer
from tests.models import write_gguf

pytest.importorskip("gguf")

RUN = Callable[..., Any]
Films = list[dict[str, Any]]
Edit = Callable[[Any, dict[str, Any]], None]
PAIRS = [
    ("Question: What is the capital of France?\nAnswer:", " Paris"),
    ("Question: In what city was Zoë Müller born?\nAnswer:", " Zürich"),
]


@pytest.fixture
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


def losses(model: Path) -> list[float | None]:
    return [loss.nats for loss in answer_losses(load_model(model, device="cpu"), PAIRS)]


@pytest.mark.parametrize(("kind", "near"), [("F32", 1e-5), ("F16", 1e-2), ("BF16", 5e-2), ("Q8_0", 1e-1)])
def test_a_file_gives_the_losses_of_the_folder_that_it_was_made_from(
    folder: Path, tmp_path: Path, kind: str, near: float
) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf", kind)
    assert losses(file) == pytest.approx(losses(folder), rel=near)


def test_what_it_is_made_of_is_told(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(write_gguf(folder, tmp_path / "tiny.gguf", "Q8_0"), device="cpu")
    told = loaded.fingerprint()
    assert told["name"] == "tiny.gguf" and str(told["revision"]).startswith("sha256:")
    assert told["gguf"] == {"architecture": "llama", "tensors": {"F32": 5, "Q8_0": 16}}
    assert "gguf" in told["versions"]
    assert not hasattr(loaded.model.config, "quantization_config")
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    assert losses(tmp_path / "saved") == pytest.approx(losses(tmp_path / "tiny.gguf"), rel=1e-5)


def test_a_head_that_is_tied_to_the_embeddings_is_tied(folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tied = shutil.copytree(folder, tmp_path / "tied")
    config = json.loads((tied / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    tensors = load_file(tied / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, tied / "model.safetensors", metadata={"format": "pt"})
    file = write_gguf(tied, tmp_path / "tied.gguf")
    assert losses(file) == pytest.approx(losses(tied), rel=1e-5)
    model: Any = load_model(file, device="cpu").model
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_divided_frequencies_are_divided(folder: Path, tmp_path: Path) -> None:
    """As in Llama 3.1, whose positions transformers computes from its config, and llama.cpp from a tensor."""
    import numpy as np

    scaled = shutil.copytree(folder, tmp_path / "scaled")
    config = json.loads((scaled / "config.json").read_text())
    config["rope_parameters"] |= {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 32}
    config["rope_parameters"] |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    (scaled / "config.json").write_text(json.dumps(config))
    model: Any = load_model(scaled, device="cpu").model
    plain: Any = load_model(folder, device="cpu").model
    factors = (plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq).numpy().astype(np.float32)
    assert max(factors) > 1
    file = write_gguf(folder, tmp_path / "scaled.gguf", edit=lambda _, t: t.update({"rope_freqs.weight": factors}))
    assert losses(file) == pytest.approx(losses(scaled), rel=1e-5)
    assert losses(file) != pytest.approx(losses(folder), rel=1e-3)


def test_it_is_a_model_wherever_one_is_named(
    curate: RUN, films: Films, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    write_gguf(tiny_model("chat"), tmp_path / "tiny.gguf", "Q8_0")
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    score = "score films.jsonl --by loss --shots 1 --model tiny.gguf --template chat --device cpu -o scored.parquet"
    assert curate(*score.split()).exit_code == 0
    manifest = json.loads((tmp_path / "scored.parquet.manifest.json").read_text())
    assert manifest["estimators"][0]["model"]["gguf"]["tensors"] == {"F32": 5, "Q8_0": 16}
    assert "already made" in curate(*score.split()).stderr
    select = "select scored.parquet --whole --top 0.7 -o splits --force"
    assert curate(*select.split()).exit_code == 0
    budget = "select scored.parquet --budget-tokens 200 --tokenizer tiny.gguf -o some.parquet"
    assert curate(*budget.split()).exit_code == 0
    validate = "validate splits --eval films.jsonl --model tiny.gguf --device cpu --seeds 1 --max-steps 3"
    result = curate(*f"{validate} --learning-rate 0.02 -o run".split())
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["model"]["name"] == "tiny.gguf"
    write_gguf(tiny_model("llama"), tmp_path / "tiny.gguf")
    assert curate(*score.replace(" --template chat", "").split()).exit_code == 1, "another file is another model"


def test_adapters_that_are_trained_on_it_are_saved_and_read_again(
    curate: RUN, films: Films, folder: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel

    write_gguf(folder, tmp_path / "tiny.gguf")
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    train = "validate films.jsonl --eval films.jsonl --model tiny.gguf --device cpu --seeds 1 --max-steps 6"
    result = curate(*f"{train} --learning-rate 0.05 --held-out 0 -o run".split())
    assert result.exit_code == 0, result.stderr
    (adapter,) = (tmp_path / "run" / "adapters").glob("*/seed-0")
    ids = torch.arange(9).reshape(1, -1)
    logits = []
    for model in (tmp_path / "tiny.gguf", folder):
        adapted = PeftModel.from_pretrained(load_model(model, device="cpu").model, adapter)
        with torch.inference_mode():
            logits.append(adapted(input_ids=ids).logits)
            with adapted.disable_adapter():
                assert not torch.allclose(adapted(input_ids=ids).logits, logits[-1], atol=1e-3)
    assert torch.allclose(*logits, atol=1e-4), "on the file and on the folder it was made from"


def test_nothing_that_lies_beside_the_file_is_looked_at(folder: Path, tmp_path: Path) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf")
    expected = losses(file)
    mark = tmp_path / "it ran"
    (tmp_path / "own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    code = {"auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M", "AutoTokenizer": [None, "own.T"]}}
    for name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
        (tmp_path / name).write_text(json.dumps({"model_type": "own", "tokenizer_class": "Own", **code}))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{{ nothing }}")
    assert losses(file) == expected
    assert getattr(load_tokenizer(file), "chat_template", None) is None
    assert not mark.exists()


def change(name: str, make: Callable[[Any], Any]) -> Edit:
    def edit(_: Any, tensors: dict[str, Any]) -> None:
        tensors[name] = make(tensors.get(name))

    return edit


def no_tokenizer(writer: Any, _: dict[str, Any]) -> None:
    for key in [key for key in writer.kv_data[0] if key.startswith("tokenizer.")]:
        del writer.kv_data[0][key]


def another(key: str, value: Any) -> Edit:
    """Another value of the same kind in the metadata."""
    return lambda writer, _: setattr(writer.kv_data[0][key], "value", value)


def architecture(writer: Any, _: dict[str, Any]) -> None:
    for data in writer.kv_data:
        for key in [key for key in data if key.startswith("llama.")]:
            data[key.replace("llama", "nonsuch")] = data.pop(key)
    writer.kv_data[0]["general.architecture"].value = "nonsuch"


NORM = "blk.0.attn_norm.weight"
EDITS: dict[str, tuple[Edit, str]] = {
    "an architecture that nobody reads": (architecture, "cannot be loaded: .*architecture nonsuch is not supported"),
    "whole numbers": (change(NORM, lambda t: t.astype("int32")), "a type that cannot be unpacked: I32"),
    "no tokenizer": (no_tokenizer, "holds no tokenizer"),
    "a tensor that is missing": (lambda _, t: t.pop(NORM), "1 missing .model.layers.0.input_layernorm.weight"),
    "a tensor of another shape": (change(NORM, lambda t: t[:16]), r"1 of another shape .*: \[16\] instead of \[32\]"),
    "a tensor too many": (change("nose.weight", lambda _: _ones(7)), r"7 numbers \(nose.weight\)"),
    "a bias that the model has not": (change("blk.1.attn_q.bias", lambda _: _ones(32)), "from it: 32 numbers"),
    "factors of no model's frequencies": (change("rope_freqs.weight", lambda _: _ones(3)), "from it: 3 numbers"),
    "more layers than there are": (another("llama.block_count", 9), "missing|far larger model"),
    "a million layers": (another("llama.block_count", 10**6), "far larger model"),
    "scaled positions": (
        lambda writer, _: writer.add_rope_scaling_type(_scaling()),
        r"from it: that its positions are scaled \(yarn\)",
    ),
}


def _ones(count: int) -> Any:
    import numpy as np

    return np.ones(count, dtype=np.float32)


def _scaling() -> Any:
    import gguf

    return gguf.RopeScalingType.YARN


@pytest.mark.parametrize("fault", EDITS)
def test_a_file_that_is_no_such_model_is_one_message(folder: Path, tmp_path: Path, fault: str) -> None:
    edit, told = EDITS[fault]
    file = write_gguf(folder, tmp_path / "tiny.gguf", edit=edit)
    with pytest.raises(ModelError, match=told):
        load_model(file, device="cpu")


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda content: b"", "does not begin with GGUF"),
    "another kind of file": (lambda content: b"PK" + content, "does not begin with GGUF"),
    "a header that is cut off": (lambda content: content[:1000], "header is cut off or damaged"),
    "eight bytes": (lambda content: content[:8], "header is cut off or damaged"),
    "tensors that are cut off": (
        lambda content: content[:-2000],
        r"it ends after [0-9,]+ bytes, and its tensors after",
    ),
    "an old version": (lambda content: content[:4] + b"\1\0\0\0" + content[8:], "it is of version 1"),
    "a count that is a lie": (lambda content: content[:8] + b"\xff" * 8 + content[16:], "header is cut off or damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_message(curate: RUN, films: Films, folder: Path, tmp_path: Path, damage: str) -> None:
    change, told = DAMAGES[damage]
    file = write_gguf(folder, tmp_path / "tiny.gguf")
    file.write_bytes(change(file.read_bytes()))
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    result = curate(*["score", "films.jsonl", "--by", "loss", "--model", "tiny.gguf", "-o", "scored.parquet"])
    assert result.exit_code == 1
    message = " ".join(result.stderr.split())
    assert message.count("The GGUF file 'tiny.gguf' cannot be read") == 1
    with pytest.raises(ModelError, match=told):
        load_tokenizer(file)


def test_a_type_of_the_future_a_file_that_is_not_there_and_one_that_is_a_pipe(folder: Path, tmp_path: Path) -> None:
    file = write_gguf(folder, tmp_path / "tiny.gguf")
    content, name = file.read_bytes(), b"output_norm.weight"
    kind = content.index(name) + len(name) + 4 + 8  # after the number of dimensions, which is 1, and its length
    file.write_bytes(content[:kind] + b"\xe7\3\0\0" + content[kind + 4 :])
    with pytest.raises(ModelError, match="a type that cannot be unpacked: of number 999"):
        load_model(file)
    with pytest.raises(ModelError, match=r"there is no such file.*\n.*\n.*tiny.gguf', if that was meant"):
        load_model(tmp_path / "tini.gguf")
    with pytest.raises(ModelError, match="there is no such file"):
        load_tokenizer("nowhere.gguf")
    with pytest.raises(ModelError, match=r"no config.json(.*\n)*Try: model='.*tiny.gguf'"):
        load_model(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelError, match="no ordinary file"):
        load_model(tmp_path / "pipe.gguf")


def test_a_missing_package_is_told_with_what_to_install(films: Films, folder: Path, tmp_path: Path) -> None:
    write_gguf(folder, tmp_path / "tiny.gguf")
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    blocked = "import sys; sys.modules['gguf'] = None; from curate.cli.app import main; main()"
    command = "score films.jsonl --by loss --model tiny.gguf -o scored.parquet"
    program = [sys.executable, "-c", blocked, *command.split()]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "This needs gguf, which is not installed." in done.stderr
    assert "pip install 'curate-qa[gguf]'" in done.stderr


def test_it_is_not_kept_in_four_bits(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be kept in 4 bits"):
        load_model(write_gguf(folder, tmp_path / "tiny.gguf"), quantized=True)
