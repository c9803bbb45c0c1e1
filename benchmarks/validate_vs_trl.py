"""Validation's two halves beside what people use for them, the same model, data and batch, alternately in one process.

    pip install trl==1.16.0 lm_eval==0.4.13
    python benchmarks/validate_vs_trl.py -o benchmarks/results/validate_vs_trl.json

Training: tokens a second of curate's finetuning (tokenising, adapters and checkpoint included) and of TRL's SFTTrainer
with its defaults (its `train` alone, the data being tokenised before), LoRA of the same size on all linear layers, the
same batch, learning rate and epochs; and of the same without the bfloat16 that is among its defaults. All must have
read the same number of tokens with about the same mean loss.

Answers: answers a second of curate's greedy decoding and of lm-evaluation-harness's generate_until at the better of two
batch sizes, of the finetuned model zero-shot and of the untouched one after solved examples. The texts must be equal.

Seconds are those of the processor at one thread, the best of the rounds: on a machine with other work they are
disturbed less than seconds of the clock.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loss_vs_lm_eval import make_model

import curate
from curate.data.table import read
from curate.lm.forward import adapters_merged
from curate.lm.generate import MAX_NEW_TOKENS, greedy_answers
from curate.lm.model import LoadedModel, load_model
from curate.lm.packing import training_items
from curate.prompts import DEFAULT, Shots
from curate.records import Example
from curate.settings import FinetuneConfig
from curate.validation.finetune import finetuned
from curate.validation.trainer import Trained, Training

WORLD = Path(curate.__file__).parent / "world"
CASES = (("world", 1000, 600), ("3M", 1000, 600), ("34M", 160, 300))
"""Model, examples it is finetuned on, questions it is asked."""
CONFIG = FinetuneConfig(learning_rate=1e-3, batch_size=16, epochs=2, held_out=0)
SHOTS = 5
HARNESS_BATCHES = (16, 64)
LOSSES_ALIKE = 0.1
"""Share by which the mean training losses may differ: the examples come in another order."""
CLOCK = time.process_time


def load(size: str, texts: Sequence[str]) -> LoadedModel:
    """The bundled model, or a Llama of seeded random weights."""
    if size == "world":
        return load_model(WORLD / "model", device="cpu")
    loaded = make_model(size, list(texts))
    loaded.model.generation_config.eos_token_id = loaded.tokenizer.eos_token_id
    return loaded


@contextmanager
def finetune(loaded: LoadedModel, examples: Sequence[Example]) -> Iterator[Trained]:
    """Inside the `with` the model is finetuned."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(CONFIG, seed=0, checkpoints=Path(folder, "checkpoints"))
        with finetuned(loaded, examples, DEFAULT, training) as trained:
            yield trained


def train_curate(loaded: LoadedModel, examples: Sequence[Example]) -> tuple[float, float]:
    """Seconds, and the mean training loss in nats a token."""
    started = CLOCK()
    with finetune(loaded, examples) as result:
        seconds = CLOCK() - started
        losses = [row["train_loss"] for row in result.rows if row["train_loss"] is not None]
        return seconds, sum(losses) / len(losses)


