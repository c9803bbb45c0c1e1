"""`--answers-by vllm`, with a package of vLLM's names and signatures that answers by transformers (tests/stand_ins)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate as package
from curate.errors import CurateError, ModelError
from curate.estimators.known import KnownEstimator, KnownSettings
from curate.lm import generate as ours
from curate.lm.generate import by_vllm, greedy_answers, sampled_answers
from curate.lm.model import LoadedModel, load_model
from curate.prompts import DEFAULT, find_template
from curate.records import Example
from curate.settings import FinetuneConfig, ValidateSettings
from tests.validation.made import COLOURED, COLOURS

pytestmark = pytest.mark.usefixtures("blank_figures")

QUESTIONS = [DEFAULT.render_prompt(f"What is the colour of {name}?") for name, _ in COLOURS]
LEARNED = FinetuneConfig(learning_rate=2e-2, max_steps=25, batch_size=4, held_out=0, lora_rank=12)
ARM = [row | {"subject": name} for row, (name, _) in zip(COLOURED, COLOURS, strict=True)]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in installed, on a machine whose CPU passes for a GPU with 40 of 80 GB free."""
    import torch

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "stand_ins"))
    monkeypatch.setattr(ours, "DEVICES", ("cpu",))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (40 << 30, 80 << 30))
    import vllm

    vllm.LLM.made.clear()
    yield vllm
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


@pytest.fixture
def model(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


def answering(folder: Path, template: str = "qa") -> tuple[LoadedModel, LoadedModel]:
    """A model that answers itself, and by vLLM."""
    loaded = load_model(folder, device="cpu")
    asked = find_template(template)
    loaded = loaded.asked_in(asked.fitted(loaded.tokenizer, loaded.name) if asked.is_chat else asked)
    return loaded, by_vllm(loaded, str(folder), None)


def predictions(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "predictions.parquet").to_pylist()


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_bytes())


@pytest.mark.parametrize("kind", ["llama", "byte-fallback", "gpt2"])
def test_greedy_answers_are_those_of_transformers(kind: str, vllm: Any, tiny_model: Callable[[str], Path]) -> None:
    by_transformers, other = answering(tiny_model(kind))
    asked = [*QUESTIONS, QUESTIONS[0], " ".join(QUESTIONS)]  # the last one is longer than the context
    assert greedy_answers(other, asked) == greedy_answers(by_transformers, asked)
    assert greedy_answers(other, []) == []
    (llm,) = vllm.LLM.made
    assert llm.asked == len(QUESTIONS) + 1, "each distinct prompt is answered once"
    assert (llm.args.enable_lora, llm.dtype, round(llm.utilization, 6)) == (False, "float32", 0.45)


