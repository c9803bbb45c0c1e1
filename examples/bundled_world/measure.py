"""What the pretrained model knows: greedy answers to unfinished statements, by popularity."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from people import World
from scipy.stats import spearmanr
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

NEW_TOKENS = 10
BATCH = 256


@torch.inference_mode()
def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[str]:
    """Greedy continuations, in the order of the prompts."""
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # alike lengths together: little padding
    outputs = [""] * len(prompts)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = tokenizer([prompts[i] for i in rows], padding=True, padding_side="left", return_tensors="pt")
        tokens = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
        new = tokens[:, batch["input_ids"].shape[1] :]
        for i, text in zip(rows, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            outputs[i] = text
    return outputs


def answered(outputs: list[str], answers: list[str]) -> np.ndarray:
    """Right if the answer is contained in the output, letter case aside."""
    return np.array([a.lower() in o.lower() for a, o in zip(answers, outputs, strict=True)])


def memorised(world: World, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """For every fact, (subjects, relations): does the model complete its first phrasing, where the subject opens?"""
    prompts, answers = [], []
    for i, subject in enumerate(world.subjects):
        for r, relation in enumerate(world.relations):
            before, _, _ = relation.phrasings[0].partition(" {a}")
            prompts.append(before.format(s=subject))
            answers.append(relation.answers[world.answers[i, r]])
    right = answered(greedy(model, tokenizer, prompts), answers)
    return right.reshape(len(world.subjects), len(world.relations))


def by_decile(right: np.ndarray, views: np.ndarray) -> list[float]:
    """Share of facts memorised in each tenth of the people, most viewed first."""
    order = np.argsort(-views, kind="stable")
    return [float(part.mean()) for part in np.array_split(right[order], 10)]


def prompts_of(table: pa.Table) -> tuple[list[str], list[str]]:
    """The prompts and answers of a question table, as finetuning and evaluation write them."""
    prompts = [f"Question: {question}\nAnswer:" for question in table["question"].to_pylist()]
    return prompts, [answers[0] for answers in table["answers"].to_pylist()]


def zero_shot(table: pa.Table, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Accuracy on the questions without any finetuning."""
    prompts, answers = prompts_of(table)
    return float(answered(greedy(model, tokenizer, prompts), answers).mean())


@torch.inference_mode()
def loss_and_views(table: pa.Table, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Rank correlation of minus the answer's loss per token (higher: better known) with how often it was seen."""
    scores = []
    for prompt, answer in zip(*prompts_of(table), strict=True):
        start = len(tokenizer(prompt)["input_ids"])
        ids = torch.tensor([tokenizer(f"{prompt} {answer}")["input_ids"]])
        log_probabilities = model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1)
        scores.append(log_probabilities.gather(1, ids[0, start:, None]).mean().item())
    return float(spearmanr(scores, table["views"].to_numpy()).statistic)
