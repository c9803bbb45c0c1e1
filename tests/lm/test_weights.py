"""Weights that do not fit their config.json are refused: no number ever comes from a tensor made up at random."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from curate.errors import ModelError
from curate.lm.loss import answer_losses
from curate.lm.model import load_model
from tests.models import KINDS

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

PAIRS = [("Question: What is the capital of France?\nAnswer:", " Paris")]
NORM = "model.layers.0.input_layernorm.weight"


def rewrite(folder: Path, edit: Callable[[Tensors], object]) -> None:
    """Change the tensors of a model's only file."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def without_a_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop(NORM))


def with_a_layer_more_in_the_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))


def with_a_tensor_too_many(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"score.weight": tensors[NORM].clone()}))


def with_a_tensor_of_another_shape(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({NORM: tensors[NORM][:7].clone()}))


DAMAGES = [
    (without_a_tensor, f"1 missing ({NORM})"),
    (
        with_a_layer_more_in_the_config,
        "9 missing (model.layers.2.input_layernorm.weight, model.layers.2.mlp.down_proj.weight, "
        "model.layers.2.mlp.gate_proj.weight and 6 more)",
    ),
    (with_a_tensor_too_many, "1 unexpected (score.weight)"),
    (with_a_tensor_of_another_shape, f"1 of another shape ({NORM}: [7] instead of [32])"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGES)
def test_weights_that_do_not_fit_are_one_message_and_no_scores(
    curate: Callable[..., Any],
    films: list[dict[str, Any]],
    tmp_path: Path,
    tiny_model: Callable[[str], Path],
    damage: Callable[[Path], None],
    told: str,
) -> None:
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    shutil.copytree(tiny_model("llama"), tmp_path / "model")
    damage(tmp_path / "model")
    command = "score films.jsonl --by loss --model model --device cpu -o scored.parquet"
    result = curate(*command.split())
    assert result.exit_code == 1
    assert " ".join(result.stderr.split()).count(told) == 1
    assert "Try: download or save the model again" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films.jsonl", "model"]


def test_pickle_weights_must_fit_as_well(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    shutil.copytree(tiny_model("llama"), tmp_path / "old")
    tensors = load_file(tmp_path / "old" / "model.safetensors")
    del tensors[NORM]
    torch.save(tensors, tmp_path / "old" / "pytorch_model.bin")
    (tmp_path / "old" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="1 missing"):
        load_model(tmp_path / "old", device="cpu", allow_pickle=True)


@pytest.mark.parametrize("kind", list(KINDS))
def test_whole_models_of_every_kind_are_read(tiny_model: Callable[[str], Path], kind: str) -> None:
    assert load_model(tiny_model(kind), device="cpu").model.training is False


def test_an_output_head_tied_to_the_embeddings_need_not_be_there_twice(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model("gpt2"), tmp_path / "model")
    expected = answer_losses(load_model(folder, device="cpu"), PAIRS)
    rewrite(folder, lambda tensors: tensors.update({"lm_head.weight": tensors.pop("transformer.wte.weight")}))
    assert answer_losses(load_model(folder, device="cpu"), PAIRS) == expected
    rewrite(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(ModelError, match=r"2 missing \(lm_head\.weight, transformer\.wte\.weight\)"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("kind", "buffers"),
    [
        ("gpt2", ("transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias")),
        ("gpt-neo", ("transformer.h.0.attn.attention.bias", "transformer.h.0.attn.attention.masked_bias")),
        ("llama", ("model.layers.0.self_attn.rotary_emb.inv_freq",)),
    ],
)
def test_masks_and_frequencies_saved_by_older_versions_change_nothing(
    tiny_model: Callable[[str], Path], tmp_path: Path, kind: str, buffers: tuple[str, ...]
) -> None:
    import torch

    folder = shutil.copytree(tiny_model(kind), tmp_path / "model")
    expected = answer_losses(load_model(folder, device="cpu"), PAIRS)
    rewrite(folder, lambda tensors: tensors.update({name: torch.ones(4) for name in buffers}))
    assert answer_losses(load_model(folder, device="cpu"), PAIRS) == expected
