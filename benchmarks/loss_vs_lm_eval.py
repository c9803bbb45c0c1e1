"""Answer losses a second: curate beside lm-evaluation-harness, the same models and texts, alternately in one process.

    pip install lm_eval==0.4.13
    python benchmarks/loss_vs_lm_eval.py --data popQA.tsv -o benchmarks/results/loss_vs_lm_eval.json
    python benchmarks/loss_vs_lm_eval.py --data popQA.tsv --model FOLDER --rounds 1 -o FILE.json   # a pretrained model

With `--model` the texts are those that `loss` (four solved examples of the relation) and `known` (ten such sets) read,
of the commonest relations 60 rows each: about as many of one relation are in a chunk of 1,024 rows of PopQA; no
ceilings.

The models are Llamas of seeded random weights with a tokenizer trained on the data. Measured at one thread, in seconds
of the processor; each rate is the best of the rounds, lm-eval's that of its best batch size. The ceilings are the bare
backbone (no output head) in full rectangles without padding, at its best of four batch sizes: over all tokens of the
distinct texts, and over the tokens that curate computes, what texts share being computed once. Losses must agree.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.data.table import read
from curate.estimators.known import KnownEstimator, KnownSettings
from curate.estimators.loss import LossEstimator, LossSettings
from curate.lm.loss import answer_losses
from curate.lm.model import LoadedModel, load_model
from curate.lm.packing import encode
from curate.prompts import DEFAULT, Shots
from curate.records import Example

SIZES: dict[str, dict[str, Any]] = {
    "3M": {"hidden_size": 128, "num_hidden_layers": 5, "intermediate_size": 344, "num_attention_heads": 4},
    "3M tied": {
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "intermediate_size": 512,
        "num_attention_heads": 6,
        "tie_word_embeddings": True,  # so that more of its parameters are in the layers
    },
    "34M": {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1376, "num_attention_heads": 8},
}
CASES = (("3M", 0, 1000), ("3M", 5, 400), ("3M tied", 0, 600), ("34M", 0, 200), ("34M", 5, 80))
"""Model, solved examples, examples."""
VOCABULARY = 8192
LM_EVAL_BATCHES = (1, 16, 64)
A_RELATION = 60
"""Rows of one relation that are scored together."""
CEILING_BATCHES = (256, 512, 1024, 2048)
TOLERANCE = 1e-4  # nats a token
CLOCK = time.process_time
"""Seconds of the processor: at one thread other work on the machine disturbs them less than seconds of the clock."""

Pairs = list[tuple[str, str]]


def make_model(size: str, texts: list[str]) -> LoadedModel:
    """A Llama of seeded random weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,  # also where the data is too small to fill it
        max_position_embeddings=2048,
        initializer_range=0.1,
        **SIZES[size],
    )
    return LoadedModel(LlamaForCausalLM(config).eval(), tokenizer, f"random-llama-{size}", "seed 0")


def make_pairs(examples: list[Example], shots: int, count: int) -> Pairs:
    """Prompts and answers of the first `count` examples, the last ones of the data being their solved examples."""
    pool = [Example(e.id, e.question, e.answers) for e in examples[-shots:]] if shots else []
    prefix = Shots(DEFAULT, pool, shots)
    return [(prefix.prefix(e) + DEFAULT.ask(e), DEFAULT.render_completion(e.answers[0])) for e in examples[:count]]


def lm_eval_losses(loaded: LoadedModel, batch_size: int) -> Callable[[Pairs], list[float]]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size, add_bos_token=True, device="cpu"
    )

    def run(pairs: Pairs) -> list[float]:
        requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
        return [-logprob for logprob, _ in harness.loglikelihood(requests, disable_tqdm=True)]

    return run


