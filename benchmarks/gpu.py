"""What curate does on one GPU, in parts, the most important first, each within a limit of time.

    python benchmarks/gpu.py -o benchmarks/results/gpu/NAME.json    # a model of 7B parameters, random weights, no files
    python benchmarks/gpu.py --dry-run                              # what each part takes on an H100, by arithmetic
    python benchmarks/gpu.py --shape tiny                           # the same code on any machine, in seconds
    python benchmarks/gpu.py --only real --real FOLDER --popqa popQA.tsv

The model has the shape of Llama 2 7B in bfloat16, with a tokenizer trained on the questions asked: 16 relations of
invented subjects. A rate is that of the second run of the same work, after one that warms up. `share of bare` is
scoring beside the backbone alone (no head) over as many tokens, in full batches of the best of four shapes. MFU counts
4 operations a parameter and token: LoRA computes no gradients of the frozen weights.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curate.estimators.known import KnownEstimator, KnownSettings
from curate.estimators.loss import LossEstimator, LossSettings
from curate.lm.forward import can_pack, tree_mask
from curate.lm.generate import greedy_answers
from curate.lm.loss import answer_losses
from curate.lm.model import LoadedModel
from curate.lm.packing import encode, make_packs, make_rows
from curate.prompts import DEFAULT, draw_exemplars
from curate.records import Example
from curate.settings import FinetuneConfig
from curate.validation.evaluate import evaluate
from curate.validation.finetune import finetuned
from curate.validation.trainer import MicroBatches, Training

PEAK = 989e12
"""Dense bfloat16 operations a second of an H100 or H200, by the data sheet."""
USED = 0.5
"""The share of them that the arithmetic of `--dry-run` takes long batches to reach."""


@dataclass(frozen=True)
class Shape:
    """A Llama of random weights, and how much it is asked."""

    config: dict[str, int]
    rows: int
    known_rows: int
    answers: int
    steps: tuple[int, int]
    arm: int
    dtype: torch.dtype


SHAPES = {
    "7b": Shape(
        {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
        | {"vocab_size": 32000, "max_position_embeddings": 4096},
        rows=6000, known_rows=1000, answers=2000, steps=(6, 26), arm=500, dtype=torch.bfloat16,
    ),
    "tiny": Shape(
        {"hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"vocab_size": 1000, "max_position_embeddings": 1024},
        rows=64, known_rows=8, answers=24, steps=(1, 5), arm=24, dtype=torch.float32,
    ),
}  # fmt: skip
TOKENS = 24
"""Tokens of a question with its answer, as the arithmetic takes them."""

ASKED = (
    "In what city was {} born?", "What is {}'s occupation?", "What is the capital of {}?", "Who wrote {}?",
    "Who directed {}?", "What sport does {} play?", "In what country is {}?", "What is the religion of {}?",
    "Who was the father of {}?", "Who was the mother of {}?", "What genre is {}?", "What colour is {}?",
    "Who composed {}?", "Who produced {}?", "What is {} the capital of?", "Who is the author of {}?",
)  # fmt: skip


def invented(rows: int, seed: int = 0) -> list[Example]:
    """Questions of 16 relations about invented subjects; each relation has forty answers, some of two spellings."""
    draw = random.Random(seed)

    def name() -> str:
        return "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(draw.randint(2, 4))).title()

    answers = [[(name(), name()) if draw.random() < 0.3 else (name(),) for _ in range(40)] for _ in ASKED]
    subjects = [f"{name()} {name()}" for _ in range(rows)]
    return [
        Example(str(n), ASKED[n % 16].format(subject), draw.choice(answers[n % 16]), subject, relation=str(n % 16))
        for n, subject in enumerate(subjects)
    ]


def trained_tokenizer(examples: Sequence[Example], size: int) -> Any:
    """A tokenizer of bytes and pairs, small enough for a question to have as many tokens as with Llama's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<s>", "</s>"], initial_alphabet=letters, show_progress=False
    )
    backend.train_from_iterator((f"Question: {e.question}\nAnswer: {e.answers[0]}" for e in examples), trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")


@dataclass
class Bench:
    """What the parts share: the shape, the questions, and the model on its device."""

    shape: Shape
    examples: list[Example]
    loaded: LoadedModel
    folder: Path
    given: argparse.Namespace

    @classmethod
    def made(cls, shape: Shape, folder: Path, given: argparse.Namespace) -> Bench:
        from transformers import AutoModelForCausalLM, LlamaConfig

        examples = invented(max(shape.rows, 64))
        tokenizer = trained_tokenizer(examples[:2000], size=min(700, shape.config["vocab_size"]))
        torch.manual_seed(0)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = AutoModelForCausalLM.from_config(LlamaConfig(**shape.config), dtype=shape.dtype)
        model.requires_grad_(False).eval()
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        return cls(shape, examples, LoadedModel(model, tokenizer, "random weights", "seed 0"), folder, given)

    @property
    def parameters(self) -> int:
        return int(self.loaded.model.num_parameters())

    def on_gpu(self) -> bool:
        return bool(self.loaded.device.type == "cuda")

    def wait(self) -> None:
        if self.on_gpu():
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Seconds that the work takes, all of the device's included."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def bare(self, tokens: int) -> float:
        """Seconds that the backbone alone takes for so many tokens, in the best of some shapes of full batches."""
        backbone: Any = self.loaded.model.get_decoder()
        rates = []
        for rows, length in ((64, 128), (32, 256), (16, 512), (32, 512)) if self.on_gpu() else ((4, 64),):
            ids = torch.randint(300, (rows, length), device=self.loaded.device)

            def batch(ids: torch.Tensor = ids) -> None:
                with torch.inference_mode():
                    backbone(input_ids=ids, use_cache=False)

            batch()
            times = 8 if self.on_gpu() else 1
            rates.append(
                self.seconds(lambda batch=batch, times=times: [batch() for _ in range(times)]) / times / rows / length
            )
        return min(rates) * tokens


def scored(bench: Bench, estimator: Any, examples: Sequence[Example]) -> tuple[float, int]:
    """Seconds of scoring, and the tokens that were computed."""
    told: list[int] = []
    estimator.report = lambda share, tokens: told.append(tokens)
    estimator.draw(lambda: bench.examples)
    list(estimator.score(examples))  # warms up
    told.clear()
    return bench.seconds(lambda: list(estimator.score(examples))), sum(told)


def loss(bench: Bench) -> Iterator[dict[str, Any]]:
    """Answer losses, zero-shot and after four solved examples, beside the bare backbone."""
    for shots in (0, 4):
        estimator = LossEstimator(LossSettings(model="random", shots=shots), bench.loaded)
        examples = bench.examples[: bench.shape.rows]
        seconds, computed = scored(bench, estimator, examples)
        pairs = [pair for example in examples for pair in estimator.pairs(example)]
        texts = sum(len(item.ids) for item in encode(bench.loaded, pairs))
        yield {
            "what": f"loss, {shots} shots",
            "rows": len(examples),
            "rows/s": len(examples) / seconds,
            "tokens of the texts/s": texts / seconds,
            "tokens computed/s": computed / seconds,
            "share of bare": bench.bare(computed) / seconds,
            "peak GB": peak_memory(bench),
        }


def lora(bench: Bench) -> Iterator[dict[str, Any]]:
    """Training with LoRA on short questions, as PopQA's, and on ones of 512 tokens; activations kept or not."""
    few, many = bench.shape.steps
    length = 512 if bench.on_gpu() else 64
    passage = " ".join(e.question for e in bench.examples[:200])
    words = passage.split(" ")
    longer = [
        Example(e.id, " ".join(words[: length // 3]) + " " + e.question, e.answers, e.subject, relation=e.relation)
        for e in bench.examples[: 16 * many]
    ]
    trained(bench, longer, 1, MicroBatches(16))  # warms up
    for name, examples in (("short", bench.examples[: 16 * many]), ("long", longer)):
        pairs = [(DEFAULT.zero_shot(e), DEFAULT.render_completion(e.answers[0])) for e in examples]
        tokens = sum(len(item.ids) + 1 for item in encode(bench.loaded, pairs)) / len(examples)
        for way in ("kept", "kept, CUDA graphs", "computed again"):
            reset_peak(bench)
            batches = MicroBatches(16, checkpointing=way == "computed again")
            times = [trained(bench, examples, steps, batches, "graphs" in way) for steps in (few, many)]
            step = (times[1] - times[0]) / (many - few)
            yield {
                "what": f"LoRA, {name}, activations {way}",
                "tokens an example": tokens,
                "seconds a step": step,
                "tokens/s": 16 * tokens / step,
                "MFU": 4 * bench.parameters * 16 * tokens / step / PEAK,
                "peak GB": peak_memory(bench),
            }


def trained(
    bench: Bench, examples: Sequence[Example], steps: int, batches: MicroBatches, graphs: bool = False
) -> float:
    """Seconds of a training of so many steps, in a folder of its own."""
    config = FinetuneConfig(max_steps=steps, held_out=0, cuda_graphs=graphs)
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        how = Training(config, 0, Path(folder) / "checkpoints")

        def train() -> None:
            with finetuned(bench.loaded, examples, DEFAULT, how, batches=batches):
                pass

        return bench.seconds(train)


def answers(bench: Bench) -> Iterator[dict[str, Any]]:
    """Greedy answers of ten tokens, which a model of random weights never ends."""
    examples = bench.examples[: bench.shape.answers]
    four = draw_exemplars(DEFAULT, bench.examples, 4, sets=("gpu",))[0]
    for name, prompts in (
        ("0 shots", [DEFAULT.zero_shot(e) for e in examples]),
        ("4 shots", [four.prefix(e) + DEFAULT.ask(e) for e in examples]),
    ):
        greedy_answers(bench.loaded, prompts)  # warms up
        seconds = bench.seconds(lambda prompts=prompts: greedy_answers(bench.loaded, prompts))
        yield {"what": f"answers, {name}", "answers/s": len(prompts) / seconds, "peak GB": peak_memory(bench)}


def drift(bench: Bench) -> Iterator[dict[str, Any]]:
    """Losses in bfloat16 beside those of the same weights in float32; and packed beside one text at a time."""
    import copy

    examples = bench.examples[: bench.shape.known_rows]
    estimator = LossEstimator(LossSettings(model="random"), bench.loaded)
    estimator.draw(lambda: bench.examples)
    pairs = [estimator.pairs(example)[0] for example in examples]
    exact = LoadedModel(copy.deepcopy(bench.loaded.model).float(), bench.loaded.tokenizer, "random", "seed 0")
    found = {}
    for name, loaded in (("low", bench.loaded), ("float32", exact)):
        found[name] = token_means(answer_losses(loaded, pairs))
        some = pairs[: max(8, len(pairs) // 8)]
        alone = token_means([answer_losses(loaded, [pair])[0] for pair in some])
        apart = (found[name][: len(some)] - alone).abs() / alone
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        yield {
            "what": f"packed beside alone, {dtype}",
            "packs": can_pack(loaded),
            "largest relative difference": float(apart.max()),
        }
    del exact
    yield {"what": "bfloat16 beside float32, random weights"} | compared(found["low"], found["float32"])


def token_means(losses: Sequence[Any]) -> torch.Tensor:
    return torch.tensor([each.nats / each.tokens for each in losses], dtype=torch.float64)


def compared(one: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    """How far scores move, and how much of the better half with them."""
    half = len(one) // 2
    better, before = (set(values.argsort(stable=True)[:half].tolist()) for values in (one, other))
    apart = (one - other).abs()
    return {
        "mean difference, nats a token": float(apart.mean()),
        "largest difference": float(apart.max()),
        "spread of the scores": float(other.std()),
        "share of the better half that changes": 1 - len(better & before) / half,
    }


def known(bench: Bench) -> Iterator[dict[str, Any]]:
    """SliCK classes without sampling: ten sets of four solved examples."""
    estimator = KnownEstimator(KnownSettings(model="random"), bench.loaded)
    seconds, computed = scored(bench, estimator, bench.examples[: bench.shape.known_rows])
    yield {
        "what": "known, exact",
        "rows": bench.shape.known_rows,
        "rows/s": bench.shape.known_rows / seconds,
        "tokens computed/s": computed / seconds,
        "share of bare": bench.bare(computed) / seconds,
    }


def validate(bench: Bench) -> Iterator[dict[str, Any]]:
    """One arm as `curate validate` trains and asks it, a tenth of 5,000 examples and questions; then by arithmetic."""
    examples, questions = bench.examples[: bench.shape.arm], bench.examples[-bench.shape.arm :]
    untouched = bench.seconds(lambda: evaluate(bench.loaded, questions, DEFAULT))
    config = FinetuneConfig(epochs=5 if bench.on_gpu() else 1)
    asked: list[float] = []
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:

        def arm() -> None:
            with finetuned(bench.loaded, examples, DEFAULT, Training(config, 0, Path(folder) / "checkpoints")):
                asked.append(bench.seconds(lambda: evaluate(bench.loaded, questions, DEFAULT)))

        whole = bench.seconds(arm)
    yield {
        "what": f"one arm of {len(examples)} examples and questions",
        "training, s": whole - asked[0],
        "asking, s": asked[0],
        "asking the untouched model, s": untouched,
        "four arms of 5,000, minutes": (4 * whole + untouched) * 5000 / len(examples) / 60,
    }


def attention(bench: Bench) -> Iterator[dict[str, Any]]:
    """One layer's attention over packs of 512 tokens, by the mask of the tree and by other ways, and without a mask."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    gpu = bench.on_gpu()
    pairs = [(DEFAULT.zero_shot(e), DEFAULT.render_completion(e.answers[0])) for e in bench.examples]
    items = encode(bench.loaded, pairs)
    packs = make_packs(make_rows(items, range(len(items))), 0, 512 if gpu else 128, 4096)[: 16 if gpu else 2]
    length = max(map(len, packs))
    ends = torch.tensor([[*pack.ends, *[0] * (length - len(pack))] for pack in packs], device=bench.loaded.device)
    heads, width = (32, 128) if gpu else (2, 16)
    make = lambda: torch.randn(  # noqa: E731
        (len(packs), heads, length, width), device=bench.loaded.device, dtype=bench.shape.dtype
    )
    q, k, v = make(), make(), make()
    mask = tree_mask(ends, 0, bench.shape.dtype)

    def timed(name: str, work: Callable[[], Any]) -> dict[str, Any]:
        try:
            with torch.inference_mode():
                work()
                seconds = bench.seconds(lambda: [work() for _ in range(20)]) / 20
        except Exception as error:  # a kernel that does not take this: that is the result
            return {"what": f"attention, {name}", "fails": str(error).strip().splitlines()[0][:90]}
        return {"what": f"attention, {name}", "ms": 1000 * seconds, "tokens": len(packs) * length}

    yield timed("causal, no mask", lambda: sdpa(q, k, v, is_causal=True))
    yield timed("tree mask, as chosen", lambda: sdpa(q, k, v, attn_mask=mask))
    for backend in (
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.MATH,
    ):

        def forced(backend: Any = backend) -> Any:
            with sdpa_kernel(backend):
                return sdpa(q, k, v, attn_mask=mask)

        yield timed(f"tree mask, {backend.name.lower()}", forced)
    if gpu:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def sees(b: Any, h: Any, i: Any, j: Any) -> Any:
            return ((i >= j) & (i < ends[b, j])) | (i == j)

        compiled: Any = torch.compile(flex_attention)
        blocks = create_block_mask(sees, len(packs), None, length, length, device=str(bench.loaded.device))
        yield timed("tree, FlexAttention", lambda: compiled(q, k, v, block_mask=blocks))


def real(bench: Bench) -> Iterator[dict[str, Any]]:
    """A pretrained model, end to end on PopQA: scores in two precisions, halves inside relations, validation."""
    given = bench.given
    if not (given.real and given.popqa):
        yield {"what": "real model", "fails": "needs --real FOLDER and --popqa FILE"}
        return
    import pyarrow.parquet as pq

    del bench.loaded  # makes room
    work, scores = bench.folder, {}
    for dtype in ("bfloat16", "float32"):
        out = work / f"{dtype}.parquet"
        seconds = command("score", given.popqa, "--by", "loss", "--by", "known", "--model", given.real, "-o", out,
                          "--dtype", dtype, "--limit", given.limit)  # fmt: skip
        table = pq.read_table(out)
        scores[dtype] = torch.tensor([-value for value in table["score_loss"].to_pylist()], dtype=torch.float64)
        yield {"what": f"PopQA, loss and known, {dtype}", "rows": len(table), "seconds with start": seconds}
    yield {"what": "bfloat16 beside float32, real weights"} | compared(scores["bfloat16"], scores["float32"])
    splits, run = work / "splits", work / "run"
    halves = ("--top", 0.5, "--bottom", 0.5, "--random", 0.5, "--stratify-by", "relation")
    command("select", work / "float32.parquet", "--by", "loss", *halves, "--holdout", 0.2, "-o", splits)
    training = ("--max-steps", given.steps, "--learning-rate", 1e-3, "--held-out", 0, "--seeds", 1)
    seconds = command(
        "validate", splits, "--eval", splits / "holdout.parquet", "--model", given.real, *training, "-o", run
    )
    summary = json.loads((work / "run" / "summary.json").read_text())
    yield {"what": f"validate, 3 arms of {given.steps} steps", "seconds with start": seconds} | {
        arm["arm"]: arm["accuracy"] for arm in summary["arms"]
    }


def command(*arguments: object) -> float:
    """Seconds of a command of curate; what it says is shown where it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "curate", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"curate {arguments[0]} ended with {done.returncode}: {done.stderr[-600:]}")
    return time.perf_counter() - started


def peak_memory(bench: Bench) -> float | None:
    return torch.cuda.max_memory_allocated() / 1e9 if bench.on_gpu() else None


def reset_peak(bench: Bench) -> None:
    if bench.on_gpu():
        torch.cuda.reset_peak_memory_stats()


@dataclass(frozen=True)
class Part:
    """A part, the seconds it may take, and operations by arithmetic, from the shape and its parameters."""

    work: Callable[[Bench], Iterator[dict[str, Any]]]
    limit: int
    operations: Callable[[Shape, float], float]
    extra: float = 0.0
    """Seconds besides: warming up, compiling, starts of commands."""


PARTS = {
    "loss": Part(loss, 60, lambda s, p: 2 * p * TOKENS * s.rows * 2, extra=6),
    "lora": Part(lora, 120, lambda s, p: 4 * p * 16 * sum(s.steps) * (3 * TOKENS * 6 + 3.5 * 512), extra=20),
    "answers": Part(answers, 45, lambda s, p: 2 * p * s.answers * 2 * 3 * (TOKENS + 10), extra=4),
    "drift": Part(drift, 45, lambda s, p: 2 * p * TOKENS * s.known_rows * 9, extra=8),
    "known": Part(known, 45, lambda s, p: 2 * p * TOKENS * s.known_rows * 13 * 1.6, extra=3),
    "validate": Part(validate, 60, lambda s, p: 4 * p * s.arm * TOKENS * 5 * 5, extra=8),
    "attention": Part(attention, 40, lambda s, p: 0.0, extra=25),
    "real": Part(real, 100, lambda s, p: 0.0, extra=90),
}
"""The most important first. Small batches are taken to reach a sixth of what long ones do."""


class OutOfTimeError(Exception):
    """A part took longer than it may."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def plan(shape: Shape, names: Sequence[str]) -> float:
    """Prints what each part takes on an H100, by arithmetic; gives the sum of seconds."""
    c = shape.config
    layer = 4 * c["hidden_size"] ** 2 + 3 * c["hidden_size"] * c["intermediate_size"]
    parameters = c["num_hidden_layers"] * layer + 2 * c["vocab_size"] * c["hidden_size"]
    total = 20.0  # imports, weights
    print(f"{parameters / 1e9:.2f}e9 parameters; {total:.0f} s to start")
    for name in names:
        seconds = PARTS[name].operations(shape, parameters) / (PEAK * USED) + PARTS[name].extra
        total += seconds
        print(f"{name:10} {seconds:6.0f} s (at most {PARTS[name].limit})")
    print(f"{'all':10} {total:6.0f} s")
    return total


def shown(row: dict[str, Any]) -> str:
    numbers = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
    return "; ".join(text.removeprefix("what ") for text in numbers if not text.endswith(" None"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--real", help="folder of a pretrained model")
    parser.add_argument("--popqa", type=Path)
    parser.add_argument("--limit", type=int, default=3000, help="rows of PopQA")
    parser.add_argument("--steps", type=int, default=120, help="of each of its arms")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    shape, names = SHAPES[given.shape], given.only.split(",")
    if given.dry_run:
        plan(shape, names)
        return
    found: dict[str, Any] = {"shape": given.shape, "torch": torch.__version__, "device": "cpu", "parts": {}}
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.made(shape, Path(folder), given)
        found["seconds to make the model"] = time.perf_counter() - started
        for name in names:
            rows: list[dict[str, Any]] = []
            began = time.perf_counter()
            failed = ""
            try:
                with limited(PARTS[name].limit):
                    for row in PARTS[name].work(bench):
                        rows.append(row)
                        print(shown(row), flush=True)
            except OutOfTimeError:
                failed = f"not done after {PARTS[name].limit} s"
            except Exception as error:  # the other parts go on
                failed = f"{type(error).__name__}: {error}"[:700]
            if failed:
                rows.append({"what": name, "fails": failed})
                print(shown(rows[-1]), flush=True)
            found["parts"][name] = {"seconds": time.perf_counter() - began, "rows": rows}
            if given.output:  # whatever comes next, what was found is kept
                given.output.parent.mkdir(parents=True, exist_ok=True)
                given.output.write_text(json.dumps(found, indent=2) + "\n")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    print(f"{time.perf_counter() - started:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
