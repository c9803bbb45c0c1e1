"""Tokens of prompts and answers in batches: packed so that texts share beginnings, or padded for training."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import torch

from curate.errors import ModelError
from curate.lm.model import LoadedModel, parameters_of
from curate.prompts import Template, solution
from curate.records import Example

SLICE = 512
"""Texts tokenised at a time: character offsets are bulky, and long prompts must not pile them up."""
LINE_END = -1
"""In place of a token: whatever ends an answer. It is only ever predicted, never read."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Prompt and completion tokenised as one text; the completion's tokens are `ids[start:end]`."""

    ids: tuple[int, ...]
    start: int
    end: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model must read: all before the answer's last token, which is only predicted."""
        return self.ids[: self.end - 1]

    def ended(self) -> Encoded:
        """The same with the end of the answer as one more token to predict."""
        return Encoded((*self.ids[: self.end], LINE_END), self.start, self.end + 1)


def encode(loaded: LoadedModel, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Tokenise each prompt + completion jointly and find the completion's tokens by character offsets.

    A token that reaches past the end of the prompt belongs to the completion, also when it begins before the
    join. Special tokens are left to the tokenizer, or to a chat template; none that the tokenizer adds counts as part
    of the completion.
    """
    encoded = []
    known: dict[int, int] = {}  # one Python number for each token: few-shot prompts repeat theirs a thousand times
    for some in (pairs[first : first + SLICE] for first in range(0, len(pairs), SLICE)):
        batch = loaded.tokenize(
            [prompt + completion for prompt, completion in some],
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
        )
        columns = zip(some, batch["input_ids"], batch["offset_mapping"], batch["special_tokens_mask"], strict=True)
        for (prompt, _), ids, offsets, special in columns:
            answer = [i for i, (_, end) in enumerate(offsets) if end > len(prompt) and not special[i]] or [len(ids)]
            encoded.append(Encoded(tuple(map(known.setdefault, ids, ids)), answer[0], answer[-1] + 1))
    return encoded


def fit(item: Encoded, context: int) -> Encoded | None:
    """The example cut to `context` tokens from the left of its prompt, its first token kept; None if it cannot be.

    The first token is kept because it is the beginning-of-sequence token wherever there is one.
    """
    excess = len(item.ids) - context
    if excess <= 0:
        return item
    if item.start - excess < 2:
        return None
    return Encoded(item.ids[:1] + item.ids[1 + excess :], item.start - excess, item.end - excess)


LEAST_SAVED = 512
"""Tokens that must be saved before another pass through the model is worth it."""
CACHED_PER_BUDGET = 8
"""Cached tokens a batch may stand on, per token of its budget: every row of a batch has its copy of the cache."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens that go through the model once, and the answers (indices of encoded items) that are read from them."""

    ids: tuple[int, ...]
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows, sorted by their tokens, whose first `shared` tokens are the same and computed once."""

    rows: tuple[Row, ...]
    shared: int = 0


def make_rows(items: Sequence[Encoded], indices: Sequence[int]) -> list[Row]:
    """Rows for the items at `indices`, sorted by their tokens, as few as possible.

    An input that is the beginning of another needs no row of its own: every letter of a multiple-choice
    question is read from one row, and one-token answers from the row of a longer answer to the same prompt.
    """
    inputs = {i: items[i].inputs for i in indices}
    rows: list[tuple[tuple[int, ...], list[int]]] = []
    # In sorted order, whatever begins with an input comes right after it.
    for index in sorted(indices, key=inputs.__getitem__, reverse=True):
        ids = inputs[index]
        if rows and rows[-1][0][: len(ids)] == ids:
            rows[-1][1].append(index)
        else:
            rows.append((ids, [index]))
    return [Row(ids, tuple(members)) for ids, members in reversed(rows)]


def make_groups(rows: Sequence[Row], items: Sequence[Encoded], room: int = 0, passes: int = 1) -> list[Group]:
    """Sorted rows in groups that share a beginning worth sharing, and one group of all the rest.

    With `room`, rows will come in packs of so many tokens, each of which computes a beginning once as it is: what a
    group saves is then counted by its packs and not by its rows. `passes` is how many a group costs.
    """
    groups: list[Group] = []
    loose: list[Row] = []
    least = passes * LEAST_SAVED
    for run in _runs(rows, room, least):
        # The token before an answer predicts it, so it must not be in the cached part.
        first_answer = min(items[i].start for row in run for i in row.items)
        shared = min(common(run[0].ids, run[-1].ids), first_answer - 1)
        new = sum(len(row.ids) - shared for row in run)
        if _saved(shared, len(run), new, room) >= least:
            groups.append(Group(tuple(run), shared))
        else:
            loose.extend(run)
    if loose:
        groups.append(Group(tuple(loose)))
    return groups


def _saved(shared: int, rows: int, new: int, room: int) -> int:
    """Tokens that are saved by computing `shared` tokens once for some rows of `new` tokens in all besides."""
    return shared * ((new // room if room else rows) - 1)


def common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many first tokens two rows have in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


MOST_BUDGET = 32_768
"""Tokens a batch at most: what a GPU can compute at once is less, and a longer batch only waits longer."""


def budget_of(loaded: LoadedModel, cpu: int) -> int:
    """Tokens a batch: as was said, else `cpu` on a CPU, on a GPU what fits into 60% of the memory that weights leave.

    Of all its memory, not of what is free at the time: the same card takes the same batches, and so gives the same
    numbers; where it is shared with other work, memory runs out and batches get smaller (`smaller_budget`).
    """
    if loaded.token_budget:
        return loaded.token_budget
    if loaded.device.type != "cuda":
        return cpu if loaded.device.type == "cpu" else 8192
    weights = sum(weight.nbytes for weight in loaded.model.parameters())
    total = torch.cuda.get_device_properties(loaded.device).total_memory
    per_token = bytes_per_token(loaded.model.config, loaded.model.dtype.itemsize)
    return fitting_budget(0.6 * (total - weights), per_token)


def bytes_per_token(config: Any, size: int) -> int:
    """What a token of a batch takes, its keys and values included, with numbers of `size` bytes."""
    config = config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0)  # none in Mamba and its kin, which keep no keys and values
    width = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads)
    heads = getattr(config, "num_key_value_heads", None) or heads
    kept = 2 * config.num_hidden_layers * heads * width  # keys and values of a token
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    computed = 8 * config.hidden_size + 3 * inner  # numbers alive at once while a layer is computed
    logits = 8 * config.vocab_size // 4  # float32 and its log-softmax, at a quarter of the places
    return (CACHED_PER_BUDGET * kept + computed) * size + logits


REACHED = {"reading": {"cpu": 0.6, "cuda": 0.5}, "training": {"cpu": 0.4, "cuda": 0.1}}
"""The share of the operations of a matrix product that work with a model reaches, roughly: of a GPU as measured in
benchmarks/results/gpu, where short questions leave most of it waiting in training."""


def estimated(
    model: str | LoadedModel, said: Any, tokens: float, training: bool = False, adapters: bool = True
) -> dict[str, float]:
    """Roughly the `seconds` that so many tokens take, read once each, and the `memory` in bytes; no weights are read.

    `said` are the settings with revision, dtype, device and token_budget. The device is asked how fast it is, by a
    product of matrices. Training keeps, of all weights, gradients and AdamW in float32; of `adapters` next to nothing.
    """
    parameters, config = parameters_of(model, said.revision)
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if said.device == "auto" else said.device.partition(":")[0]
    half = said.dtype == "auto" and kind == "cuda" and (adapters or not training)
    dtype = torch.bfloat16 if half else torch.float32 if said.dtype == "auto" else getattr(torch, said.dtype)
    share = REACHED["training" if training else "reading"].get(kind, 0.2)
    weights = parameters * (16 if training and not adapters else dtype.itemsize)
    batch = (said.token_budget or 4096) * bytes_per_token(config, dtype.itemsize)
    return {"seconds": 2 * parameters * tokens / (share * speed_of(kind, dtype)), "memory": weights + batch}


def speed_of(device: str, dtype: Any) -> float:
    """Operations a second of a product of matrices there."""
    size = 4096 if device == "cuda" else 768
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    times = []
    for _ in range(4):  # the first is not counted
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times[1:])


def fitting_budget(memory: float, per_token: int) -> int:
    """Tokens a batch that fit into so many bytes, a multiple of 256, at least that and at most MOST_BUDGET."""
    return max(256, min(MOST_BUDGET, int(memory / per_token) // 256 * 256))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much comes together: tokens a `pack`, whether groups are counted `by_pack`, and `texts` prepared at a time.

    The longer a pack, the more rows share a beginning, and the more attention costs. On a CPU short batches are no
    loss, and groups are counted by their rows. A GPU works on some texts while the next ones are tokenised.
    """

    pack: int
    by_pack: bool
    texts: int

    @property
    def room(self) -> int:
        """What `make_groups` takes for the room of a pack."""
        return self.pack if self.by_pack else 0


ON_CPU, ON_GPU = Sizes(128, by_pack=False, texts=2**31), Sizes(512, by_pack=True, texts=4096)


def sizes_of(loaded: LoadedModel) -> Sizes:
    """How much comes together where the model is."""
    return ON_CPU if loaded.device.type == "cpu" else ON_GPU


def rows_that_fit(longest: int, shared: int, token_budget: int) -> int:
    """How many sequences a batch may have when its longest has `longest` tokens, the `shared` ones included."""
    by_compute = token_budget // (longest - shared)
    by_cache = CACHED_PER_BUDGET * token_budget // longest
    return max(1, min(by_compute, by_cache) if shared else by_compute)


def _runs(rows: Sequence[Row], room: int, least: int) -> Iterator[Sequence[Row]]:
    """Runs of neighbours: cut where they share least, again and again, while that saves enough tokens.

    A run of n rows that share s tokens saves s × (n − 1) of them. A long run may share little (all questions of a
    template) while its parts share much (those with the same solved examples); so it is cut at its weakest links, and
    the cut is kept only if the parts together save a pass's worth more than the whole did.
    """
    links = [common(a.ids, b.ids) for a, b in pairwise(rows)]

    until = [0, *accumulate(len(row.ids) for row in rows)]

    def saved(start: int, end: int) -> int:
        shared = min(links[start : end - 1], default=0)
        return _saved(shared, end - start, until[end] - until[start] - shared * (end - start), room)

    runs = [(0, len(rows))] if rows else []
    while runs:
        start, end = runs.pop()
        weakest = min(links[start : end - 1], default=0)
        cuts = [start, *(n + 1 for n in range(start, end - 1) if links[n] == weakest), end]
        parts = list(pairwise(cuts))
        if sum(saved(*part) for part in parts) - saved(start, end) >= least:
            runs.extend(reversed(parts))
        else:
            yield rows[start:end]


@dataclass(slots=True)
class Pack:
    """Rows side by side; what neighbours begin with is there once. `shared` first tokens of all are left out.

    Of token n, `positions[n]` is the place in its text, and `ends[n]` the index after the last token that continues
    it: tokens come depth first, so token i sees token j exactly if j ≤ i < ends[j]. `paths[r]` holds the indices
    of row r's tokens from `shared` on. Two answers to one prompt:

        token       Who  wrote  Emma  ?  Jane  Austen  Miss
        index        0     1     2    3    4      5      6
        position     0     1     2    3    4      5      4
        end          7     7     7    7    6      6      7

    "Miss" sees the prompt, whose tokens end after it, and neither "Jane" nor "Austen".
    """

    shared: int = 0
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_one_text(self) -> bool:
        """Whether it is a single row, which needs no mask but the causal one."""
        return len(self.rows) == 1

    def add(self, row: Row, alike: int) -> None:
        """Put a row behind the others; its first `alike` tokens, the shared ones included, are those of the last."""
        stem = self.paths[-1][: alike - self.shared] if self.paths else []
        first, new = len(self.ids), row.ids[self.shared + len(stem) :]
        self.ids.extend(new)
        self.positions.extend(range(self.shared + len(stem), len(row.ids)))
        self.paths.append([*stem, *range(first, len(self.ids))])
        self.rows.append(row)
        self.ends.extend([0] * len(new))
        for index in self.paths[-1]:
            self.ends[index] = len(self.ids)


def make_packs(rows: Sequence[Row], shared: int, room: int, most: int) -> list[Pack]:
    """Rows, sorted by their tokens, in packs of `room` tokens, the longest pack first.

    A long row gets as much room again for rows that begin like it (the answers to one prompt), up to `most`
    tokens with the shared ones. `room` 0 packs nothing.
    """
    packs: list[Pack] = []
    alike = [0, *(common(a.ids, b.ids) for a, b in pairwise(rows))]
    for row, same in zip(rows, alike, strict=True):
        if packs and room:
            allowed = min(max(room, 2 * len(packs[-1].paths[0])), most - shared)
            if len(packs[-1]) + len(row.ids) - max(same, shared) <= allowed:
                packs[-1].add(row, same)
                continue
        packs.append(Pack(shared))
        packs[-1].add(row, shared)
    return sorted(packs, key=lambda pack: -len(pack))


# Batches of training: they are padded, and no text shares anything with another.

Item = dict[str, list[int]]
"""`input_ids` and `labels` of one example."""

IGNORED = -100  # the label that PyTorch's cross entropy leaves out
WIDTHS, PLACES = 16, 64
"""Where few shapes of batch are to come, tokens of a row and answer tokens of a batch are multiples of these."""
SORTED_BATCHES = 16
"""Batches whose examples are sorted by length together: long enough a run to leave hardly any padding."""


def training_items(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> list[Item]:
    """The items of all examples that fit into the model's context; ModelError where none does."""
    items = [item for item in items_of(loaded, examples, template) if item is not None]
    if not items:
        raise ModelError(
            f"No example fits into the {loaded.context} tokens that {loaded.name} reads.",
            expected="a question and its answer within the model's context",
        )
    return items


def items_of(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> list[Item | None]:
    """Token ids and labels of each example: the prompt's labels are ignored, the end of the answer is learned too.

    None for one that does not fit into the model's context.
    """
    solved = [(template.zero_shot(e), solution(template, e)) for e in examples]
    pairs = [(prompt, template.render_completion(answer)) for prompt, answer in solved if answer is not None]
    end = loaded.answer_end
    items: list[Item | None] = []
    for item in encode(loaded, pairs):
        ids = (*item.ids[: item.end], *([] if end is None else [end]))
        cut = fit(Encoded(ids, item.start, len(ids)), loaded.context)
        if cut is None:
            items.append(None)
            continue
        labels = [IGNORED] * cut.start + list(cut.ids[cut.start :])
        items.append({"input_ids": list(cut.ids), "labels": labels})
    return items


def collate(items: Sequence[Item], pad: int, most: int | None = None) -> dict[str, torch.Tensor]:
    """Right-padded (B, T) tensors of ids and labels; `places` (P,) of the flattened batch that predict answer tokens.

    With `most`, T and P are rounded up, T to no more than that, so that few shapes come: the places that are added
    predict what is ignored.

    There is no mask: padding is on the right, where a causal model never looks. With one, transformers would look
    whether anything is masked, and `places` would have to be found on a GPU: both wait for it in every step.
    """
    width = max(len(item["labels"]) for item in items)
    if most is not None:
        width = max(width, min(most, _rounded_up(width, WIDTHS)))

    def padded(name: str, value: int) -> torch.Tensor:
        return torch.tensor([item[name] + [value] * (width - len(item[name])) for item in items])

    labels = padded("labels", IGNORED)
    places = (following(labels) != IGNORED).nonzero()[:, 0]
    if most is not None:  # nothing follows the last place of a row
        added = _rounded_up(len(places), PLACES) - len(places)
        places = torch.nn.functional.pad(places, (0, added), value=width - 1)
    return {"input_ids": padded("input_ids", pad), "labels": labels, "places": places}


def _rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step


def following(labels: torch.Tensor) -> torch.Tensor:
    """The label that each place of the flattened batch (B × T,) predicts."""
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()


class LengthGrouped:
    """The order of one epoch: shuffled by seed and epoch, then sorted by length within runs of batches; or as it is.

    With a `blank`, the index of an item without labels, the last batch is filled up with it: several processes share
    out whole batches only, and accelerate would fill theirs with examples that have been in the epoch already.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, blank: int | None = None, shuffled: bool = True
    ) -> None:
        self.lengths = lengths
        self.shuffled = shuffled
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
        if not self.shuffled:
            yield from (*order, *self.filling)
            return
        shuffler.shuffle(order)
        run = SORTED_BATCHES * self.batch_size
        batches = []
        for start in range(0, len(order), run):
            together = sorted(order[start : start + run], key=lambda i: -self.lengths[i])
            batches += [together[i : i + self.batch_size] for i in range(0, len(together), self.batch_size)]
        last = batches.pop() if len(batches[-1]) < self.batch_size else []  # a short batch comes last, as elsewhere
        shuffler.shuffle(batches)
        yield from (index for batch in [*batches, last, self.filling] for index in batch)
