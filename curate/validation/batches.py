"""What a model trains on, as tokens: examples, batches of them, and the order they come in."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from curate.errors import ModelError
from curate.lm.encode import Encoded, encode, fit
from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.records import Example
from curate.shots import solution

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label that PyTorch's cross entropy leaves out
SORTED_BATCHES = 16
"""Batches whose examples are sorted by length together: long enough a run to leave hardly any padding."""

Item = dict[str, list[int]]
"""`input_ids` and `labels` of one example."""


def training_items(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> list[Item]:
    """Token ids and labels of each example: the prompt's labels are ignored, the end-of-sequence token is learned."""
    solved = [(template.zero_shot(e), solution(template, e)) for e in examples]
    pairs = [(prompt, template.render_completion(answer)) for prompt, answer in solved if answer is not None]
    eos = loaded.tokenizer.eos_token_id
    items = []
    for item in encode(loaded, pairs):
        ids = (*item.ids[: item.end], *([] if eos is None else [eos]))
        fitted = fit(Encoded(ids, item.start, len(ids)), loaded.context)
        if fitted is not None:
            labels = [IGNORED] * fitted.start + list(fitted.ids[fitted.start :])
            items.append({"input_ids": list(fitted.ids), "labels": labels})
    if not items:
        raise ModelError(
            f"No example fits into the {loaded.context} tokens that {loaded.name} reads.",
            expected="a question and its answer within the model's context",
        )
    return items


def collate(items: Sequence[Item], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded (B, T) tensors of ids, mask and labels."""
    import torch

    width = max(len(item["input_ids"]) for item in items)

    def padded(key: str, filler: int) -> torch.Tensor:
        return torch.tensor([item[key] + [filler] * (width - len(item[key])) for item in items])

    lengths = torch.tensor([len(item["input_ids"]) for item in items])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return {
        "input_ids": padded("input_ids", pad),
        "attention_mask": mask,
        "labels": padded("labels", IGNORED),
    }


class LengthGrouped:
    """The order of one epoch: shuffled by seed and epoch, then sorted by length within runs of batches.

    With a `blank`, the index of an item without labels, the last batch is filled up with it: several processes share
    out whole batches only, and accelerate would fill theirs with examples that have been in the epoch already.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, blank: int | None = None) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.filling = [] if blank is None else [blank] * (-len(lengths) % batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer, also after a resume, so that the order is that of a run that never stopped."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + len(self.filling)

    def __iter__(self) -> Iterator[int]:
        shuffler = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        shuffler.shuffle(order)
        run = SORTED_BATCHES * self.batch_size
        batches = []
        for start in range(0, len(order), run):
            together = sorted(order[start : start + run], key=lambda i: -self.lengths[i])
            batches += [together[i : i + self.batch_size] for i in range(0, len(together), self.batch_size)]
        last = batches.pop() if len(batches[-1]) < self.batch_size else []
        shuffler.shuffle(batches)
        yield from (index for batch in [*batches, last, self.filling] for index in batch)