class OurLosses:
    """curate's losses, and the tokens that the last call had read, what texts share counted once."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.tokens = 0

    def __call__(self, pairs: Pairs) -> list[float]:
        self.tokens = 0
        return [loss.nats or float("nan") for loss in answer_losses(self.loaded, pairs, report=self._count)]

    def _count(self, share: float, tokens: int) -> None:
        self.tokens += tokens


def ceilings(loaded: LoadedModel, pairs: Pairs, computed: int) -> dict[str, float]:
    """Seconds of the backbone alone over all tokens, and over those that curate computes."""
    items = encode(loaded, list(dict.fromkeys(pairs)))
    return {
        "ceiling_all_tokens": bare_forward(loaded, sum(len(item.inputs) for item in items), len(items)),
        "ceiling_computed_tokens": bare_forward(loaded, computed, len(items)),
    }


def bare_forward(loaded: LoadedModel, tokens: int, texts: int) -> float:
    """Seconds of the backbone over so many tokens, as rows of the texts' mean length, at the best batch size."""
    import torch

    width = max(1, round(tokens / texts))
    best = float("inf")
    for budget in CEILING_BATCHES:
        batch = torch.randint(0, VOCABULARY, (max(1, budget // width), width))
        batches = max(1, round(tokens / batch.numel()))
        started = CLOCK()
        with torch.inference_mode():
            for _ in range(batches):
                loaded.model.model(input_ids=batch, use_cache=False)
        best = min(best, (CLOCK() - started) * tokens / (batches * batch.numel()))
    return best


def compare(
    loaded: LoadedModel, pairs: Pairs, rounds: int, batches: Sequence[int] = LM_EVAL_BATCHES, bare: bool = True
) -> dict[str, Any]:
    """Rates of everything on one model and one set of texts; the ceilings only if `bare`."""
    ours = OurLosses(loaded)
    runs = {"curate": ours, **{f"lm_eval_{b}": lm_eval_losses(loaded, b) for b in batches}}
    limits = ("all_tokens", "computed_tokens") if bare else ()
    seconds = dict.fromkeys((*runs, *(f"ceiling_{name}" for name in limits)), float("inf"))
    losses: dict[str, list[float]] = {}
    for run in runs.values():
        run(pairs[:4])  # the first call of anything is slow
    for _ in range(rounds):
        for name, run in runs.items():
            started = CLOCK()
            losses[name] = run(pairs)
            seconds[name] = min(seconds[name], CLOCK() - started)
        for name, value in (ceilings(loaded, pairs, ours.tokens) if bare else {}).items():
            seconds[name] = min(seconds[name], value)
    tokens = [item.end - item.start for item in encode(loaded, pairs)]
    worst = max(abs(a - b) / n for name in runs for a, b, n in zip(losses["curate"], losses[name], tokens, strict=True))
    assert worst < TOLERANCE, f"losses differ by {worst} nats a token"
    rates = {name: round(len(pairs) / value, 1) for name, value in seconds.items()}
    best_harness = max(rate for name, rate in rates.items() if name.startswith("lm_eval"))
    return {
        "examples": len(pairs),
        "examples_per_second": rates,
        "ratio": round(rates["curate"] / best_harness, 2),
        "share_of_ceiling": {name: round(rates["curate"] / rates[f"ceiling_{name}"], 2) for name in limits},
        "largest_difference_nats_per_token": worst,
    }


def cases(examples: list[Example], scale: float, rounds: int) -> Iterator[dict[str, Any]]:
    texts = [DEFAULT.ask(e) + DEFAULT.render_completion(a) for e in examples for a in e.answers]
    for size, shots, count in CASES:
        loaded = make_model(size, texts)
        pairs = make_pairs(examples, shots, min(len(examples), int(count * scale)))
        yield {"model": size, "shots": shots, **compare(loaded, pairs, rounds)}


def estimator_cases(
    model: str, examples: list[Example], scale: float, rounds: int, batches: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """What the estimators read of a pretrained model: 120 examples by loss, 8 by known."""
    loaded = load_model(model, device="cpu")
    commonest = Counter(e.relation for e in examples).most_common()
    together = [e for relation, _ in commonest for e in [e for e in examples if e.relation == relation][:A_RELATION]]
    for kind, settings, count in ((LossEstimator, LossSettings(model), 120), (KnownEstimator, KnownSettings(model), 8)):
        estimator = kind(settings, loaded)
        estimator.draw(lambda: examples)
        few = together[: max(1, int(count * scale))]
        pairs = list(dict.fromkeys(pair for example in few for pair in estimator.pairs(example)))
        found = compare(loaded, pairs, rounds, batches, bare=False)
        yield {"model": loaded.name, "estimator": estimator.name, "rows": len(few), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="curate/world/train.parquet", help="any dataset that curate reads")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of examples")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=LM_EVAL_BATCHES, help="lm-eval's, with --model")
    parser.add_argument("--model", help="a pretrained model, instead of those of random weights")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    data = read(options.data)
    examples = [e for e in data.examples() if e.question and e.answers]
    random.Random(0).shuffle(examples)
    results = []
    measured = (
        estimator_cases(options.model, examples, options.scale, options.rounds, options.batches)
        if options.model
        else cases(examples, options.scale, options.rounds)
    )
    for result in measured:
        results.append(result)
        print(json.dumps(result), flush=True)
    content = {
        "data": data.name,
        "threads": 1,
        "rounds": options.rounds,
        "machine": f"{platform.machine()}, {platform.system()}",
        "note": "The machine was shared with other work: ratios travel, absolute rates do not.",
        "results": results,
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
