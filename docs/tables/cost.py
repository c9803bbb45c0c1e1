"""The tables of docs/cost.md: what validation costs on a GPU, by arithmetic from what one GPU was measured to do.

python docs/tables/cost.py
"""

from __future__ import annotations

from dataclasses import dataclass

RANK = 16
BATCH, TOKENS = 16, 24
"""Examples a step, and tokens an example: question and answer of PopQA in the template `qa`, rounded up."""
ACTIVATIONS = 34
"""Bytes kept of a layer for the backward pass, per token and unit of width, in bfloat16 (Korthikanti et al. 2022)."""
PEAK, TRAINING, ASKING = 989e12, 0.059, 0.2
"""bfloat16 operations a second of an H100 or H200; the share of them that LoRA reached with 16 short questions a step
(benchmarks/results/gpu), and half of what answers reached without adapters."""
CACHED = 8192
"""Tokens whose keys and values are kept at most while questions are answered."""


@dataclass(frozen=True)
class Model:
    """What of a model's shape its cost depends on."""

    name: str
    vocabulary: int
    width: int
    layers: int
    mlp: int
    heads: int
    kv_heads: int
    head: int
    tied: bool = False

    @property
    def linear(self) -> list[tuple[int, int]]:
        """(in, out) of the linear layers of one block."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        attention = [(self.width, queries), (self.width, keys), (self.width, keys), (queries, self.width)]
        return [*attention, (self.width, self.mlp), (self.width, self.mlp), (self.mlp, self.width)]

    @property
    def parameters(self) -> int:
        embeddings = self.vocabulary * self.width * (1 if self.tied else 2)
        return embeddings + self.layers * sum(i * o for i, o in self.linear)

    @property
    def adapters(self) -> int:
        return self.layers * sum(RANK * (i + o) for i, o in self.linear)

    @property
    def cache_bytes(self) -> int:
        return CACHED * self.layers * 2 * self.kv_heads * self.head * 2

    @property
    def activation_bytes(self) -> int:
        return BATCH * TOKENS * self.layers * self.width * ACTIVATIONS


MODELS = (
    Model("Qwen/Qwen3-1.7B-Base", 151936, 2048, 28, 6144, 16, 8, 128, tied=True),
    Model("Qwen/Qwen3-4B-Base", 151936, 2560, 36, 9728, 32, 8, 128, tied=True),
    Model("meta-llama/Llama-2-7b-hf", 32000, 4096, 32, 11008, 32, 32, 128),
    Model("mistralai/Mistral-7B-v0.3", 32768, 4096, 32, 14336, 32, 8, 128),
    Model("meta-llama/Llama-3.1-8B", 128256, 4096, 32, 14336, 32, 8, 128),
    Model("Qwen/Qwen3-8B-Base", 151936, 4096, 36, 12288, 32, 8, 128),
    Model("google/gemma-2-9b", 256000, 3584, 42, 14336, 16, 8, 256, tied=True),
)


def memory_row(model: Model) -> list[str]:
    """Gigabytes on one GPU: bfloat16 weights, adapters with AdamW in float32, and the larger of what comes on top."""
    weights, adapters = 2 * model.parameters, 16 * model.adapters
    lora = weights + adapters + max(model.activation_bytes, model.cache_bytes)
    quantised = 0.56 * model.layers * sum(i * o for i, o in model.linear) + 2 * (
        model.parameters - model.layers * sum(i * o for i, o in model.linear)
    )
    qlora = quantised + adapters + max(model.activation_bytes, model.cache_bytes)
    full = 16 * model.parameters + 2 * model.activation_bytes
    return [
        f"`{model.name}`",
        f"{model.parameters / 1e9:.2f}",
        f"{model.adapters / 1e6:.0f}",
        *(f"{size / 1e9:.0f}" for size in (weights, lora, qlora, full)),
    ]


def minutes(model: Model, examples: int, epochs: float, questions: int, new_tokens: int = 10) -> tuple[float, float]:
    """Minutes of one finetuning (4 operations a parameter and token) and of asking the questions (2)."""
    train = 4 * model.parameters * 0.9 * examples * epochs * TOKENS
    held_out = 2 * model.parameters * 0.1 * examples * epochs * TOKENS
    ask = 2 * model.parameters * questions * (TOKENS + new_tokens)
    return (train + held_out) / (PEAK * TRAINING) / 60, ask / (PEAK * ASKING) / 60


def time_row(model: Model) -> list[str]:
    """Hours on one H100 or H200: one finetuning with its questions, and runs of four arms."""
    train, ask = minutes(model, 5000, 5, 5000)
    once = train + ask
    run = ask + 12 * once
    hours = (run / 60, (run + 12 * train) / 60, (run + 240 * train) / 60)
    return [f"`{model.name}`", f"{train:.1f}", f"{ask:.1f}", *(f"{value:.1f}" for value in hours)]


def table(headers: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, all but the first column to the right."""
    lines = [headers, ["---", *["---:"] * (len(headers) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    headers = ["model", "parameters, 10⁹", "adapters, 10⁶", "weights, GB", "`lora`, GB", "`qlora`, GB", "`full`, GB"]
    print(table(headers, [memory_row(model) for model in MODELS]), end="\n\n")
    headers = ["model", "one finetuning, min", "5,000 answers, min", "4 arms × 3 seeds, h"]
    print(table([*headers, "`--tune quick`, h", "LoRA of `--tune paper`, h"], [time_row(model) for model in MODELS]))


if __name__ == "__main__":
    main()
