"""A budget of tokens: the best known examples first, until the next one no longer fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curate.datasets.arrow import as_indices
from curate.datasets.rows import ScoredRows
from curate.errors import SelectionError
from curate.prompts import TEMPLATES, default_template
from curate.records import Example
from curate.shots import solution

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK = 10_000


def rows_within(
    budget: int, order: NDArray[np.int64], tokens_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> tuple[int, int]:
    """How many rows from the head of `order` fit a budget, and the tokens they take.

    `tokens_of` is asked for the tokens of CHUNK rows at a time, and no further than the budget reaches.
    SelectionError when not even the first row fits.
    """
    import numpy as np

    rows = spent = 0
    for start in range(0, len(order), CHUNK):
        total = spent + np.cumsum(tokens_of(order[start : start + CHUNK]))
        fits = int(np.searchsorted(total, budget, side="right"))
        if fits:
            rows, spent = start + fits, int(total[fits - 1])
        if fits < len(total):
            break
    if not rows:
        raise SelectionError(f"{budget} tokens do not hold the best known example.", expected="a larger budget")
    return rows, spent


def token_counter(data: ScoredRows, tokenizer: Any) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """Counts the tokens of rows as prompt and completion of the template that fits the data, without end-of-text."""
    import numpy as np

    from curate.lm.load import load_tokenizer

    tokenize = load_tokenizer(tokenizer) if isinstance(tokenizer, str) or hasattr(tokenizer, "joinpath") else tokenizer
    template = TEMPLATES[default_template(data.roles)]
    table = data.table_of(data.roles.fields())

    def text(example: Example) -> str:
        answer = solution(template, example)
        return template.head(example) + template.ask(example) + (template.render_completion(answer) if answer else "")

    def count(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        texts = [text(example) for example in data.examples(table.take(as_indices(rows)))]
        return np.array([len(ids) for ids in tokenize(texts)["input_ids"]], dtype=np.int64)

    return count