def train_trl(loaded: LoadedModel, examples: Sequence[Example], **more: Any) -> tuple[float, float]:
    """The same with SFTTrainer, which is given only what the comparison is about."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": DEFAULT.ask(e), "completion": DEFAULT.render_completion(e.answers[0])} for e in examples]
    lora = LoraConfig(r=CONFIG.lora_rank, lora_alpha=CONFIG.lora_alpha, target_modules="all-linear")
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            folder,
            per_device_train_batch_size=CONFIG.batch_size,
            num_train_epochs=CONFIG.epochs,
            learning_rate=CONFIG.learning_rate,
            weight_decay=CONFIG.weight_decay,
            lr_scheduler_type="constant",
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            **more,
        )
        trainer = SFTTrainer(
            loaded.model,
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=lora,
        )
        counted = sum(map(len, trainer.train_dataset["input_ids"]))
        ours = sum(len(item["input_ids"]) for item in training_items(loaded, examples, DEFAULT))
        assert counted == ours, f"TRL trains on {counted} tokens, curate on {ours}"
        started = CLOCK()
        loss = trainer.train().training_loss
        seconds = CLOCK() - started
        trainer.model.unload()
        if hasattr(loaded.model, "peft_config"):
            del loaded.model.peft_config
        for weight in loaded.model.parameters():
            weight.requires_grad_(True)
    return seconds, loss


def compare_training(loaded: LoadedModel, examples: Sequence[Example], rounds: int) -> dict[str, Any]:
    runs: dict[str, Callable[..., tuple[float, float]]] = {
        "curate": train_curate,
        "trl": train_trl,
        "trl_float32": functools.partial(train_trl, bf16=False),
    }
    seconds = dict.fromkeys(runs, float("inf"))
    losses = {}
    for run in runs.values():
        run(loaded, examples[:32])  # the first call of anything is slow
    for _ in range(rounds):
        for name, run in runs.items():
            taken, losses[name] = run(loaded, examples)
            seconds[name] = min(seconds[name], taken)
    assert max(losses.values()) < (1 + LOSSES_ALIKE) * min(losses.values()), f"losses {losses}"
    tokens = CONFIG.epochs * sum(len(item["input_ids"]) for item in training_items(loaded, examples, DEFAULT))
    return {
        "examples": len(examples),
        "tokens_per_second": {name: round(tokens / value) for name, value in seconds.items()},
        "ratio": round(seconds["trl"] / seconds["curate"], 2),
        "ratio_float32": round(seconds["trl_float32"] / seconds["curate"], 2),
        "mean_training_loss": {name: round(value, 3) for name, value in losses.items()},
    }


def harness_answers(loaded: LoadedModel, batch_size: int) -> Callable[[Sequence[str]], list[str]]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size, device="cpu")
    settings = {"until": ["\n"], "max_gen_toks": MAX_NEW_TOKENS, "do_sample": False}

    def run(prompts: Sequence[str]) -> list[str]:
        requests = [Instance("generate_until", {}, (prompt, dict(settings)), n) for n, prompt in enumerate(prompts)]
        return harness.generate_until(requests, disable_tqdm=True)

    return run


def compare_answers(loaded: LoadedModel, prompts: Sequence[str], rounds: int) -> dict[str, Any]:
    def ours(prompts: Sequence[str]) -> list[str]:
        with adapters_merged(loaded):  # as evaluation does
            return greedy_answers(loaded, prompts)

    runs: dict[str, Callable[[Sequence[str]], list[str]]] = {"curate": ours}
    runs |= {f"lm_eval_{size}": harness_answers(loaded, size) for size in HARNESS_BATCHES}
    seconds = dict.fromkeys(runs, float("inf"))
    said: dict[str, list[str]] = {}
    for run in runs.values():
        run(prompts[:4])
    for _ in range(rounds):
        for name, run in runs.items():
            started = CLOCK()
            said[name] = run(prompts)
            seconds[name] = min(seconds[name], CLOCK() - started)
    unequal = {name: sum(a != b for a, b in zip(said["curate"], texts, strict=True)) for name, texts in said.items()}
    assert max(unequal.values()) <= 0.01 * len(prompts), f"texts that differ: {unequal}"
    best = min(value for name, value in seconds.items() if name != "curate")
    return {
        "answers": len(prompts),
        "answers_per_second": {name: round(len(prompts) / value, 1) for name, value in seconds.items()},
        "ratio": round(best / seconds["curate"], 2),
        "texts_that_differ": max(unequal.values()),
    }


def compare(size: str, train: Sequence[Example], test: Sequence[Example], rounds: int) -> dict[str, Any]:
    texts = [DEFAULT.ask(e) + DEFAULT.render_completion(a) for e in train for a in e.answers]
    loaded = load(size, texts)
    result: dict[str, Any] = {"model": size, "training": compare_training(loaded, train, rounds)}
    shots = Shots(DEFAULT, train, SHOTS)
    with finetune(loaded, train):
        result["answers_finetuned"] = compare_answers(loaded, [DEFAULT.ask(e) for e in test], rounds)
    few_shot = [shots.prefix(e) + DEFAULT.ask(e) for e in test]
    result["answers_5_shot"] = compare_answers(loaded, few_shot, rounds)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of examples and questions")
    parser.add_argument("--models", nargs="*", default=[size for size, _, _ in CASES])
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    import torch
    from datasets.utils.logging import disable_progress_bar

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    disable_progress_bar()
    warnings.simplefilter("ignore")
    train, test = (read(WORLD / f"{name}.parquet").examples() for name in ("train", "test"))
    results = []
    for size, examples, questions in CASES:
        if size in options.models:
            parts = train[: int(options.scale * examples)], test[: int(options.scale * questions)]
            results.append(compare(size, *parts, options.rounds))
            print(json.dumps(results[-1]), flush=True)
    content = {
        "data": "the bundled world",
        "threads": 1,
        "rounds": options.rounds,
        "config": CONFIG.as_dict(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "results": results,
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