def test_in_a_chat_nothing_is_put_before_the_prompt_and_the_end_of_a_turn_ends_an_answer(
    vllm: Any, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_transformers, other = answering(tiny_model("chat"), "chat")
    prompts = [f"<|im_start|>user\nWho is {name}?<|im_end|>\n<|im_start|>assistant\n" for name, _ in COLOURS]
    assert greedy_answers(other, prompts, 30) == greedy_answers(by_transformers, prompts, 30)
    said = []
    own = vllm.LLM.answer
    monkeypatch.setattr(vllm.LLM, "answer", lambda *given: said.append(own(*given)) or said[-1])
    sampled_answers(other, prompts[:1], 2)
    (output,) = said
    assert output.prompt_token_ids == other.tokenizer(prompts[0], add_special_tokens=False)["input_ids"]
    (turn,) = other.tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"]
    assert other.generator.engine.stops == [turn]


def test_samples_depend_on_the_seed_and_the_prompt_and_not_on_other_prompts(vllm: Any, model: Path) -> None:
    _, loaded = answering(model)
    together = sampled_answers(loaded, QUESTIONS, samples=4)
    assert [len(of_one) for of_one in together] == [4] * len(QUESTIONS)
    assert together[2:3] == sampled_answers(loaded, QUESTIONS[2:3], samples=4)
    assert together != sampled_answers(loaded, QUESTIONS, samples=4, seed=1)
    assert any(len(set(of_one)) > 1 for of_one in together)


def test_a_validation_by_vllm_reads_every_adapter_from_disk_and_finds_what_transformers_finds(
    vllm: Any, model: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"eval": ARM, "model": model, "seeds": 1, "config": LEARNED, "base_shots": 2}
    options |= {"device": "cpu", "knowledge": True, "arm_shots": 1}
    arms = {"top": ARM[:3], "bottom": ARM[3:]}
    package.validate(arms, output=tmp_path / "ours", **options)
    package.validate(arms, output=tmp_path / "theirs", answers_by="vllm", **options)
    assert predictions(tmp_path / "theirs") == predictions(tmp_path / "ours")
    ours, theirs = (json.loads((tmp_path / f"{by}/summary.json").read_bytes()) for by in ("ours", "theirs"))
    assert {key for key in ours if ours[key] != theirs[key]} == {"config"}
    said: dict[str, list[str]] = {}
    for row in predictions(tmp_path / "theirs"):
        said.setdefault(row["arm"], []).append(row["prediction"])
    assert len(set(map(tuple, said.values()))) == len(said) == 4, "the arms answer differently"
    (llm,) = vllm.LLM.made
    assert (llm.args.enable_lora, llm.args.max_lora_rank, llm.utilization) == (True, 16, 0.25)
    assert manifest(tmp_path / "theirs")["model"]["answers_by"] == "vllm"
    assert "answers_by" not in json.dumps(manifest(tmp_path / "ours"))


def test_a_run_of_one_engine_is_not_one_of_the_other(vllm: Any, model: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"eval": ARM, "model": model, "seeds": 1, "config": LEARNED, "device": "cpu"}
    package.validate({"top": ARM[:3]}, output=tmp_path / "run", answers_by="vllm", **options)
    assert package.validate({"top": ARM[:3]}, output=tmp_path / "run", answers_by="vllm", **options)
    assert len(vllm.LLM.made) == 1, "a finished run is not answered again"
    with pytest.raises(CurateError, match="answers_by vllm"):
        package.validate({"top": ARM[:3]}, output=tmp_path / "run", **options)


@pytest.mark.parametrize("lost", [False, True])
def test_what_is_asked_later_is_asked_of_the_saved_adapter_which_is_made_again_if_it_is_lost(
    lost: bool, vllm: Any, model: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"eval": ARM, "model": model, "seeds": 1, "config": LEARNED, "device": "cpu"}
    whole = package.validate({"top": ARM[:3]}, output=tmp_path / "whole", arm_shots=1, **options)
    options |= {"output": tmp_path / "run", "answers_by": "vllm"}
    package.validate({"top": ARM[:3]}, **options)
    if lost:
        rmtree(tmp_path / "run" / "adapters")
    later = package.validate({"top": ARM[:3]}, arm_shots=1, **options)
    assert [run.few_shot for run in later.runs] == [run.few_shot for run in whole.runs]
    assert any(run.few_shot for run in later.runs)


def test_known_asks_vllm_for_greedy_answers_and_samples(vllm: Any, model: Path, tmp_path: Path) -> None:
    facts = [Example(str(n), f"Who is the friend of S{n}?", (f"F{n}",), f"S{n}", "friend") for n in range(5)]
    settings = KnownSettings(
        model=model, known_sets=2, known_shots=2, known_samples=4, known_mode="sampled", device="cpu"
    )
    scores = {}
    for by in ("transformers", "vllm"):
        estimator = KnownEstimator(settings.changed(answers_by=by))
        estimator.draw(lambda: facts)
        said = greedy_answers(estimator.model, [estimator.prompts(fact)[0] for fact in facts])
        asked = [replace(fact, answers=(text,)) for fact, text in zip(facts, said, strict=True) if text.strip()]
        scores[by] = [score.evidence["greedy"] for score in estimator.score(asked)]
        assert ("answers_by" in estimator.fingerprint()["model"]) is (by == "vllm")
        assert ("answers_by" in estimator.request()) is (by == "vllm")
    assert scores["vllm"] == scores["transformers"] != []
    assert len(vllm.LLM.made) == 1


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "all weights": ({"method": "full"}, "not with method='full'"),
    "weights of 4 bits": ({"method": "qlora"}, "not with method='qlora'"),
    "a grid with all weights in it": ({"tune": "paper"}, "not with tune='paper'"),
    "a large rank": ({"lora_rank": 512}, "at most 256"),
    "letters": ({"template": "mmlu"}, "letters are chosen by their loss"),
    "a GGUF file": ({"model": "model.gguf"}, "cannot answer for the GGUF file"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_vllm_cannot_do_is_said_before_anything_is_trained(
    wrong: str, vllm: Any, model: Path, tmp_path: Path
) -> None:
    given, told = WRONG[wrong]
    rows = [row | {"choices": ["red", "blue"]} for row in ARM]
    options = {
        "eval": rows,
        "model": model,
        "output": tmp_path / "run",
        "device": "cpu",
        "seeds": 1,
        "knowledge": False,
    }
    with pytest.raises(CurateError, match=told):
        package.validate({"top": rows[:3]}, answers_by="vllm", **{"template": "qa", **options, **given})
    assert not vllm.LLM.made


def test_without_vllm_or_a_gpu_or_with_torchrun_the_command_says_what_to_do(
    curate: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "arm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ARM))
    options = f"--eval arm.jsonl --model {model} -o run --device cpu --answers-by vllm --seeds 1".split()
    told = curate("validate", "arm.jsonl", *options)
    assert told.exit_code != 0
    assert "--answers-by vllm needs vLLM, which is not installed" in " ".join(told.stderr.split())
    assert "pip install 'curate-qa[vllm]'" in " ".join(told.stderr.split())
    monkeypatch.setattr(ours, "find_spec", lambda name: name)
    told = curate("validate", "arm.jsonl", *options)
    assert "answers on the first GPU, and the model is on cpu" in " ".join(told.stderr.split())
    told = curate("score", "arm.jsonl", "--by", "known", "--model", model, "--answers-by", "vllm", "-o", "s.parquet")
    assert "is an option of --known-mode sampled" in " ".join(told.stderr.split())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CurateError, match="not for torchrun"):
        ours.check_vllm(str(model))


def test_an_error_of_vllm_is_told_in_a_line(vllm: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, loaded = answering(model)
    monkeypatch.setattr(ours, "MOST_TOKENS", 5)
    short = by_vllm(replace(loaded, generator=None), str(model), None)
    with pytest.raises(ModelError, match=r"could not answer with .*: The prompt .* is longer"):
        greedy_answers(short, QUESTIONS)
    monkeypatch.setattr(vllm, "LLM", lambda **given: 1 / 0)
    with pytest.raises(ModelError, match=r"could not load .*: division by zero"):
        greedy_answers(loaded, QUESTIONS)


def test_help_says_that_it_was_not_run_on_hardware() -> None:
    for group in (ValidateSettings, KnownSettings):
        (option,) = [f for f in group.__dataclass_fields__.values() if f.name == "answers_by"]
        assert "not yet run on hardware" in option.metadata["help"]
